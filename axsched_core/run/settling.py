"""What happens to a trial: another attempt, an outcome, or it stays open."""

from __future__ import annotations

import logging
import random
import time

from axsched_core import jobfolder, jobs
from axsched_core.config import SchedulerConfig
from axsched_core.folders import remove_tree
from axsched_core.jobs import Capability, Cause, JobState, Metrics
from axsched_core.journal.rundir import RunDirectory
from axsched_core.objectives.results import Result, warn_of_dropped
from axsched_core.run import retry
from axsched_core.run.active import Active
from axsched_core.run.attempts import unwritable
from axsched_core.run.lane import Lane
from axsched_core.run.last_words import with_last_words
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Purpose, Record, Stage, Submission
from axsched_core.trials import TrialState

log = logging.getLogger("axsched")


class Settler:
    """Settles trials with jobs that have ended, or never began.

    Args:
        config: the scheduler's settings.
        rundir: the run directory.
        recorder: records what has happened.
        active: the trials in progress.
    """

    def __init__(
        self, config: SchedulerConfig, rundir: RunDirectory, recorder: Recorder, active: Active
    ) -> None:
        self._config, self._rundir = config, rundir
        self._recorder, self._active = recorder, active
        self.misconfiguration: tuple[Lane, str] | None = None
        """The runner that refuses every job of the run, and why. The engine ends the call."""
        self._dropped: set[str] = set()
        """Names in results that were already reported as not being metrics."""

    # ---- an attempt is over --------------------------------------------------------------------

    def failed(
        self, record: Record, cause: Cause | None, words: str, *, again: bool = True
    ) -> None:
        """An attempt has failed: the trial gets another attempt, or fails too.

        ``again``: another attempt may begin; False: this one may still run.
        """
        request = record.job.request
        words = with_last_words(words, cause, request)
        never_began = (
            record.job.inherited
            and cause in jobs.FAULTS_OF_THE_MACHINES
            and request.objective is not None
            and jobfolder.never_ran(request.folder)
        )
        verdict: retry.Again | retry.Stop = retry.Stop()
        if never_began:  # because its driver died: this does not count as an attempt
            verdict = retry.Again(0.0, request.resources)
        else:
            record.ended += (retry.Ended(cause, request.resources),)
            host = record.job.status.host
            if cause in (Cause.NODE_FAIL, Cause.LOST) and host and host not in record.avoid:
                record.avoid += (host,)
            if again:
                verdict = retry.verdict(
                    self._config.retry,
                    record.ended,
                    resizable=record.job.lane.can(Capability.RESOURCES),
                    jitter=random.random(),
                )
        if isinstance(verdict, retry.Stop):
            why = f" (not tried again: {verdict.reason})" if verdict.reason else ""
            self.decide(record, TrialState.FAILED, cause, words + why)
            return
        seen = record.job.status.state
        state = seen if seen in (JobState.FAILED, JobState.LOST) else JobState.FAILED
        self._recorder.attempt_ended(record, state, cause, words, again=True)
        record.stage, record.state, record.message = Stage.WAITING, TrialState.QUEUED, words
        record.not_before = time.monotonic() + verdict.pause
        if verdict.resources != request.resources:
            record.grown = verdict.resources
        log.warning("Trial %d: %s; it is tried again.", record.index, words)

    def misconfigured(self, record: Record, words: str) -> None:
        """The backend would refuse every job like this one: the trial stays open."""
        if record.grown is not None:  # it has asked for more than the others
            self.decide(record, TrialState.FAILED, Cause.SUBMIT_REFUSED, words)
            return
        self.misconfiguration = (record.job.lane, words)
        if record.job.submission is Submission.ACCEPTED:
            self._recorder.attempt_ended(record, JobState.FAILED, Cause.CONFIGURATION, words)
        self.park(record)

    def cancelled(self, record: Record, message: str, *, gone: bool = True) -> None:
        """The job is over because it was cancelled: the effect depends on who cancelled it.

        ``gone``: it has certainly ended, so that another one may follow.
        """
        self._withdraw(record)
        job = record.job
        # It may have been stopped in an earlier call, or by an earlier driver.
        purpose = job.purpose or (Purpose.REOPEN if job.stopping else None)
        if purpose is Purpose.CLOSED:
            self.retire(record)
        elif purpose is Purpose.REOPEN:
            # In a later call than the interrupted one the trial goes on at once.
            again = self._active.halted is None
            self._recorder.attempt_ended(
                record, JobState.CANCELLED, Cause.CANCELLED, purpose.value, again=again
            )
            if again:
                self._active.remove(record)
                self._active.want([record])
            else:
                self.park(record)
        elif purpose is Purpose.EARLY:
            last = job.progress.last
            record.results = None if last is None else last.metrics
            self.decide(record, TrialState.EARLY_STOPPED, None, job.stop_reason or purpose.value)
        elif purpose is Purpose.TIME_LIMIT:
            limit = job.request.resources.time_limit
            words = f"ran longer than its limit of {limit:g} s"
            self.failed(record, Cause.TIME_LIMIT, words, again=gone)
        else:
            words = purpose.value if purpose else (message or "cancelled on the backend")
            self.decide(record, TrialState.CANCELLED, Cause.CANCELLED, words)

    def _withdraw(self, record: Record) -> None:
        """If the backend never had the last job, it was no attempt."""
        job = record.latest
        if job is None or job.over or job.submission not in (Submission.UNSENT, Submission.REFUSED):
            return
        record.attempts -= 1
        self._recorder.job_withdrawn(record)

    def cannot_be_stopped(self, record: Record) -> None:
        """The backend does not end the job: leave it alone."""
        key = record.job.request.key
        log.warning(
            "Trial %d: its job %s could not be stopped and may still run.", record.index, key
        )
        self.settle_without(record, "could not be stopped")

    def settle_without(self, record: Record, message: str) -> None:
        """Settle a trial that must be cancelled, although its job's end is not known."""
        job = record.job
        if job.purpose in (Purpose.REOPEN, Purpose.FROM_SHELL):
            # It may still get a result, and there must not be a second job at the same time.
            job.purpose, job.cancel_sent, job.cancel_since = None, False, None
            self._active.leave([record])
        else:
            self.cancelled(record, message, gone=False)

    def claim(self, record: Record, why: str) -> bool:
        """Prevent a job that has not begun from ever beginning; True if that is certain.

        Raises:
            InvalidInput: the run directory cannot be written.
        """
        if record.job.request.objective is None:
            return False
        try:
            return jobfolder.keep_from_running(record.job.request.folder, f"driver: {why}")
        except OSError as error:
            raise unwritable(self._rundir, error) from error

    # ---- a trial -------------------------------------------------------------------------------

    def take_notes(self, record: Record, found: Result) -> None:
        """Add a valid result's notes to the trial and its mark; warn about dropped names."""
        warn_of_dropped(found, record.index, self._dropped)
        record.notes = found.notes
        if found.notes is not None:
            self._recorder.notes_taken(record)

    def decide(self, record: Record, state: TrialState, cause: Cause | None, message: str) -> None:
        """The trial's outcome is known; next the optimizer is told."""
        record.stage, record.state, record.cause, record.message = (
            Stage.TELLING,
            state,
            cause,
            message,
        )
        self._recorder.attempt_ended(record, state, cause, message)
        self._recorder.trial_decided(record)
        if state is TrialState.FAILED:
            folder = f" (see {record.folder})" if record.folder else ""
            word = cause.value if cause else "FAILED"
            log.warning("Trial %d failed: %s: %s%s", record.index, word, message, folder)

    def stopped_before_start(self, record: Record) -> None:
        """Settle a trial with a job that was not submitted before everything was halted."""
        halted = self._active.halted
        if halted is Purpose.REOPEN:
            self.park(record)
        elif halted is not None:
            self.give_up(record, halted, whole_run=True)

    def give_up(self, record: Record, purpose: Purpose, *, whole_run: bool) -> None:
        """Cancel a trial without a job.

        ``whole_run``: because all are cancelled. A point that never ran is then as good as before.
        """
        self._withdraw(record)
        cause = None if whole_run and not record.attempts else Cause.CANCELLED
        self.decide(record, TrialState.CANCELLED, cause, purpose.value)

    def park(self, record: Record) -> None:
        """The trial has no job any more but stays open; the next call runs it."""
        self._withdraw(record)
        record.stage, record.state, record.message = Stage.IDLE, TrialState.CANDIDATE, ""
        self._active.remove(record)
        record.reopened = True
        self._recorder.trial_reopened(record)

    def retire(self, record: Record) -> None:
        """The trial is over. If the optimizer does not know it, it must still be told."""
        record.stage = Stage.TELLING if record.untold else Stage.ENDED
        self._end_unheard(record)
        if record.untold:
            record.untold = False
            return
        self._active.remove(record)
        self._recorder.trial_retired(record)
        record.forget_job()
        if record.folder is None:
            return
        done = record.state is TrialState.SUCCEEDED
        tidy = done and self._config.cleanup_after_completion
        try:
            (remove_tree if tidy else jobfolder.drop_copies)(record.folder)
        except OSError as error:
            log.warning("%s cannot be tidied: %s", record.folder, error)

    def _end_unheard(self, record: Record) -> None:
        """Write down the end of a job after its trial was ended by hand, or in the optimizer."""
        if (job := record.latest) is not None:
            ended = job.status.state.ended
            state = job.status.state if ended else JobState.CANCELLED
            cause = job.status.cause if ended else Cause.CANCELLED
            words = job.status.message or record.message or Purpose.CLOSED.value
            self._recorder.attempt_ended(record, state, cause, words)

    # ---- ended by the user ---------------------------------------------------------------------

    def end_by_hand(
        self,
        record: Record,
        state: TrialState,
        message: str,
        results: Metrics | None,
        *,
        told: bool = False,
    ) -> None:
        """The user has ended the trial: stop its job, if any.

        ``told``: the optimizer knows it already; False: it is told at the next consultation.
        """
        record.state, record.message, record.results = state, message, results
        record.cause = Cause.CANCELLED if state is TrialState.CANCELLED else None
        running = record.stage is not Stage.FETCHING and record.may_have_a_job
        if running:
            record.job.purpose, record.untold = Purpose.CLOSED, not told
        else:
            record.stage = Stage.TELLING
            self._end_unheard(record)
        self._active.add(record)
        self._recorder.trial_decided(record)
        if told and not running:
            self.retire(record)
