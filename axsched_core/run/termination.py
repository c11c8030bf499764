"""SIGTERM and SIGHUP: the driver must end, and will be killed soon if it does not.

`docker stop`, systemd, `scancel` and a closed terminal send them. They are treated like Ctrl-C,
with a time limit. Our handler is set while one of our methods runs, and between two calls while
jobs are in progress; only in the main thread, and only in place of the default action: a handler of
the user's, or a signal that is ignored (nohup), does not change.

While a method runs, the handler only takes a note. The waiting code checks the note (`presses`,
`overdue`), and `watch` raises after a clean stop. Between two calls the handler raises at once, and
`close`, or the program's end, does the rest.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from axsched_core.errors import OptimizationTerminated
from axsched_core.run import timing

log = logging.getLogger("axsched")
Handler = signal.Handlers | Callable[[int, FrameType | None], Any]

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that tell a program to end; Windows has no SIGHUP."""


class _Note:
    """The signals that have come: one object per process."""

    def __init__(self) -> None:
        self.number = 0
        """The first signal; 0: none."""
        self.since = 0.0
        """When it came, by the monotonic clock, s."""
        self.again = False
        """Another signal came, on purpose."""
        self.raised = False
        """It was raised in the main thread."""

    def take(self, number: int) -> None:
        now = time.monotonic()
        if not self.number:
            self.number, self.since = number, now
        elif now > self.since + timing.SAME_SIGNAL:
            self.again = True

    @property
    def pending(self) -> bool:
        return self.number != 0 and not self.raised

    @property
    def age(self) -> float:
        """Seconds since it came; less than 0: nothing has come."""
        return time.monotonic() - self.since if self.number else -1.0


_note = _Note()
_on_stack = 0
"""How many of our methods run on the main thread."""
_jobs_on_the_way: Callable[[], bool] = bool


# ---- when the signals are ours -------------------------------------------------------------


def keep_while(jobs_on_the_way: Callable[[], bool]) -> None:
    """Set when the signals are ours between two calls."""
    global _jobs_on_the_way
    _jobs_on_the_way = jobs_on_the_way


@contextlib.contextmanager
def watch(in_order: Callable[[], BaseException] | None = None) -> Iterator[None]:
    """One of our methods runs: a signal that comes during it is raised at its end.

    Args:
        in_order: stops cleanly and returns the exception to raise; None: there is nothing to do.
    """
    global _on_stack
    if not _in_main_thread():
        yield
        return
    failure: BaseException | None = None
    _on_stack += 1
    settle()
    try:
        try:
            yield
        except BaseException as error:
            if not _note.pending:
                raise
            log.error("%s: %s", type(error).__name__, error)  # no other code will report it
            failure = error
        if _note.pending and in_order is not None:
            raise in_order() from failure
    finally:
        _on_stack -= 1
        settle()
    if _note.pending:
        raise ending() from failure


def settle() -> None:
    """Set our handlers exactly while they are needed, if this is the main thread."""
    if not _in_main_thread():
        return
    if _on_stack or _jobs_on_the_way():
        _replace(signal.SIG_DFL, _handle)
    else:
        _replace(_handle, signal.SIG_DFL)


def _replace(old: Handler, new: Handler) -> None:
    for number in ENDING:
        if signal.getsignal(number) is old:
            with contextlib.suppress(ValueError):  # an interpreter within another has no signals
                signal.signal(number, new)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _handle(number: int, _frame: FrameType | None) -> None:
    # The signal may come at any point, even inside a line of the log: so nothing is logged here.
    if not (_on_stack or _jobs_on_the_way()):  # the scheduler and its jobs are gone
        _replace(_handle, signal.SIG_DFL)
        signal.raise_signal(number)
        return
    _note.take(number)
    if not _on_stack:
        raise ending()


# A child that the driver forks (a multiprocessing.Pool) is not a driver: our handler would only
# take notes there, and a parent that ends it with SIGTERM would wait forever. A signal during the
# fork waits.

_masks = threading.local()


def _before_fork() -> None:
    ours = [number for number in ENDING if signal.getsignal(number) is _handle]
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, ours)


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _in_child() -> None:
    global _on_stack
    _on_stack = 0
    _forget()
    _replace(_handle, signal.SIG_DFL)
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)


# ---- what has come -------------------------------------------------------------------------


def presses() -> int:
    """The number of Ctrl-C that it counts as: the second does not wait for the jobs to end."""
    if not _note.number:
        return 0
    return 2 if _note.again or _note.age > timing.TERMINATION_GRACE else 1


def overdue(slack: float = 0.0) -> bool:
    """True when it is too late to wait even for the optimizer.

    Args:
        slack: seconds that it may take longer.
    """
    return _note.age > timing.TERMINATION_LIMIT + slack


def name() -> str:
    """The signal's name; "" if none has come."""
    return signal.Signals(_note.number).name if _note.number else ""


def ending(words: str = "") -> OptimizationTerminated:
    """The exception to raise now, which ends the program.

    Args:
        words: what happened to the run; logged, because the interpreter does not show the
            exception.
    """
    if words:
        log.warning("%s", words)
    if _in_main_thread():
        _note.raised = True
    return OptimizationTerminated(_note.number, words or f"The driver was told to end: {name()}.")


def go_on() -> None:
    """A call that makes trials or jobs begins: the program has caught the exception and
    continues."""
    if _note.raised:
        _forget()


def _forget() -> None:
    global _note
    _note = _Note()


# ---- the end of the program ----------------------------------------------------------------


def at_exit(hard: bool) -> None:
    """Our last action before the program ends.

    Args:
        hard: end the program here. Ax's code in a running thread may crash an interpreter that
            shuts down, and only this sets the exit status of a program that got the signal only
            now.
    """
    if _note.number and hard:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
                if stream is not None:
                    stream.flush()
        os._exit(128 + _note.number)
