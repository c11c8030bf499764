"""One thread that does what it is asked to, one thing after another."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from axsched_core.run import termination, timing

T = TypeVar("T")


_actors: weakref.WeakSet[Actor] = weakref.WeakSet()


class Actor:
    """A thread with a letter box; only this thread uses the things that it owns.

    The thread is a daemon, so that it never keeps a program from ending while it is idle. The owner
    of an actor must make sure that it is idle when the interpreter ends (`rest`).
    """

    def __init__(self, name: str) -> None:
        self._box: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._box = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()
        _actors.add(self)

    def post(self, work: Callable[[], T]) -> Future[T]:
        """Run ``work`` after everything that was posted before."""
        future: Future[T] = Future()
        self._box.put((future, work))
        return future

    def call(self, work: Callable[[], T]) -> T:
        """Run ``work`` and wait. Ctrl-C takes effect when the current work is over."""
        return patiently(self.post(work))

    def dismiss(self) -> None:
        """Let the thread end after the posted work; does not wait."""
        self._box.put(None)

    def rest(self, timeout: float | None = None) -> bool:
        """Let the thread end after the posted work; True if it has ended."""
        self.dismiss()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """False once its thread has ended."""
        return self._thread.is_alive()

    def _main(self) -> None:
        while (letter := self._box.get()) is not None:
            future, work = letter
            try:
                answer = work()
            except BaseException as error:  # noqa: BLE001 - it is the caller's, in its thread
                future.set_exception(error)
            else:
                future.set_result(answer)
            del letter, future, work


def any_alive() -> bool:
    """True if the thread of an actor has not ended."""
    return any(actor.alive for actor in list(_actors))


def patiently(future: Future[T]) -> T:
    """Wait for a future; a Ctrl-C during the wait is raised when it is done.

    Raises:
        OptimizationTerminated: it is not done, and the program will be killed soon.
    """
    interrupted: KeyboardInterrupt | None = None
    while not future.done():
        try:
            wait((future,), timing.CTRL_C_LAG)
            if termination.overdue(timing.CTRL_C_LAG) and not future.done():
                raise termination.ending()
        except KeyboardInterrupt as interrupt:
            interrupted = interrupt
    answer = future.result()  # outside: the result may be a Ctrl-C
    if interrupted is not None:
        raise interrupted
    return answer
