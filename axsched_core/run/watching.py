"""Watching submitted jobs: polls, checks of their folders, and their results."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from axsched_core import jobfolder, jobs
from axsched_core.config import SchedulerConfig
from axsched_core.jobs import Cause, JobRequest, JobResult, JobState, JobStatus, NotReady
from axsched_core.objectives.results import NOTES, InvalidResult, Result, read_result
from axsched_core.run import retry, timing
from axsched_core.run.active import Active
from axsched_core.run.intermediate import Intermediate
from axsched_core.run.lane import Lane
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Attempt, Purpose, Record, Stage, handles_of
from axsched_core.run.settling import Settler
from axsched_core.trials import TrialState

log = logging.getLogger("axsched")

TO_ALL = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a job and its driver together: a shutdown, a closed terminal, `scancel`."""


class Watcher:
    """Processes the changes of submitted jobs.

    Args:
        config: the scheduler's settings.
        lanes: the run's runners.
        recorder: records what has happened.
        active: the trials in progress.
        settler: settles trials with jobs that have ended.
        intermediate: reads what jobs report while they run.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        lanes: Sequence[Lane],
        recorder: Recorder,
        active: Active,
        settler: Settler,
        intermediate: Intermediate,
    ) -> None:
        self._config, self._lanes, self._recorder = config, lanes, recorder
        self._active, self._settler, self._intermediate = active, settler, intermediate
        self._objective_names: tuple[str, ...] = ()
        self._required_metrics: frozenset[str] = frozenset()
        self._woken: set[str] = set()
        self._warned: set[str] = set()
        """Why jobs will not start, as already logged."""
        self._next_look = 0.0

    def expect(self, objective_names: tuple[str, ...], required_metrics: frozenset[str]) -> None:
        """Set what a result must hold from now on: see `read_result`."""
        self._objective_names, self._required_metrics = objective_names, required_metrics

    def woken(self, key: str) -> None:
        """A runner reports news about a job."""
        self._woken.add(key)

    def next_look(self, now: float) -> float:
        """When to check the jobs' folders next."""
        return now + self._pause_between_looks(now)

    def _pause_between_looks(self, now: float) -> float:
        since = now - max(lane.last_submission for lane in self._lanes)
        return timing.pause_between_looks(since, len(self._active))

    # ---- what they do --------------------------------------------------------------------------

    def poll(self, now: float) -> None:
        """Check the jobs' folders, and ask the runners, if it is time for it.

        Raises:
            InvalidInput: the run directory cannot be written.
            RunnerError: a runner is broken.
        """
        self._look(now)
        woken, self._woken = self._woken, set()
        for lane in self._lanes:
            self._poll(lane, woken, now)

    def _poll(self, lane: Lane, woken: Collection[str], now: float) -> None:
        submitted = {
            r.job.request.key: r for r in self._active.at(Stage.SUBMITTED) if r.job.lane is lane
        }
        due = not lane.calls.resting("axsched_poll", now)
        handles = handles_of(r for key, r in submitted.items() if due or key in woken)
        if not handles:
            return
        statuses = lane.poll(handles)
        if statuses is None:
            return
        if due:
            lane.calls.rest_until("axsched_poll", now + self._config.monitoring_interval)
        for key, status in statuses.items():
            self._take(submitted[key], status, now)
        self._warn(lane, statuses)

    def _warn(self, lane: Lane, statuses: Mapping[str, JobStatus]) -> None:
        """Tell the user which queued jobs will not start by themselves; each reason once, with the
        remedy of one job, because a remedy may name its job."""
        stuck: dict[str, list[str]] = {}
        for status in statuses.values():
            if status.remedy and status.state is JobState.QUEUED:
                stuck.setdefault(status.message, []).append(status.remedy)
        for message, remedies in stuck.items():
            if message in self._warned:
                continue
            self._warned.add(message)
            n = len(remedies)
            log.warning(
                "Runner %r: %s and will not start without help: %s: %s.",
                lane.name,
                "1 job waits" if n == 1 else f"{n} jobs wait",
                message,
                remedies[0],
            )

    def _look(self, now: float) -> None:
        """Read from the jobs' folders, without a query, that jobs run or have ended."""
        if now < self._next_look:
            return
        self._next_look = self.next_look(now)
        for record in self._active.at(Stage.SUBMITTED):
            job = record.job
            if job.request.objective is None:
                continue
            seen = jobfolder.read_exit(job.request.folder)
            if seen is None and job.status.backend_state == "" and job.running_since is None:
                seen = jobfolder.read_start(job.request.folder)
            if seen is not None:
                self._take(record, seen, now)

    def _take(self, record: Record, status: JobStatus, now: float) -> None:
        """Process a submitted job's status."""
        job = record.job
        if status.state.ended:
            if not _may_be_told_too(job, status, now):
                self._ended(record, status, now)
            return
        if status.state is JobState.QUEUED:
            self._recorder.job_queued(record, status, now)
        if job.purpose is not Purpose.CLOSED:
            record.message = _joined(status.message, status.remedy)
        _count_suspension(job, status, now)
        if status.state is job.status.state:
            return
        job.running_since = now if status.state is JobState.RUNNING else None
        job.status = status
        if job.purpose is Purpose.CLOSED:
            return
        record.state = TrialState(status.state.value)
        if status.state is JobState.RUNNING:
            self._recorder.job_started(record, status)
            self._intermediate.begun(job.lane, now)
        else:
            self._recorder.job_requeued(record, status)

    def _ended(self, record: Record, status: JobStatus, now: float) -> None:
        """Its process has ended in any way."""
        job = record.job
        if job.progress.last is not None and status.state is not JobState.SUCCEEDED:
            self._intermediate.read_rest(record)
        job.status = status
        if status.state is JobState.LOST:
            # If it only seems to be lost, the claim prevents it from ever starting next to the next
            # job.
            self._settler.claim(record, "given up as lost")
        if job.purpose is Purpose.TIME_LIMIT and retry.machines_failed(status):
            job.purpose = None  # the process for the limit died with its machine
        if job.purpose is Purpose.CLOSED:
            self._settler.retire(record)
        elif status.state is JobState.SUCCEEDED:
            self._recorder.job_has_run(record, status)
            record.stage, record.state = Stage.FETCHING, TrialState.RUNNING
            job.result_due, job.next_fetch = now + job.lane.result_grace, now
        elif status.state is JobState.CANCELLED or job.purpose is not None or job.stopping:
            self._settler.cancelled(record, status.message)
        else:
            cause = status.cause
            if status.state is JobState.LOST and cause not in jobs.FAULTS_OF_THE_MACHINES:
                cause = Cause.LOST
            words = status.message or status.backend_state or status.state.value
            if cause is Cause.CONFIGURATION:
                self._settler.misconfigured(record, words)
            else:
                self._settler.failed(record, cause, words)

    # ---- what they bring -----------------------------------------------------------------------

    def fetch(self, now: float) -> None:
        """Fetch the results of jobs that have ended without an error.

        Raises:
            RunnerError: a runner is broken.
        """
        for lane in self._lanes:
            self._fetch(lane, now)

    def _fetch(self, lane: Lane, now: float) -> None:
        waiting = {
            r.job.request.key: r
            for r in self._active.at(Stage.FETCHING)
            if r.job.lane is lane and r.job.next_fetch <= now
        }
        handles = handles_of(waiting.values())
        if not handles:
            return
        results: Mapping[str, JobResult | NotReady] | None = None
        if not lane.calls.resting("axsched_fetch_results", now):
            results = lane.fetch_results(handles)
        for key, record in waiting.items():
            if results is not None:
                self._result(record, results.get(key, NotReady()), now)
            elif record.job.purpose is not None:  # the call does not wait for the backend any more
                self._settler.settle_without(record, "its result could not be fetched")

    def _result(self, record: Record, result: JobResult | NotReady, now: float) -> None:
        job = record.job
        if isinstance(result, NotReady):
            if job.purpose is not None:
                self._settler.settle_without(record, "it had no result yet")
            elif now >= job.result_due:
                words = f"the job ended well but left no result ({result.reason or 'none found'})"
                self._settler.failed(record, Cause.RESULT_INVALID, words)
            else:
                job.next_fetch = min(job.result_due, now + timing.FETCH_INTERVAL)
            return
        try:
            found = read_result(
                result,
                objectives=self._objective_names,
                required=self._required_metrics,
                limit=self._config.max_result_bytes,
            )
        except InvalidResult as error:
            again = job.purpose is None
            self._settler.failed(record, Cause.RESULT_INVALID, str(error), again=again)
            return
        self._intermediate.read_rest(record)
        record.results = found.metrics
        self._settler.take_notes(record, found)
        if result.raw is None:
            _keep(job.request, found)
        self._settler.decide(record, TrialState.SUCCEEDED, None, "")


