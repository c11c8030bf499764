"""Each fact is recorded once: in the journal, for the observers, and on the optimizer's trial.

No other code of a run adds lines to the journal, sends events, or decides the marks of the
optimizer's trials. The rest of the engine changes a `Record` and calls the method that is named
after the fact.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from axsched_core import events, plain
from axsched_core.events import Event
from axsched_core.jobs import Cause, JobState, JobStatus, Report
from axsched_core.journal import lines, replay
from axsched_core.journal.writer import Writer
from axsched_core.objectives.results import NOTES
from axsched_core.objectives.spec import ObjectiveSpec
from axsched_core.run.records import Record, check_legal
from axsched_core.run.usage import Usage
from axsched_core.trials import TrialState

REASON_PAUSE = 600.0
"""The longest time in seconds between two lines that say why one job waits; the first come
sooner."""
WORDS, NAME = 1000, 255
"""The limit of characters of a message, and of a host's name, in a line: jobs' machines write
them."""


class Recorder:
    """Records the facts of one run.

    Args:
        writer: gets the lines of the journal. The caller decides when they go to disk
            (`Writer.flush`).
        send: gets the events for observers.
    """

    def __init__(self, writer: Writer, send: Callable[[Event], None]) -> None:
        self.writer = writer
        self._send = send
        self._optimized: Any = None
        """The description of what is optimized, as in the journal."""
        self._marks: dict[int, dict[str, Any]] = {}
        self.usage = Usage()
        """When jobs have run."""
        self._ended = False
        """True if no call has begun since the last one was said to have ended."""

    # ---- the run -------------------------------------------------------------------------------

    def begin(self, run_dir: Path, header: Mapping[str, Any]) -> None:
        """The run has a directory, and now a journal; ``header`` is its first line.

        Raises:
            RunLocked: another living driver holds the directory.
            InvalidInput: it cannot be written.
        """
        self.writer.open(run_dir, header)
        self._optimized = plain.as_written(header.get("optimized"))

    def go_on(self, found: replay.ReplayedRun) -> None:
        """Continue the journal of an earlier driver."""
        self._optimized = found.optimized
        if found.place != (here := str(self.writer.run_dir)):
            self.writer.add("place", place=here)

    def snapshot(self, name: str, *, fresh: bool = False) -> None:
        """From here on, lines are replayed on this file of the optimizer.

        ``fresh``: it holds another experiment, unrelated to all lines before this one.
        """
        if (run_dir := self.writer.run_dir) is not None:
            lines.sync_names(run_dir)  # the file must be there before its line
        self.writer.add("snapshot", name=name, **({"fresh": True} if fresh else {}))

    def objective(self, chosen: ObjectiveSpec) -> None:
        """Jobs evaluate this from now on."""
        self.writer.add("objective", **chosen.to_plain())

    def optimized(self, described: Mapping[str, Any]) -> None:
        """What is optimized (`Optimizer.describe`); written if it differs from the last time."""
        if (written := plain.as_written(described)) != self._optimized:
            self._optimized = written
            self.writer.add("optimized", **written)

    def call_begun(self, to_make: int, timeout: float | None = None) -> None:
        """A call should make ``to_make`` trials; ``timeout``: seconds that it may take."""
        limit = {} if timeout is None else {"timeout": timeout}
        self._ended = False
        self.writer.add("call", to_make=to_make, host=socket.gethostname(), **limit)

    def call_ended(self) -> None:
        """The call has ended: no trials are missing."""
        if not self._ended:
            self._ended = True
            self.writer.add("ended")

    def run_started(self, trials: int) -> None:
        """Tell observers how many trials the call will complete."""
        self._send(events.RunStarted(trials=trials))

    def run_ended(self) -> None:
        """A call that waits for trials has ended."""
        self._send(events.RunEnded())

    def say(self, message: str) -> None:
        """Show this line to the user."""
        self._send(events.Message(message=message))

    def anew(self) -> None:
        """From here on, the trials that have ended say nothing about the objective."""
        self.writer.add("anew")

    # ---- a trial -------------------------------------------------------------------------------

    def trial_made(self, record: Record, origin: Any, *, counted: bool) -> None:
        """A trial was made.

        Args:
            record: the trial.
            origin: the data that the optimizer needs to make it again; None: the user gave it.
            counted: True: it counts for the call's budget. Observers are told only about these.
        """
        check_legal(record)
        data: dict[str, Any] = {"i": record.index}
        if counted:
            data["counted"] = True
        if record.method:
            data["m"] = record.method
        data["p"] = dict(record.parameters)
        if origin is not None:
            data["o"] = origin  # right behind "p", and last: `view` does not read it
        self.writer.add("trial", **data)
        if counted:
            parameters = dict(record.parameters)
            self._send(events.TrialCreated(trial_index=record.index, parameters=parameters))

    def past_data(self, records: Sequence[Record]) -> None:
        """Trials were made from past data. One line has all of them: a torn one has none."""
        trials = []
        for record in records:
            check_legal(record)
            one = {"i": record.index, "p": dict(record.parameters), "message": record.message}
            trials.append({**one, "results": record.results, **_given({"notes": record.notes})})
            if record.notes is not None:
                self._marks[record.index] = self.mark(record)
        self.writer.add("past", trials=trials)

    def notes_taken(self, record: Record) -> None:
        """A result has notes; the journal gets them with the outcome."""
        check_legal(record)
        self._marks[record.index] = self.mark(record)

    def trial_decided(self, record: Record) -> None:
        """A trial's outcome is known; the optimizer must still be told."""
        check_legal(record)
        cause = record.cause.value if record.cause else None
        data: dict[str, Any] = {"state": record.state.value, "cause": cause}
        if record.results is not None:
            data["results"] = record.results
        if record.notes is not None:
            data["notes"] = record.notes
        self.writer.add("outcome", i=record.index, message=record.message, **data)

    def trial_reopened(self, record: Record) -> None:
        """A trial has no job any more and stays open."""
        check_legal(record)
        self._marks[record.index] = {**self.mark(record), "interrupted": True}
        self.writer.add("open", i=record.index)
        self._send(events.TrialReopened(trial_index=record.index))

    def trial_retired(self, record: Record) -> None:
        """A trial is over, and the optimizer knows."""
        check_legal(record)
        if record.given:
            return
        self._send(
            events.TrialEnded(
                trial_index=record.index,
                state=record.state,
                cause=record.cause,
                message=record.message,
                results=record.results,
                notes=record.notes,
            )
        )

    # ---- a job ---------------------------------------------------------------------------------

    def job_prepared(self, record: Record) -> None:
        """A job is about to be submitted for the first time."""
        check_legal(record)
        more: dict[str, Any] = {}
        if record.ended:
            more["ended"] = [one.cause for one in record.ended]
        if record.grown is not None:
            more["grown"] = [record.grown.memory_bytes, record.grown.time_limit]
        if record.avoid:
            more["avoid"] = list(record.avoid)
        job = record.job
        key, lane = job.request.key, job.lane.name
        self.writer.add("key", **_attempt(record), key=key, lane=lane, **more)

    def job_accepted(self, record: Record) -> None:
        """The backend has the job, and `Attempt.handle` is its handle."""
        check_legal(record)
        handle = record.job.handle
        assert handle is not None
        self.writer.add("handle", i=record.index, id=handle.backend_id, data=dict(handle.data))
        self._marks[record.index] = self.mark(record)
        self._send(events.JobSubmitted(**_about(record)))

    def job_found_again(self, record: Record) -> None:
        """A resumed run knows the job of an earlier driver, and its handle."""
        check_legal(record)
        self._send(events.JobSubmitted(**_about(record)))

    def job_refused_for_now(self, record: Record, words: str, now: float) -> None:
        """The backend has refused the job; it is submitted again later."""
        self._waits(record, words, "", now)
        self._send(events.JobWaiting(**_about(record), message=words))

    def job_queued(self, record: Record, status: JobStatus, now: float) -> None:
        """A poll says that the job waits in the backend's queue, and usually why."""
        if self._waits(record, status.message, status.remedy, now):
            about = _about(record)
            self._send(events.JobWaiting(**about, message=status.message, remedy=status.remedy))

    def _waits(self, record: Record, words: str, remedy: str, now: float) -> bool:
        """Write down why a job waits, if the reason has changed; True if it was written.

        Some backends change the text at every poll (a place in the queue), so not every change is
        written.
        """
        check_legal(record)
        job = record.job
        if words == job.waits_for or (job.waits_for is not None and now < job.next_reason):
            return False
        job.waits_for, job.reasons = words, job.reasons + 1
        job.next_reason = now + min(REASON_PAUSE, 2.0 ** min(job.reasons, 60))
        more = {"remedy": remedy[:WORDS]} if remedy else {}
        self.writer.add("waiting", **_attempt(record), message=words[:WORDS], **more)
        return True

    def job_started(self, record: Record, status: JobStatus) -> None:
        """The backend says that the job runs."""
        self._has_run(record, status)
        self._send(events.JobStarted(**_about(record), message=status.message))

    def job_has_run(self, record: Record, status: JobStatus) -> None:
        """The job has ended without an error. Written if no poll has seen it run."""
        if record.job.waits_for is not None:
            self._has_run(record, status)

    def _has_run(self, record: Record, status: JobStatus) -> None:
        check_legal(record)
        record.job.waits_for = None
        data = {"start": status.started_at, "host": status.host[:NAME]}
        self.writer.add("running", **_attempt(record), **_given(data))

    def job_requeued(self, record: Record, status: JobStatus) -> None:
        """The job ran, and waits in the backend's queue again; `job_queued` has written why."""
        check_legal(record)
        self._send(events.JobRequeued(**_about(record), message=status.message))

    def job_withdrawn(self, record: Record) -> None:
        """The backend never had the job, and will not get it: it was no attempt."""
        check_legal(record)
        record.job.over = True
        self.writer.add("withdrawn", **_attempt(record))

    def reported(self, record: Record, reports: Sequence[Report]) -> None:
        """A running job has reported intermediate results. The journal gets fewer of them."""
        check_legal(record)
        progress = record.job.progress
        for report in reports:
            if report.step > progress.journalled and progress.in_journal.takes():
                progress.journalled = report.step
                found = {
                    name: mean if sem is None else (mean, sem)
                    for name, (mean, sem) in report.metrics.items()
                }
                self.writer.add("progress", **_attempt(record), step=report.step, m=found)
            about = _about(record)
            self._send(events.IntermediateResult(**about, step=report.step, results=report.metrics))

    def job_stopped_early(self, record: Record) -> None:
        """The job is about to be cancelled because its results promise nothing. Written once for
        each job."""
        check_legal(record)
        if not record.job.stopping:
            record.job.stopping = True
            self.writer.add("early", i=record.index, why=record.job.stop_reason[:WORDS])

    def job_stopping(self, record: Record) -> None:
        """The job is about to be cancelled, while the trial stays open. Written once for each
        job."""
        check_legal(record)
        if not record.job.stopping:
            record.job.stopping = True
            self.writer.add("stopping", i=record.index)

    def attempt_ended(
        self,
        record: Record,
        state: JobState | TrialState,
        cause: Cause | None,
        message: str,
        *,
        again: bool = False,
    ) -> None:
        """The last job is over, and nothing more will follow from it. Recorded once for each job.

        Args:
            record: the trial.
            state: how the job has ended, after its result was checked.
            cause: why.
            message: the same as text.
            again: True: the attempt has failed, and the trial gets another job.
        """
        job = record.latest
        if job is None or job.over:
            return
        job.over = True
        check_legal(record)
        status = job.status
        if status.started_at is not None and status.ended_at is not None:
            self.usage.add(status.started_at, status.ended_at)
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
        self.writer.add("attempt", **_attempt(record), state=state.value, **_given(data))
        if again:
            self._send(events.JobRetried(**_about(record), cause=cause, message=message))

    # ---- the backend ---------------------------------------------------------------------------

    def backend_trouble(self, runner: str, hook: str, words: str) -> None:
        """A call to a runner has failed; it is repeated later."""
        self._send(events.BackendTrouble(runner=runner, hook=hook, message=words))

    def backend_recovered(self, runner: str, hook: str) -> None:
        """A hook works again after it failed."""
        self._send(events.BackendRecovered(runner=runner, hook=hook))

    # ---- the optimizer's trials ----------------------------------------------------------------

    def mark(self, record: Record) -> dict[str, Any]:
        """The data about the job for the optimizer's trial."""
        job = record.latest
        notes = {} if record.notes is None else {NOTES: record.notes}
        if job is None:
            return notes
        return {
            **notes,
            "key": job.request.key,
            "runner": job.lane.name,
            "backend_id": job.handle.backend_id if job.handle else "",
            "folder": str(job.request.folder),
        }

    @property
    def marks(self) -> dict[int, dict[str, Any]]:
        """The marks that the optimizer does not have yet, by trial."""
        return dict(self._marks)

    def marks_taken(self, marks: Mapping[int, dict[str, Any]]) -> None:
        """The optimizer has taken these marks; newer ones of the same trials still wait."""
        for index, mark in marks.items():
            if self._marks.get(index) is mark:
                del self._marks[index]

    def forget_marks(self) -> None:
        """The marks that wait are for an optimizer that was replaced."""
        self._marks.clear()


def _attempt(record: Record) -> dict[str, Any]:
    return {"i": record.index, "n": record.job.request.attempt}


def _about(record: Record) -> dict[str, Any]:
    return {"trial_index": record.index, "key": record.job.request.key}


def _given(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data without unknown values."""
    return {name: value for name, value in data.items() if value is not None and value != ""}
