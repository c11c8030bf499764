"""What the engine writes into the journal, and when; nothing where a run is not durable."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from axsched_core import plain
from axsched_core.errors import InvalidInput, RunLocked
from axsched_core.folders import DISK_FULL
from axsched_core.jobs import Cause, JobHandle, JobState, JobStatus
from axsched_core.journal import lines, replay
from axsched_core.journal.lock import RunLock
from axsched_core.objectives.spec import ObjectiveSpec
from axsched_core.run.records import Record
from axsched_core.trials import TrialState

log = logging.getLogger("axsched")

SHOWN_WITHIN = 1.0
"""Seconds within which a line of the journal is on disk although nothing depends on it."""
REASON_PAUSE = 600.0
"""The most seconds between two lines that say why one job waits; the first ones come sooner."""
WORDS, NAME = 1000, 255
"""Characters of a message, and of a host's name, that a line takes: jobs' machines write them."""


class Recorder:
    """The journal and the lock of one run directory.

    Lines are taken by the methods named after events, and are on disk after `flush`. Until
    `open` was called they wait in memory.
    """

    def __init__(self, *, durable: bool = True) -> None:
        self.durable = durable
        self._journal: lines.Journal | None = None
        self._lock: RunLock | None = None
        self._early: list[tuple[str, dict[str, Any]]] = []
        self._optimized: Any = None
        """What the journal says is optimized."""
        self._due: float | None = None

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
                opened = lines.Journal(run_dir / lines.NAME)
            except BaseException:
                _unlock(lock)  # so that one can try again
                raise
        except OSError as error:
            raise InvalidInput(
                f"The run directory {run_dir} cannot be written: {error}."
            ) from error
        self._lock, self._journal = lock, opened
        if header is not None:
            self._optimized = plain.as_written(header.get("optimized"))
            self._journal.add("run", format=lines.FORMAT, t=_now(), **header)
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
            raise self._unwritable(self._journal.path, error) from error
        self._due = None

    @property
    def due(self) -> float | None:
        """When `show` has something to do (`time.monotonic` seconds); None: nothing waits."""
        return self._due

    def show(self, now: float) -> None:
        """Flush lines that have waited for a while, so that who reads the journal sees them.

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
        data = {"t": _now(), **data}
        if self._journal is None:
            self._early.append((event, data))
            return
        self._journal.add(event, **data)
        if self._due is None:
            self._due = time.monotonic() + SHOWN_WITHIN

    # ---- events --------------------------------------------------------------------------------

    def snapshot(self, name: str, *, fresh: bool = False) -> None:
        """From here on, this file of the optimizer's is what lines are replayed on.

        ``fresh``: it holds another experiment, with which no line before this has to do.
        """
        if self._journal is not None:
            lines.sync_names(self._journal.path.parent)  # no line without its file
        self._add("snapshot", name=name, **({"fresh": True} if fresh else {}))

    def objective(self, chosen: ObjectiveSpec) -> None:
        """What jobs evaluate from now on."""
        self._add("objective", **chosen.to_plain())

    def optimized(self, described: Mapping[str, Any]) -> None:
        """What is optimized (`Optimizer.describe`); written where it is not what was written."""
        if (written := plain.as_written(described)) != self._optimized:
            self._optimized = written
            self._add("optimized", **written)

    def goes_on(self, found: replay.ReplayedRun) -> None:
        """Take up what a driver before this one has written."""
        self._optimized = found.optimized
        assert self._journal is not None
        here = str(self._journal.path.parent)
        if found.place != here:
            self._add("place", place=here)

    def call(self, to_make: int, timeout: float | None = None) -> None:
        """``run_optimization`` begins; ``timeout``: seconds that it may take."""
        limit = {} if timeout is None else {"timeout": timeout}
        self._add("call", to_make=to_make, host=socket.gethostname(), **limit)

    def ended(self) -> None:
        """It has come to its end: there is nothing to be made up."""
        self._add("ended")

    def trial(self, record: Record, origin: Any, *, counted: bool) -> None:
        """A trial is there; ``counted``: towards the call's budget."""
        data: dict[str, Any] = {"i": record.index}
        if counted:
            data["counted"] = True
        data["p"] = dict(record.parameters)
        if origin is not None:
            data["o"] = origin  # right behind "p", and last: `view` does not read it
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

    def waiting(self, record: Record, status: JobStatus, now: float) -> None:
        """Its job waits in the backend's queue: why, where that has changed.

        Some backends change their words at every poll (a place in the queue), so not each is
        written.
        """
        job = record.job
        if status.message == job.waits_for:
            return
        if job.waits_for is not None and now < job.next_reason:
            return
        job.waits_for, job.reasons = status.message, job.reasons + 1
        job.next_reason = now + min(REASON_PAUSE, 2.0 ** min(job.reasons, 60))
        self._add("waiting", **_attempt(record), message=status.message[:WORDS])

    def running(self, record: Record, status: JobStatus) -> None:
        """The backend says that its job runs."""
        record.job.waits_for = None
        data = {"start": status.started_at, "host": status.host[:NAME]}
        self._add("running", **_attempt(record), **_given(data))

    def attempt(
        self,
        record: Record,
        state: JobState | TrialState,
        cause: Cause | None,
        message: str,
        *,
        again: bool = False,
    ) -> None:
        """Its last job is over, and nothing more is to come of it. Written once a job.

        Args:
            record: the trial.
            state: how the job has ended, once its result was looked at.
            cause: why.
            message: the same in words.
            again: True: the trial is to have another job.
        """
        job = record.latest
        if job is None or job.over:
            return
        job.over = True
        status = job.status
        data: dict[str, Any] = {
            "cause": cause.value if cause else None,
            "message": message[:WORDS],
            "exit": status.exit_code,
            "signal": status.signal,
            "word": status.backend_state[:WORDS],
            "start": status.started_at,
            "end": status.ended_at,
            "host": status.host[:NAME],
            "rss": status.max_rss_bytes,
            "again": again or None,
        }
        self._add("attempt", **_attempt(record), state=state.value, **_given(data))

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


def _attempt(record: Record) -> dict[str, Any]:
    return {"i": record.index, "n": record.job.request.attempt}


def _given(data: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not known."""
    return {name: value for name, value in data.items() if value is not None and value != ""}


def _now() -> float:
    return round(time.time(), 3)


def _unlock(lock: RunLock) -> None:
    # A lock that cannot be removed is taken over from a dead driver, as soon as this one is.
    with contextlib.suppress(OSError):
        lock.release()
