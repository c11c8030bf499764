"""Work that a Ctrl-C must not cut in two, since the run directory would then lie."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def uninterrupted(work: Callable[[], T]) -> T:
    """Do some work; a Ctrl-C that comes meanwhile is raised when it is done.

    Python raises KeyboardInterrupt in the main thread only, between any two instructions. There
    the work is done in a thread of its own.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    done: Future[T] = Future()

    def attempt() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            done.set_exception(error)

    thread = threading.Thread(target=attempt, name="axsched-journal")
    interrupted: KeyboardInterrupt | None = None
    try:
        thread.start()
    except KeyboardInterrupt as interrupt:
        if thread.ident is None:
            raise  # nothing was done
        interrupted = interrupt
    while not done.done():
        try:
            thread.join()
        except KeyboardInterrupt as interrupt:
            interrupted = interrupt
    answer = done.result()
    if interrupted is not None:
        raise interrupted
    return answer
