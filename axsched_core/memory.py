"""What the engine writes into the journal, and when; nothing where a run is not durable."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from axsched_core import journal
from axsched_core.errors import InvalidInput, RunLocked
from axsched_core.folders import DISK_FULL
from axsched_core.jobs import JobHandle
from axsched_core.lock import RunLock
from axsched_core.objectives import Chosen
from axsched_core.trials import Record

log = logging.getLogger("axsched")


class Memory:
    """The journal and the lock of one run directory.

    Lines are taken by the methods named after events, and are on disk after `flush`. Until
    `open` was called they wait in memory.
    """

    def __init__(self, *, durable: bool = True) -> None:
        self.durable = durable
        self._journal: journal.Journal | None = None
        self._lock: RunLock | None = None
        self._early: list[tuple[str, dict[str, Any]]] = []

    def open(self, run_dir: Path, header: Mapping[str, Any] | None) -> None:
        """Lock the run directory and open its journal; ``header`` is the first line of a new one.

        Raises:
            RunLocked: another living driver holds it.
            InvalidInput: it cannot be written.
        """
        lock = RunLock(run_dir)
        try:
            lock.acquire()
            try:
                opened = journal.Journal(run_dir / journal.NAME)
            except BaseException:
                _unlock(lock)  # so that one can try again
                raise
        except OSError as error:
            raise InvalidInput(
                f"The run directory {run_dir} cannot be written: {error}."
            ) from error
        self._lock, self._journal = lock, opened
        if header is not None:
            self._journal.add("run", format=journal.FORMAT, **header)
        for kind, data in self._early:
            self._journal.add(kind, **data)
        self._early.clear()

    @property
    def opened(self) -> bool:
        """True once lines reach the disk."""
        return self._journal is not None

    def flush(self) -> None:
        """Put everything on disk.

        Raises:
            RunLocked: another driver has taken the run over: this one must touch nothing more.
            InvalidInput: the disk refuses; the lines wait.
        """
        if self._journal is None:
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
            self._journal = self._lock = None
            self.durable = False
            return
        try:
            self._lock.check()
            self._journal.flush()
        except OSError as error:
            raise self._unwritable(self._journal.path, error) from error

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
        lines, lock, self._journal, self._lock = self._journal, self._lock, None, None
        if lines is None or lock is None:
            return
        try:
            lock.check()
        except (RunLocked, OSError) as error:
            lines.drop()
            log.error("%s", error)
        else:
            try:
                lines.close()
            except OSError as error:
                raise self._unwritable(lines.path, error) from error
        finally:
            _unlock(lock)

    @staticmethod
    def _unwritable(path: Path, error: OSError) -> InvalidInput:
        return InvalidInput(
            f"The journal {path} cannot be written: {error}. Free some space, then run again; "
            "nothing was started or told that is not written down."
        )

    def _add(self, event: str, /, **data: Any) -> None:
        if not self.durable:
            return
        if self._journal is None:
            self._early.append((event, data))
        else:
            self._journal.add(event, **data)

    # ---- events --------------------------------------------------------------------------------

    def snapshot(self, name: str, *, fresh: bool = False) -> None:
        """From here on, this file of the optimizer's is what lines are replayed on.

        ``fresh``: it holds another experiment, with which no line before this has to do.
        """
        if self._journal is not None:
            journal.sync_names(self._journal.path.parent)  # no line without its file
        self._add("snapshot", name=name, **({"fresh": True} if fresh else {}))

    def objective(self, chosen: Chosen) -> None:
        """What jobs evaluate from now on."""
        self._add("objective", **chosen.to_plain())

    def call(self, to_make: int) -> None:
        """``run_optimization`` begins."""
        self._add("call", to_make=to_make)

    def ended(self) -> None:
        """It has come to its end: there is nothing to be made up."""
        self._add("ended")

    def trial(self, record: Record, origin: Any, *, counted: bool) -> None:
        """A trial is there; ``counted``: towards the call's budget."""
        data: dict[str, Any] = {"i": record.index, "p": dict(record.parameters)}
        if origin is not None:
            data["o"] = origin
        if counted:
            data["counted"] = True
        self._add("trial", **data)

    def key(self, record: Record) -> None:
        """A job is about to be submitted."""
        more: dict[str, Any] = {}
        if record.ended:
            more["ended"] = [one.cause for one in record.ended]
        if record.grown is not None:
            more["grown"] = [record.grown.memory_bytes, record.grown.time_limit]
        key = record.job.request.key
        self._add("key", i=record.index, n=record.job.request.attempt, key=key, **more)

    def handle(self, record: Record, handle: JobHandle) -> None:
        """The backend has it."""
        self._add("handle", i=record.index, id=handle.backend_id, data=dict(handle.data))

    def outcome(self, record: Record) -> None:
        """How a trial has ended."""
        cause = record.cause.value if record.cause else None
        data: dict[str, Any] = {"state": record.state.value, "cause": cause}
        if record.results is not None:
            data["results"] = record.results
        if record.notes is not None:
            data["notes"] = record.notes
        self._add("outcome", i=record.index, message=record.message, **data)

    def stopping(self, record: Record) -> None:
        """Its job is about to be cancelled, while the trial stays open."""
        self._add("stopping", i=record.index)

    def opened_again(self, record: Record) -> None:
        """Its job was stopped, the trial stays open."""
        self._add("open", i=record.index)

    def anew(self) -> None:
        """What has ended so far says nothing about the objective from here on."""
        self._add("anew")


def _unlock(lock: RunLock) -> None:
    # A lock that cannot be removed is taken over from a dead driver, as soon as this one is.
    with contextlib.suppress(OSError):
        lock.release()