def _may_be_told_too(job: Attempt, status: JobStatus, now: float) -> bool:
    """True for a moment after a job was ended by a signal that usually goes to all processes of a
    machine or a session: if this program got it too, the trial stays open."""
    if status.signal not in TO_ALL or job.purpose is not None:
        return False
    job.signalled_at = now if job.signalled_at is None else job.signalled_at
    return now < job.signalled_at + timing.TOLD_TOO


def _count_suspension(job: Attempt, status: JobStatus, now: float) -> None:
    """Move the job's start by the time for which it was suspended."""
    if job.suspended_since is not None and job.running_since is not None:
        job.running_since += now - job.suspended_since
    job.suspended_since = now if status.suspended else None


def _joined(message: str, remedy: str) -> str:
    return f"{message}: {remedy}" if remedy else message


def _keep(request: JobRequest, found: Result) -> None:
    """Write a result from the network into the folder, so that it is there like any other."""
    content: dict[str, Any] = {name: list(value) for name, value in found.metrics.items()}
    if found.notes is not None:
        content[NOTES] = found.notes
    data = json.dumps(content)
    try:
        jobfolder.write(request.folder, jobfolder.RESULT, data.encode())
    except OSError as error:  # it is in the journal, and the optimizer gets it
        log.warning("Job %s: its result cannot be written: %s", request.key, error)
