"""Submitting jobs: to which runner, how many at once, and what happens to those in doubt."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping, Sequence

from axsched_core.config import SchedulerConfig
from axsched_core.errors import InvalidInput
from axsched_core.jobs import Cause, JobHandle, JobRequest, JobState, JobStatus, SubmitError
from axsched_core.run import retry
from axsched_core.run.active import Active
from axsched_core.run.attempts import Attempts
from axsched_core.run.lane import Lane
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Record, Stage, Submission
from axsched_core.run.settling import Settler
from axsched_core.trials import TrialState

log = logging.getLogger("axsched")

DEFAULT_PARALLELISM = 8
"""Jobs at once if the runner and the user give no number."""


def lane_for(record: Record, free: Mapping[Lane, int]) -> Lane | None:
    """Where the next job of a trial goes: to the first lane with a free place.

    A job that was refused for now goes to the same lane again: the same request under the same key.

    Args:
        record: the trial.
        free: the free places of each lane whose runner takes the objective.

    Returns:
        The lane; None if the trial waits.
    """
    if record.refusals:
        return record.job.lane if free.get(record.job.lane) else None
    return next((lane for lane, places in free.items() if places), None)


class Submitter:
    """Submits the jobs of trials that wait.

    Args:
        config: the scheduler's settings.
        lanes: the run's runners.
        recorder: records what has happened.
        active: the trials in progress.
        attempts: makes the requests.
        settler: settles trials that get no job.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        lanes: Sequence[Lane],
        recorder: Recorder,
        active: Active,
        attempts: Attempts,
        settler: Settler,
    ) -> None:
        self.synchronous = False
        """True: one job at a time."""
        self._config, self._lanes, self._recorder = config, lanes, recorder
        self._active, self._attempts, self._settler = active, attempts, settler

    # ---- how many ------------------------------------------------------------------------------

    def refresh_capacity(self, now: float) -> None:
        """Ask the runners how many more jobs could start now.

        Not if none may be submitted now: the user's limit is reached, or the backend is down.
        """
        if self._left() == 0:
            return
        for lane in self._able():
            if not lane.calls.resting("axsched_submit", now):
                lane.refresh_capacity(self._submitted(lane))

    def free_slots(self) -> int:
        """How many more jobs may be submitted now, from the runners' last answers."""
        return sum(self._free(self._able()).values())

    def _able(self) -> list[Lane]:
        """The lanes whose runner takes the objective."""
        return [lane for lane in self._lanes if lane.can(self._attempts.needs)]

    def _free(self, lanes: Iterable[Lane]) -> dict[Lane, int]:
        """The free places of each of these lanes; their sum stays within the user's limit."""
        left = self._left()
        free: dict[Lane, int] = {}
        for lane in lanes:
            taken = self._submitted(lane) + sum(r.job.lane is lane for r in self._in_doubt())
            places = lane.free_slots(taken)
            if left is not None:
                places = left if places is None else min(places, left)
                left -= places
            elif places is None:
                places = max(0, DEFAULT_PARALLELISM - taken)
            free[lane] = places
        return free

    def _left(self) -> int | None:
        """How many more jobs the user's limit allows; None: it allows all."""
        limit = 1 if self.synchronous else self._config.max_parallelism
        if limit is None:
            return None
        taken = len(self._active.at(Stage.SUBMITTED)) + len(self._in_doubt())
        if self.synchronous:  # the next is made with the result of the one before
            taken += len(self._active.at(Stage.FETCHING))
        return max(0, limit - taken)

    def _submitted(self, lane: Lane) -> int:
        return sum(record.job.lane is lane for record in self._active.at(Stage.SUBMITTED))

    def _in_doubt(self) -> list[Record]:
        """The trials with a job that the backend may have: it takes a place."""
        return [record for record in self._active.at(Stage.WAITING) if record.in_doubt]

    # ---- submit --------------------------------------------------------------------------------

    def anything_new(self, now: float) -> bool:
        """True if a job that no backend has yet could be submitted now."""
        return bool(self._fresh(now))

    def _fresh(self, now: float) -> list[Record]:
        if self._active.halted or self._active.paused:
            return []
        waiting = self._active.at(Stage.WAITING)
        return [r for r in waiting if r.unsent and r.not_before <= now]

    def advance(self, now: float) -> None:
        """Submit what may be submitted now.

        Raises:
            InvalidInput: the run directory cannot be written; no job was started.
            RunnerError: a runner is broken.
        """
        # A submission with an unknown outcome is repeated, under the same key: its job may be the
        # one that takes the places, and when everything is halted, it must be cancelled.
        chosen: dict[Lane, list[Record]] = {lane: [] for lane in self._lanes}
        for record in self._active.at(Stage.WAITING):
            if record.in_doubt and not record.orphaned and record.not_before <= now:
                chosen[record.job.lane].append(record)
        if fresh := sorted(self._fresh(now), key=lambda record: record.index):
            # Lanes that rest are left out first: they would get places that others can use.
            free = self._free(
                lane for lane in self._able() if not lane.calls.resting("axsched_submit", now)
            )
            for record in fresh:
                if (lane := lane_for(record, free)) is not None:
                    free[lane] -= 1
                    chosen[lane].append(record)
        for lane, records in chosen.items():
            if records and not lane.calls.resting("axsched_submit", now):
                self._submit(lane, records, now)

    def _submit(self, lane: Lane, records: list[Record], now: float) -> None:
        requests = [one for r in records if (one := self._request(r, lane)) is not None]
        records = [record for record in records if record.stage is Stage.WAITING]
        if not records:
            return
        self._recorder.writer.flush()  # the keys are on disk before a backend may have the jobs
        for record in records:
            record.job.submission = Submission.IN_DOUBT
        answers = lane.submit(requests)
        if answers is None:
            return
        jitter = random.random()  # one for all: refused together, submitted together
        for record, answer in zip(records, answers, strict=True):
            if isinstance(answer, SubmitError):
                self._refused(record, answer, now, jitter)
            else:
                self._accepted(record, answer)
        lane.last_submission = now
        lane.calls.hasten("axsched_poll", now + self._config.monitoring_interval)

    def _request(self, record: Record, lane: Lane) -> JobRequest | None:
        """The request for the next job of a trial; None if there can be none: the trial is then
        decided."""
        try:
            return self._attempts.next(record, lane)
        except InvalidInput:  # a ValueError, but of the run directory and not of this trial
            raise
        except (TypeError, ValueError) as error:
            words = f"its parameters cannot be written as JSON: {error}"
            self._settler.decide(record, TrialState.FAILED, Cause.SUBMIT_REFUSED, words)
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
            self._settler.cancelled(record, error.message)
        elif error.every_job:
            self._settler.misconfigured(record, error.message)
        elif error.transient:
            self._wait(record, error.message, now, jitter)
        else:
            self._settler.decide(record, TrialState.FAILED, Cause.SUBMIT_REFUSED, error.message)

    def _wait(self, record: Record, why: str, now: float, jitter: float) -> None:
        """The backend has refused a job for now, which does not count: submit it again later."""
        if not record.refusals:
            record.refused_since = now
        record.refusals += 1
        waited = now - record.refused_since
        pause = retry.patience(self._config.retry, record.refusals, waited, jitter)
        if pause is None:
            words = f"{why} (refused for {waited:.3g} s)"
            self._settler.decide(record, TrialState.FAILED, Cause.SUBMIT_REFUSED, words)
            return
        words = f"refused for now: {why}"
        if record.message != words:
            log.warning("Trial %d: %s; it waits.", record.index, words)
        record.message, record.not_before = words, now + pause
        self._recorder.job_refused_for_now(record, words, now)

    # ---- jobs in doubt -------------------------------------------------------------------------

    def reattach(self, now: float) -> None:
        """Find out what happened to jobs after their driver died while it submitted them.

        Raises:
            InvalidInput: the run directory cannot be written.
            RunnerError: a runner is broken.
        """
        for lane in self._lanes:
            records = [
                r
                for r in self._active.at(Stage.WAITING)
                if r.in_doubt and r.job.lane is lane and self._is_to_be_found(r)
            ]
            if records and not lane.calls.resting("axsched_reattach", now):
                self._reattach(lane, records, now)

    def _is_to_be_found(self, record: Record) -> bool:
        if record.orphaned and not self._active.is_left(record):
            return True
        return record.job.lane.can_reattach and record.job.purpose is not None

    def _reattach(self, lane: Lane, records: list[Record], now: float) -> None:
        found = lane.reattach([record.job.request for record in records])
        if found is None:
            return
        lane.calls.rest_until("axsched_reattach", now + self._config.monitoring_interval)
        for record in records:
            answer = found.get(record.job.request.key)
            if isinstance(answer, JobHandle):
                record.orphaned = False
                self._accepted(record, answer)
            elif answer is not None or not lane.can_reattach:
                self._give_up(record, certain=answer is not None)

    def _give_up(self, record: Record, *, certain: bool) -> None:
        """Continue without a job that never existed, or that may never have existed."""
        certain = self._settler.claim(record, "taken over") or certain
        if record.job.purpose is not None and not certain:
            self._settler.cannot_be_stopped(record)
            return
        record.orphaned = False
        record.job.submission = Submission.REFUSED
        if record.job.purpose is not None:
            self._settler.cancelled(record, "")
            return
        words = "its driver died while submitting it, and " + (
            "it never ran" if certain else "it is not known whether it ran"
        )
        record.job.status = JobStatus(JobState.LOST, cause=Cause.LOST)
        if certain:  # no attempt that counts
            self._recorder.attempt_ended(record, JobState.LOST, Cause.LOST, words, again=True)
        elif self._config.on_unknown == "fail":
            self._settler.decide(record, TrialState.FAILED, Cause.LOST, words)
        else:
            self._settler.failed(record, Cause.LOST, words)
