"""One call to a run at a time; and the end of runs that are open when the program ends."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator

from axsched_core.errors import OptimizationTerminated, SchedulerBusy, SchedulerClosed
from axsched_core.run import termination, threads
from axsched_core.run.engine import Engine

log = logging.getLogger("axsched")


class Guard:
    """Guards the methods of one run, as long as something holds a reference to the run.

    Without a reference, its engine is dismissed; when the program ends, it is shut down.

    Args:
        native: what is optimized. All runs of the same object together allow one call.
        engine: the run's.
    """

    def __init__(self, native: object, engine: Engine) -> None:
        self._native = native  # a reference, so that no other object gets its id
        self._lock = _locks.setdefault(id(native), _CallLock())
        self._lock.engines.add(engine)
        self._engine = engine
        _open_engines.add(engine)
        self._forgotten = weakref.finalize(self, Engine.dismiss, engine)
        self._forgotten.atexit = False  # at the end of the program `_close_all` does more

    @property
    def open(self) -> bool:
        """False after the run was closed or given up."""
        return self._forgotten.alive

    def elsewhere(self, index: int) -> bool:
        """True if a trial is in progress in another run of the same object."""
        others = (engine for engine in list(self._lock.engines) if engine is not self._engine)
        return any(index in engine.active for engine in others if not engine.loop.over)

    def check_open(self) -> None:
        """Raise `SchedulerClosed` if the run is not open any more."""
        if not self.open:
            raise SchedulerClosed("This scheduler has been closed; make another.")

    @contextlib.contextmanager
    def alone(
        self, name: str, in_order: Callable[[], BaseException] | None = None
    ) -> Iterator[None]:
        """Keep other calls out, and delay signals that end the program (see `termination.watch`).

        Raises:
            SchedulerBusy: another call is running.
        """
        self._enter(name)
        try:
            with termination.watch(in_order):
                yield
        finally:
            self._lock.release()

    def _enter(self, name: str) -> None:
        if not self._lock.acquire(blocking=False):
            raise SchedulerBusy(
                f"{name}: another call to this scheduler is on the stack (in another thread, or "
                "this is called by an observer). Only cancel() may be called now."
            )
        self._engine.cancel_wanted = False  # an earlier request was for another call

    def retire(self) -> None:
        """From here on the engine is not ended automatically: the caller ends it now."""
        self._forgotten.detach()
        _open_engines.discard(self._engine)


class _CallLock:
    """Held while a call runs, by one of the runs of the same object."""

    def __init__(self) -> None:
        lock = threading.Lock()
        self.acquire, self.release = lock.acquire, lock.release
        self.engines: weakref.WeakSet[Engine] = weakref.WeakSet()
        """Of all runs of the same object."""


_locks: weakref.WeakValueDictionary[int, _CallLock] = weakref.WeakValueDictionary()
"""By the id of the optimized object, while a guard holds it."""

_open_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    # A forked child has none of the threads: it must not wait for them when it ends.
    os.register_at_fork(after_in_child=_open_engines.clear)
termination.keep_while(lambda: any(engine.has_jobs for engine in list(_open_engines)))


@atexit.register
def _close_all() -> None:
    """A program that ends cancels its jobs, and waits while the optimizer is in the middle."""
    hard = False
    try:
        with termination.watch():
            for engine in list(_open_engines):
                try:
                    engine.shut_down()
                except Exception:
                    log.exception("A scheduler could not be closed.")
    except OptimizationTerminated:  # the signal came only now, or the time is over
        hard = True
    finally:
        termination.at_exit(hard or threads.any_alive())
