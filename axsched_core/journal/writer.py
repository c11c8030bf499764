"""Writes a run's journal, under the run directory's lock. What the lines say: `run.recorder`."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from axsched_core.errors import InvalidInput, RunLocked, sentence
from axsched_core.folders import DISK_FULL
from axsched_core.journal import lines
from axsched_core.journal.lock import RunLock
from axsched_core.journal.uninterrupted import uninterrupted

log = logging.getLogger("axsched")

SHOWN_WITHIN = 1.0
"""Seconds within which a line of the journal is on disk although nothing depends on it."""


class Writer:
    """The journal and the lock of one run directory.

    Lines are taken by `add`, and are on disk after `flush`. Until `open` was called they wait in
    memory.

    Args:
        durable: False: there is no journal; lines are dropped.
    """

    def __init__(self, *, durable: bool = True) -> None:
        self.durable = durable
        self._journal: lines.Journal | None = None
        self._lock: RunLock | None = None
        self._early: list[tuple[str, dict[str, Any]]] = []
        self._due: float | None = None

    def open(self, run_dir: Path, header: Mapping[str, Any] | None) -> None:
        """Lock the run directory and open its journal; ``header`` is the first line of a new one.

        Raises:
            RunLocked: another living driver holds it.
            InvalidInput: it cannot be written.
        """
        uninterrupted(lambda: self._open(run_dir, header))

    def _open(self, run_dir: Path, header: Mapping[str, Any] | None) -> None:
        lock = RunLock(run_dir)
        try:
            lock.acquire()
            try:
                opened = lines.Journal(run_dir / lines.NAME)
            except BaseException:
                _unlock(lock)  # so that one can try again
                raise
        except OSError as error:
            raise InvalidInput(
                f"The run directory {run_dir} cannot be written: {sentence(error)}"
            ) from error
        self._lock, self._journal = lock, opened
        if header is not None:
            self._journal.add("run", format=lines.FORMAT, t=_now(), **header)
        for kind, data in self._early:
            self._journal.add(kind, **data)
        self._early.clear()

    @property
    def opened(self) -> bool:
        """True once lines reach the disk."""
        return self._journal is not None

    @property
    def run_dir(self) -> Path | None:
        """The run directory; None while no journal is open."""
        return self._journal.path.parent if self._journal is not None else None

    def add(self, kind: str, /, **data: Any) -> None:
        """Take a line of this kind; see `lines` for the kinds and their fields."""
        if not self.durable:
            return
        data = {"t": _now(), **data}
        if self._journal is None:
            self._early.append((kind, data))
            return
        self._journal.add(kind, **data)
        if self._due is None:
            self._due = time.monotonic() + SHOWN_WITHIN

    def flush(self) -> None:
        """Put everything on disk.

        Raises:
            RunLocked: another driver has taken the run over: this one must touch nothing more.
            InvalidInput: the disk refuses; the lines wait.
        """
        uninterrupted(self._flush)

    def _flush(self) -> None:
        if self._journal is None:
            self._due = None
            return
        assert self._lock is not None
        if not self._journal.path.parent.exists():
            log.error(
                "The run directory %s was removed: the run goes on, but a driver that dies now "
                "loses it.",
                self._journal.path.parent,
            )
            self._journal.drop()
            _unlock(self._lock)
            self._journal = self._lock = self._due = None
            self.durable = False
            return
        try:
            self._lock.check()
            self._journal.flush()
        except OSError as error:
            raise unwritable(self._journal.path, error) from error
        self._due = None

    @property
    def due(self) -> float | None:
        """When `show` has something to do (`time.monotonic` seconds); None: nothing waits."""
        return self._due

    def show(self, now: float) -> None:
        """Flush lines that have waited for a while, so that readers of the journal see them.

        Nothing depends on these: where the disk refuses, they wait on.

        Raises:
            RunLocked: another driver has taken the run over.
        """
        if self._due is None or now < self._due:
            return
        try:
            self.flush()
        except InvalidInput:
            # What must be on disk says so at its own flush.
            self._due = now + SHOWN_WITHIN

    def flush_before_stopping(self) -> None:
        """As `flush`, before jobs are stopped: that is done also where the disk is full.

        Raises:
            RunLocked: another driver has taken the run over.
            InvalidInput: nobody can say whether one has.
        """
        try:
            self.flush()
        except InvalidInput as error:
            if getattr(error.__cause__, "errno", None) not in DISK_FULL:
                raise
            log.warning("%s Jobs are stopped all the same.", error)

    def close(self) -> None:
        """Flush, close, and unlock; where another driver has taken over, touch nothing.

        Raises:
            InvalidInput: the disk refuses the last lines; all is closed.
        """
        uninterrupted(self._close)

    def _close(self) -> None:
        journal, lock, self._journal, self._lock = self._journal, self._lock, None, None
        if journal is None or lock is None:
            return
        try:
            lock.check()
        except (RunLocked, OSError) as error:
            journal.drop()
            log.error("%s", error)
        else:
            try:
                journal.close()
            except OSError as error:
                raise unwritable(journal.path, error) from error
        finally:
            _unlock(lock)


def unwritable(path: Path, error: OSError) -> InvalidInput:
    """What is raised where the journal cannot be written."""
    return InvalidInput(
        f"The journal {path} cannot be written: {sentence(error)} Free some space, then run again; "
        "nothing was started or told that is not written down."
    )


def _now() -> float:
    return round(time.time(), 3)


def _unlock(lock: RunLock) -> None:
    # A lock that cannot be removed is taken over from a dead driver, as soon as this one is.
    with contextlib.suppress(OSError):
        lock.release()
