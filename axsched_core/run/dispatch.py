"""The life of a job: submitted, polled, its result fetched, cancelled.

`Dispatch` holds the trials that are on the way and brings each to a decision; what is to be
told to the optimizer, and when, is the engine's business. Everything here runs on the
engine's thread.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from axsched_core import jobfolder, jobs
from axsched_core.config import SchedulerConfig
from axsched_core.errors import AxschedError, InvalidInput, RunnerError
from axsched_core.folders import remove_tree
from axsched_core.jobs import (
    CancelOutcome,
    Capability,
    Cause,
    JobHandle,
    JobRequest,
    JobResult,
    JobState,
    JobStatus,
    Metrics,
    NotReady,
    RunnerContext,
    SubmitError,
)
from axsched_core.journal.rundir import RunDirectory
from axsched_core.objectives.results import (
    NOTES,
    InvalidResult,
    Result,
    read_result,
    warn_of_dropped,
)
from axsched_core.run import retry, timing
from axsched_core.run.active import Active
from axsched_core.run.attempts import Attempts
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Attempt, Purpose, Record, Stage, Submission
from axsched_core.runners.calls import Backend
from axsched_core.runners.session import RunnerSession
from axsched_core.trials import TrialState

log = logging.getLogger("axsched")

DEFAULT_PARALLELISM = 8
"""Jobs at once where neither the runner nor the user says."""


class Dispatch:
    """Brings trials through the runner.

    Args:
        session: the runner.
        config: the scheduler's settings.
        rundir: where the jobs' folders are made.
        wake: given to the runner as ``context.wake``.
        recorder: takes what has happened.
        active: the trials that are on the way.
    """

    def __init__(
        self,
        session: RunnerSession,
        config: SchedulerConfig,
        rundir: RunDirectory,
        wake: Callable[[str], None],
        recorder: Recorder,
        active: Active,
    ) -> None:
        self.objective_names: tuple[str, ...] = ()
        self.required_metrics: frozenset[str] = frozenset()
        self.synchronous = False
        """True: one job at a time."""
        self._dropped: set[str] = set()
        """Names in results of which was said that they are no metrics."""

        self.attempts = Attempts(config, rundir, recorder)
        self._session, self._config, self._rundir = session, config, rundir
        self._wake, self._recorder, self._active = wake, recorder, active
        self._writer = recorder.writer
        self._opened = False
        self._woken: set[str] = set()
        self._next_look = 0.0
        self._last_submission = -math.inf
        self._backend = Backend(
            session.info.name,
            config.monitoring_interval,
            on_trouble=functools.partial(recorder.backend_trouble, session.info.name),
            on_recovery=functools.partial(recorder.backend_recovered, session.info.name),
        )

    def woken(self, key: str) -> None:
        """The runner says that there is something to see."""
        self._woken.add(key)

    def due(self, now: float) -> float | None:
        """The moment when something is to be done without a message; None: never."""
        next_look = now + self._pause_between_looks(now)
        moments = [next_look] if self._active else []
        if self._active.at(Stage.SUBMITTED):
            moments.append(self._backend.ready_at("axsched_poll", next_look))
        for record in self._active:
            if record.stage is Stage.WAITING:
                hook = "axsched_reattach" if record.orphaned else "axsched_submit"
                ready = self._backend.ready_at(hook, now)
                moments += [m for m in (record.not_before, ready) if m > now]
            elif record.stage is Stage.FETCHING:
                ready = self._backend.ready_at("axsched_fetch_results", now)
                moments.append(max(record.job.next_fetch, ready))
        return min(moments, default=None)

    def advance(self, now: float) -> None:
        """Do whatever can be done now.

        Raises:
            InvalidInput: the run directory cannot be written; nothing new was started.
            RunnerError: the runner is broken.
        """
        self._reattach(now)
        self._cancel_jobs(now)
        self._submit(now)
        self._poll(now)
        self._fetch(now)
        if self._active.halted is not None:
            self.start_nothing_more(self._active.halted)  # some may have come back meanwhile

    def close(self, wait: bool) -> None:
        """Let the runner go."""
        if self._opened:
            self._session.close(wait)
        else:
            self._session.release()

    def abandon(self) -> None:
        """Nobody waits any more: ask the backend to stop what runs, and let the runner go."""
        submitted = self._active.at(Stage.SUBMITTED)
        try:
            if submitted and self._config.on_exit == "cancel":
                self._about_to_stop(submitted)
                self._writer.flush_before_stopping()  # who was taken over cancels nothing
                self._session.cancel(_handles(submitted), "the scheduler was dropped")
        except Exception:
            log.exception("Jobs of runner %r may run on.", self._session.info.name)
        try:
            self.close(wait=False)
        except Exception:
            log.exception("Runner %r could not be closed.", self._session.info.name)

    # ---- stopping -----------------------------------------------------------------------

    def begin(self) -> None:
        """A new call: nothing is halted, and jobs that could not be stopped count again."""
        self._active.halted = None
        self._active.wait_for_all()
        for record in self._active.undecided():
            job = record.latest
            if job is not None and job.purpose is Purpose.REOPEN:
                job.purpose, job.cancel_sent, job.cancel_since = None, False, None

    def halt(self, purpose: Purpose) -> None:
        """Start nothing more, and cancel what runs."""
        self.start_nothing_more(purpose)
        for record in self._active.undecided():
            self._stop(record, self._active.halted or purpose)

    def _stop(self, record: Record, purpose: Purpose) -> None:
        """Have a trial's job cancelled."""
        if record.job.purpose is not None:
            return
        record.job.purpose, record.job.next_fetch = purpose, 0.0
        if record.in_doubt:  # it is asked for once more, at once, to be cancelled
            self._backend.rest_until("axsched_submit", 0.0)
            self._backend.rest_until("axsched_reattach", 0.0)

    def start_nothing_more(self, purpose: Purpose) -> None:
        """Settle the trials whose jobs were not submitted yet; what runs goes on."""
        if self._active.halted is None:
            self._active.halted = purpose
        for record in self._active.undecided():
            if record.unsent:
                self.stopped_before_start(record)

    def stopped_before_start(self, record: Record) -> None:
        """Settle a trial whose job was not submitted before everything was halted."""
        if self._active.halted is Purpose.REOPEN:
            self.park(record)
        elif self._active.halted is not None:
            self._decide(record, TrialState.CANCELLED, Cause.CANCELLED, self._active.halted.value)

    def leave(self) -> None:
        """Do not wait for what runs any longer.

        Nothing is written down: the journal knows these jobs, so whoever goes on looks for them,
        and no second job stands beside one that may still run.
        """
        self._active.leave(self._active.undecided())

    def cancel(self, records: Iterable[Record], purpose: Purpose = Purpose.ABANDON) -> None:
        """Have these trials given up, and their jobs, where they have any, cancelled."""
        for record in records:
            if record.state.ended or record.stage is Stage.TELLING:
                continue
            self._active.add(record)  # one without a job too: the optimizer is to hear it
            if record.stage is Stage.IDLE or record.unsent:
                self._decide(record, TrialState.CANCELLED, Cause.CANCELLED, purpose.value)
            else:
                self._stop(record, purpose)

    def close_trial(self, record: Record, state: TrialState, message: str = "") -> None:
        """The trial was ended in the optimizer: its job, if any, is to stop."""
        if record.state is not state:  # else it is written down already
            self.end_by_hand(record, state, message, record.results)
        if record.stage is Stage.FETCHING or not record.may_have_a_job:
            self.retire(record)

    def end_by_hand(
        self, record: Record, state: TrialState, message: str, results: Metrics | None
    ) -> None:
        """Write down how the user has ended a trial; `close_trial` then stops its job."""
        record.state, record.message, record.results = state, message, results
        if record.may_have_a_job:
            record.job.purpose = Purpose.CLOSED
        elif record.stage is Stage.IDLE:
            record.stage = Stage.ENDED
        self._recorder.trial_decided(record)

    def _cancel_jobs(self, now: float) -> None:
        by_purpose: dict[Purpose, list[Record]] = {}
        for record in self._active.undecided():
            if record.unsent:
                continue
            job = record.job
            limit = job.request.resources.time_limit
            if (
                record.stage is Stage.SUBMITTED
                and job.purpose is None
                and limit is not None
                and job.running_since is not None
                and now - job.running_since > limit + timing.TIME_LIMIT_SLACK
            ):
                job.purpose = Purpose.TIME_LIMIT
            if job.purpose is None or (self._active.is_left(record) and job.cancel_sent):
                continue  # one that is not waited for is to be told to stop all the same
            if job.cancel_since is None:
                job.cancel_since = now
            if now >= job.cancel_since + self._grace(job):
                self._cannot_stop(record)
            elif not job.cancel_sent and record.stage is Stage.SUBMITTED:
                by_purpose.setdefault(job.purpose, []).append(record)
        self._about_to_stop(by_purpose.get(Purpose.REOPEN, ()))
        if by_purpose:
            self._writer.flush_before_stopping()  # who was taken over cancels nothing
        for purpose, records in by_purpose.items():
            handles = _handles(records)
            send = functools.partial(self._session.cancel, handles, purpose.value)
            outcomes = self._backend.call("axsched_cancel", send)
            if outcomes is None:
                continue
            for record in records:
                record.job.cancel_sent = True
                if outcomes.get(record.job.request.key) is CancelOutcome.NOT_POSSIBLE:
                    self._cannot_stop(record)
            self._backend.hasten("axsched_poll", now + min(1.0, self._config.monitoring_interval))

    def _about_to_stop(self, records: Iterable[Record]) -> None:
        """Write down that these jobs are stopped for the driver's sake."""
        for record in records:
            self._recorder.job_stopping(record)

    def _grace(self, job: Attempt) -> float:
        """Seconds that a cancelled job may take to end."""
        patient = job.purpose is Purpose.TIME_LIMIT and self._active.halted is None
        return timing.LIMIT_GRACE if patient else timing.CANCEL_GRACE

    def _cannot_stop(self, record: Record) -> None:
        """The backend does not end the job: leave it alone."""
        key = record.job.request.key
        log.warning(
            "Trial %d: its job %s could not be stopped and may still run.", record.index, key
        )
        self._settle_without(record, "could not be stopped")

    def _settle_without(self, record: Record, message: str) -> None:
        """Settle a trial that is to be cancelled without knowing its job's end."""
        job = record.job
        if job.purpose in (Purpose.REOPEN, Purpose.FROM_SHELL):
            # It may yet have a result, and a second job beside it must not be.
            job.purpose, job.cancel_sent, job.cancel_since = None, False, None
            self._active.leave([record])
        else:
            self._cancelled(record, message, gone=False)

    def _cancelled(self, record: Record, message: str, *, gone: bool = True) -> None:
        """The job is over because it was cancelled: what that means depends on by whom.

        ``gone``: it is certain to have ended, so that another one may follow.
        """
        job = record.job
        # It may have been stopped in an earlier call, or by a driver that has died since.
        purpose = job.purpose or (Purpose.REOPEN if job.stopping else None)
        if purpose is Purpose.CLOSED:
            self.retire(record)
        elif purpose is Purpose.REOPEN:
            self._recorder.attempt_ended(record, JobState.CANCELLED, Cause.CANCELLED, purpose.value)
            if self._active.halted is None:
                # It has ended in a later call than the one that was interrupted: go on with it.
                self._active.remove(record)
                self._active.want([record])
            else:
                self.park(record)
        elif purpose is Purpose.TIME_LIMIT:
            limit = job.request.resources.time_limit
            words = f"ran longer than its limit of {limit:g} s"
            self._failed(record, Cause.TIME_LIMIT, words, again=gone)
        else:
            words = purpose.value if purpose else (message or "cancelled on the backend")
            self._decide(record, TrialState.CANCELLED, Cause.CANCELLED, words)

    # ---- submit, poll, fetch ------------------------------------------------------------

    def _reattach(self, now: float) -> None:
        """Find out what has become of jobs whose driver died while it submitted them."""
        can = self._session.has("axsched_reattach")
        orphans = [
            r
            for r in self._active.at(Stage.WAITING)
            if (r.orphaned and not self._active.is_left(r))
            or (can and r.in_doubt and r.job.purpose is not None)
        ]
        if not orphans or self._backend.resting("axsched_reattach", now):
            return
        requests = [record.job.request for record in orphans]
        found = self._backend.call("axsched_reattach", lambda: self._session.reattach(requests))
        if found is None:
            return
        self._backend.rest_until("axsched_reattach", now + self._config.monitoring_interval)
        for record in orphans:
            answer = found.get(record.job.request.key)
            if isinstance(answer, JobHandle):
                record.orphaned = False
                self._accepted(record, answer)
            elif answer is not None or not can:
                self._give_up(record, certain=answer is not None)

    def _give_up(self, record: Record, *, certain: bool) -> None:
        """Go on without a job that never was, or of which nobody can say whether it was."""
        certain = self._claim(record, "taken over") or certain
        if record.job.purpose is not None and not certain:
            self._cannot_stop(record)
            return
        record.orphaned = False
        record.job.submission = Submission.REFUSED
        if not certain:
            record.ended.append(retry.Ended(Cause.LOST, record.job.request.resources))
        if record.job.purpose is not None:
            self._cancelled(record, "")
        else:
            words = "its driver died while submitting it, and " + (
                "it never ran" if certain else "nobody knows whether it ran"
            )
            if certain or self._config.on_unknown != "fail":
                self._recorder.attempt_ended(record, JobState.LOST, Cause.LOST, words, again=True)
            else:
                self._decide(record, TrialState.FAILED, Cause.LOST, words)

    def _submit(self, now: float) -> None:
        waiting = self._active.at(Stage.WAITING)
        ready = [r for r in waiting if r.not_before <= now and not r.orphaned]
        if not ready or self._backend.resting("axsched_submit", now):
            return
        # What was submitted with an unknown outcome is submitted again, under the same key: it
        # may well be what fills the places, and when all is halted, it is to be cancelled.
        doubtful = [r for r in ready if r.in_doubt]
        fresh = [] if self._active.halted else [r for r in ready if not r.in_doubt]
        fresh.sort(key=lambda r: r.index)
        ready = doubtful + fresh[: self.free_slots() if fresh else 0]
        if not ready:
            return
        requests = [request for r in ready if (request := self._request(r)) is not None]
        ready = [record for record in ready if record.stage is Stage.WAITING]
        if not ready:
            return
        self._writer.flush()  # the keys are on disk before anybody may have the jobs
        for record in ready:
            record.job.submission = Submission.IN_DOUBT
        answers = self._backend.call("axsched_submit", lambda: self._session.submit(requests))
        if answers is None:
            return
        jitter = random.random()  # one for all: who was refused together is submitted together
        for record, answer in zip(ready, answers, strict=True):
            if isinstance(answer, SubmitError):
                self._refused(record, answer, now, jitter)
            else:
                self._accepted(record, answer)
        self._last_submission = now
        self._backend.hasten("axsched_poll", now + self._config.monitoring_interval)

    def open(self) -> None:
        """Make the run directory and open the runner, once something is to be run."""
        if self._rundir.make():
            self._recorder.say(f"Outputs: {self._rundir.path}")
        if self._opened:
            return
        context = RunnerContext(
            run_id=self._rundir.run_id,
            run_dir=self._rundir.path,
            wake=self._wake,
            monitoring_interval=self._config.monitoring_interval,
            max_result_bytes=self._config.max_result_bytes,
        )
        try:
            self._session.open(context)
        except AxschedError:
            raise
        except Exception as error:
            raise RunnerError(
                f"Runner {self._session.info.name!r} could not be opened: "
                f"{type(error).__name__}: {error}"
            ) from error
        self._opened = True

    def _request(self, record: Record) -> JobRequest | None:
        """The request for the next job of a trial; None where there can be none, which is decided
        then."""
        try:
            return self.attempts.next(record)
        except InvalidInput:
            raise
        except (TypeError, ValueError) as error:
            words = f"its parameters cannot be written as JSON: {error}"
            self._decide(record, TrialState.FAILED, Cause.SUBMIT_REFUSED, words)
            return None

    def _accepted(self, record: Record, handle: JobHandle) -> None:
        job = record.job
        job.handle, job.submission = handle, Submission.ACCEPTED
        record.stage, record.reopened = Stage.SUBMITTED, False
        record.refusals = 0
        if not record.state.ended:
            record.message = ""
        self._recorder.job_accepted(record)

    def _refused(self, record: Record, error: SubmitError, now: float, jitter: float) -> None:
        job = record.job
        job.submission = Submission.REFUSED
        if job.purpose is not None:
            self._cancelled(record, error.message)
        elif error.transient:
            self._wait(record, error.message, now, jitter)
        else:
            self._decide(record, TrialState.FAILED, Cause.SUBMIT_REFUSED, error.message)

    def _wait(self, record: Record, why: str, now: float, jitter: float) -> None:
        """The backend has refused a job for now, which is no attempt: submit it again later."""
        if not record.refusals:
            record.refused_since = now
        record.refusals += 1
        waited = now - record.refused_since
        pause = retry.patience(self._config.retry, record.refusals, waited, jitter)
        if pause is None:
            words = f"{why} (refused for {waited:.3g} s)"
            self._decide(record, TrialState.FAILED, Cause.SUBMIT_REFUSED, words)
            return
        words = f"refused for now: {why}"
        if record.message != words:
            log.warning("Trial %d: %s; it waits.", record.index, words)
        record.message, record.not_before = words, now + pause
        self._recorder.job_refused_for_now(record, words, now)

    def free_slots(self) -> int:
        """How many more jobs may be submitted now."""
        limit = 1 if self.synchronous else self._config.max_parallelism
        capacity = self._backend.call("axsched_capacity", self._session.capacity)
        if self._backend.in_trouble("axsched_capacity"):
            return 0
        if limit is None and capacity is None:
            limit = DEFAULT_PARALLELISM
        submitted = len(self._active.at(Stage.SUBMITTED))
        if self.synchronous:  # the next is made with the result of the one before
            submitted += len(self._active.at(Stage.FETCHING))
        ours = None if limit is None else limit - submitted
        return max(0, min(n for n in (capacity, ours) if n is not None))

    def _poll(self, now: float) -> None:
        self._look(now)
        submitted = {r.job.request.key: r for r in self._active.at(Stage.SUBMITTED)}
        due = not self._backend.resting("axsched_poll", now)
        keys = submitted.keys() if due else self._woken & submitted.keys()
        handles = _handles(submitted[key] for key in keys)
        self._woken.clear()
        if not handles:
            return
        statuses = self._backend.call("axsched_poll", lambda: self._session.poll(handles))
        if statuses is None:
            return
        if due:
            self._backend.rest_until("axsched_poll", now + self._config.monitoring_interval)
        for key, status in statuses.items():
            self._status(submitted[key], status, now)

    def _look(self, now: float) -> None:
        """See without a query what shows in the jobs' folders: that they run, that they ended."""
        if now < self._next_look:
            return
        self._next_look = now + self._pause_between_looks(now)
        for record in self._active.at(Stage.SUBMITTED):
            job = record.job
            if job.request.objective is None:
                continue
            seen = jobfolder.read_exit(job.request.folder)
            if seen is None and job.status.backend_state == "" and job.running_since is None:
                seen = jobfolder.read_start(job.request.folder)
            if seen is not None:
                self._status(record, seen, now)

    def _pause_between_looks(self, now: float) -> float:
        return timing.pause_between_looks(now - self._last_submission, len(self._active))

    def _status(self, record: Record, status: JobStatus, now: float) -> None:
        """Take in what the backend says of a submitted job."""
        job = record.job
        if not status.state.ended:
            if status.state is JobState.QUEUED:
                self._recorder.job_queued(record, status, now)
            if status.state is not job.status.state:
                job.running_since = now if status.state is JobState.RUNNING else None
                job.status = status
                if job.purpose is Purpose.CLOSED:
                    return
                record.state = TrialState(status.state.value)
                if status.state is JobState.RUNNING:
                    self._recorder.job_started(record, status)
                else:
                    self._recorder.job_requeued(record, status)
            return
        job.status = status
        if status.state is JobState.LOST:
            # If it only seems to be lost, its claim keeps it from ever starting beside the next.
            self._claim(record, "given up as lost")
        if job.purpose is Purpose.TIME_LIMIT and retry.machines_failed(status):
            job.purpose = None  # its machine has died, and with it who keeps the limit there
        if job.purpose is Purpose.CLOSED:
            self.retire(record)
        elif status.state is JobState.SUCCEEDED:
            self._recorder.job_has_run(record, status)
            record.stage, record.state = Stage.FETCHING, TrialState.RUNNING
            job.result_due, job.next_fetch = now + self._session.info.result_grace, now
        elif status.state is JobState.CANCELLED or job.purpose is not None or job.stopping:
            self._cancelled(record, status.message)
        else:
            cause = status.cause
            if status.state is JobState.LOST and cause not in jobs.FAULTS_OF_THE_MACHINES:
                cause = Cause.LOST
            words = status.message or status.backend_state or status.state.value
            self._failed(record, cause, words)

    def _claim(self, record: Record, why: str) -> bool:
        """See to it that a job which has not begun never will; True where that is certain."""
        if record.job.request.objective is None:
            return False
        try:
            return jobfolder.keep_from_running(record.job.request.folder, f"driver: {why}")
        except OSError as error:
            raise self.attempts.unwritable(error) from error

    def _failed(
        self, record: Record, cause: Cause | None, words: str, *, again: bool = True
    ) -> None:
        """An attempt has failed: the trial gets another one, or fails too.

        ``again``: another one may begin; False: this one may still run.
        """
        request = record.job.request
        never_began = (
            record.job.inherited
            and cause in jobs.FAULTS_OF_THE_MACHINES
            and request.objective is not None
            and jobfolder.never_ran(request.folder)
        )
        verdict: retry.Again | retry.Stop = retry.Stop()
        if never_began:  # because its driver died: that is no attempt
            verdict = retry.Again(0.0, request.resources)
        else:
            record.ended.append(retry.Ended(cause, request.resources))
            if again:
                verdict = retry.verdict(
                    self._config.retry,
                    record.ended,
                    resizable=self._session.can(Capability.RESOURCES),
                    jitter=random.random(),
                )
        if isinstance(verdict, retry.Stop):
            why = f" (not tried again: {verdict.reason})" if verdict.reason else ""
            self._decide(record, TrialState.FAILED, cause, words + why)
            return
        seen = record.job.status.state
        state = seen if seen in (JobState.FAILED, JobState.LOST) else JobState.FAILED
        self._recorder.attempt_ended(record, state, cause, words, again=True)
        record.stage, record.state, record.message = Stage.WAITING, TrialState.QUEUED, words
        record.not_before = time.monotonic() + verdict.pause
        if verdict.resources != request.resources:
            record.grown = verdict.resources
        log.warning("Trial %d: %s; it is tried again.", record.index, words)

    def _fetch(self, now: float) -> None:
        waiting = {
            r.job.request.key: r for r in self._active.at(Stage.FETCHING) if r.job.next_fetch <= now
        }
        handles = _handles(waiting.values())
        if not handles:
            return
        results: Mapping[str, JobResult | NotReady] | None = None
        if not self._backend.resting("axsched_fetch_results", now):
            results = self._backend.call(
                "axsched_fetch_results", lambda: self._session.fetch_results(handles)
            )
        for key, record in waiting.items():
            if results is not None:
                self._result(record, results.get(key, NotReady()), now)
            elif record.job.purpose is not None:  # nobody waits for the backend any more
                self._settle_without(record, "its result could not be fetched")

    def _result(self, record: Record, result: JobResult | NotReady, now: float) -> None:
        job = record.job
        if isinstance(result, NotReady):
            if job.purpose is not None:
                self._settle_without(record, "it had no result yet")
            elif now >= job.result_due:
                words = f"the job ended well but left no result ({result.reason or 'none found'})"
                self._failed(record, Cause.RESULT_INVALID, words)
            else:
                job.next_fetch = min(job.result_due, now + timing.FETCH_INTERVAL)
            return
        try:
            found = read_result(
                result,
                objectives=self.objective_names,
                required=self.required_metrics,
                limit=self._config.max_result_bytes,
            )
        except InvalidResult as error:
            self._failed(record, Cause.RESULT_INVALID, str(error), again=job.purpose is None)
            return
        record.results = found.metrics
        self.take_notes(record, found)
        if result.raw is None:
            self._keep(job.request, found)
        self._decide(record, TrialState.SUCCEEDED, None, "")

    def take_notes(self, record: Record, found: Result) -> None:
        """What a valid result holds beside metrics goes to the trial, here and in the optimizer."""
        warn_of_dropped(found, record.index, self._dropped)
        record.notes = found.notes
        if found.notes is not None:
            self._recorder.notes_taken(record)

    def _keep(self, request: JobRequest, found: Result) -> None:
        """A result that came over the wire: the folder is to hold it like any other."""
        content: dict[str, Any] = {name: list(value) for name, value in found.metrics.items()}
        if found.notes is not None:
            content[NOTES] = found.notes
        data = json.dumps(content)
        try:
            jobfolder.write(request.folder, jobfolder.RESULT, data.encode())
        except OSError as error:  # it is in the journal, and the optimizer hears it
            log.warning("Job %s: its result cannot be written: %s", request.key, error)

    # ---- how trials end -----------------------------------------------------------------

    def _decide(self, record: Record, state: TrialState, cause: Cause | None, message: str) -> None:
        """The trial's outcome is known; the optimizer hears it next."""
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

    def retire(self, record: Record) -> None:
        """The trial is over, and the optimizer knows."""
        record.stage = Stage.ENDED
        self._end_unheard(record)
        self._active.remove(record)
        self._recorder.trial_retired(record)
        if record.folder is None:
            return
        done = record.state is TrialState.SUCCEEDED
        tidy = done and self._config.cleanup_after_completion
        try:
            (remove_tree if tidy else jobfolder.drop_copies)(record.folder)
        except OSError as error:
            log.warning("%s cannot be tidied: %s", record.folder, error)

    def _end_unheard(self, record: Record) -> None:
        """Write down the end of a job whose trial was ended by hand, or in the optimizer."""
        if (job := record.latest) is not None:
            ended = job.status.state.ended
            state = job.status.state if ended else JobState.CANCELLED
            cause = job.status.cause if ended else Cause.CANCELLED
            words = job.status.message or record.message or Purpose.CLOSED.value
            self._recorder.attempt_ended(record, state, cause, words)

    def park(self, record: Record) -> None:
        """The trial has no job any more but stays open; the next run takes it up."""
        record.stage, record.state = Stage.IDLE, TrialState.CANDIDATE
        self._active.remove(record)
        record.reopened = True
        self._recorder.trial_reopened(record)


def _handles(records: Iterable[Record]) -> list[JobHandle]:
    return [handle for record in records if (handle := record.job.handle) is not None]
