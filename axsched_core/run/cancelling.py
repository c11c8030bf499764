"""Stopping jobs: which ones, why, and how much time the backend has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from axsched_core.jobs import CancelOutcome
from axsched_core.run import time_limit, timing
from axsched_core.run.active import Active
from axsched_core.run.lane import Lane
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Attempt, Purpose, Record, Stage, handles_of
from axsched_core.run.settling import Settler


class Canceller:
    """Cancels jobs, and gives up those that do not end.

    Args:
        interval: seconds; the usual pause between two polls.
        lanes: the run's runners.
        recorder: records what has happened.
        active: the trials in progress.
        settler: settles trials with jobs that do not end.
    """

    def __init__(
        self,
        interval: float,
        lanes: Sequence[Lane],
        recorder: Recorder,
        active: Active,
        settler: Settler,
    ) -> None:
        self._interval, self._lanes, self._recorder = interval, lanes, recorder
        self._active, self._settler = active, settler

    def stop(self, record: Record, purpose: Purpose) -> None:
        """Cancel a trial's job at the next `advance`; if it is being cancelled already, only a
        purpose that ends the trial replaces `Purpose.REOPEN`."""
        if record.job.purpose not in (None, Purpose.REOPEN):
            return
        record.job.purpose, record.job.next_fetch = purpose, 0.0
        if record.in_doubt:  # ask for it once more, at once, to cancel it
            calls = record.job.lane.calls
            calls.rest_until("axsched_submit", 0.0)
            calls.rest_until("axsched_reattach", 0.0)

    def advance(self, now: float) -> None:
        """Send the cancels that were requested and not yet sent.

        Raises:
            InvalidInput, RunLocked: like `Writer.flush_before_stopping`; nothing was cancelled.
            RunnerError: a runner is broken.
        """
        to_cancel: dict[tuple[Lane, Purpose], list[Record]] = {}
        for record in self._active.undecided():
            if not record.unsent and self._judge(record, now):
                assert record.job.purpose is not None
                to_cancel.setdefault((record.job.lane, record.job.purpose), []).append(record)
        for (_, purpose), records in to_cancel.items():
            if purpose in (Purpose.REOPEN, Purpose.EARLY):  # the next driver must know it
                self.about_to_stop(records)
        if to_cancel:
            self._recorder.writer.flush_before_stopping()  # a replaced driver cancels nothing
        for (lane, purpose), records in to_cancel.items():
            self._cancel(lane, purpose, records, now)

    def _judge(self, record: Record, now: float) -> bool:
        """Decide about one job: it is over its time limit, it is given up because it did not end in
        time, or (True) the backend must be told now to stop it."""
        job, submitted = record.job, record.stage is Stage.SUBMITTED
        if submitted and job.purpose is None and time_limit.is_over(job, now):
            job.purpose = Purpose.TIME_LIMIT
        if job.purpose is None or (self._active.is_left(record) and job.cancel_sent):
            return False  # a job that is not waited for must still be told to stop
        if job.cancel_since is None:
            job.cancel_since = now
        if now >= job.cancel_since + self._grace(job):
            self._settler.cannot_be_stopped(record)
            return False
        return not job.cancel_sent and submitted

    def _cancel(self, lane: Lane, purpose: Purpose, records: list[Record], now: float) -> None:
        outcomes = lane.cancel(handles_of(records), purpose.value)
        if outcomes is None:
            return
        for record in records:
            record.job.cancel_sent = True
            if outcomes.get(record.job.request.key) is CancelOutcome.NOT_POSSIBLE:
                self._settler.cannot_be_stopped(record)
        lane.calls.hasten("axsched_poll", now + min(1.0, self._interval))

    def about_to_stop(self, records: Iterable[Record]) -> None:
        """Write down why these jobs stop: because of the driver, or early."""
        for record in records:
            if record.job.purpose is Purpose.EARLY:
                self._recorder.job_stopped_early(record)
            else:
                self._recorder.job_stopping(record)

    def _grace(self, job: Attempt) -> float:
        """Seconds that a cancelled job may take to end."""
        patient = job.purpose is Purpose.TIME_LIMIT and self._active.halted is None
        return timing.LIMIT_GRACE if patient else timing.CANCEL_GRACE
