"""The runner: four small methods, and two hooks that this queue makes easy."""

import json
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from axsched_core.errors import BackendUnavailable, Refused
from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import CancelOutcome, JobHandle, JobRequest, JobResult, JobState, JobStatus
from axsched_core.jobs import NotReady, NotSubmitted, RunnerInfo
from axsched_core.simple import OneByOneRunner

from axsched_robot.info import INFO, RobotOptions

STATES = {
    "STAGED": JobState.QUEUED,
    "RUNNING": JobState.RUNNING,
    "COMPLETED": JobState.SUCCEEDED,
    "FAILED": JobState.FAILED,
    "ABANDONED": JobState.CANCELLED,
}


class RobotRunner(OneByOneRunner):
    """Has the robot evaluate parameters. A job's label on the queue is its key."""

    def __init__(self, options: RobotOptions) -> None:
        super().__init__()
        self._options, self._opener = options, build_opener(ProxyHandler({}))

    def _ask(self, method: str, **arguments: Any) -> Any:
        body = json.dumps({"method": method, "arguments": arguments}).encode()
        try:
            with self._opener.open(self._options.url, body, self._options.timeout) as answer:
                return json.load(answer)
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, HTTPError) and error.code == 400:
                raise Refused(error.read().decode()) from error  # for good
            # No answer, or half of one: nobody knows whether it was done.
            raise BackendUnavailable(f"{self._options.url} does not answer: {error!r}") from error

    def _find(self, key: str) -> JobHandle | None:
        job_id = self._ask("find_job", label=key)
        return None if job_id is None else JobHandle(key, job_id)

    @hookimpl
    def axsched_runner_info(self) -> RunnerInfo:
        return INFO

    def submit_one(self, request: JobRequest) -> JobHandle:
        if request.objective is not None:
            raise Refused("The robot evaluates parameters; it takes no other objective.")
        # The answer to an earlier submission may have been lost: nothing is mixed twice.
        if found := self._find(request.key):
            return found
        parameters = dict(request.parameters)
        job_id = self._ask("schedule_job_with_parameters", parameters=parameters, label=request.key)
        return JobHandle(request.key, job_id)

    def poll_one(self, handle: JobHandle) -> JobStatus:
        job = self._ask("get_job_status", job_id=handle.backend_id)
        if job is None:
            return JobStatus(JobState.LOST, message="the queue does not know this job")
        return JobStatus(STATES[job["status"]], message=job["message"], backend_state=job["status"])

    def fetch_one(self, handle: JobHandle) -> JobResult | NotReady:
        value = self._ask("get_outcome_value_for_completed_job", job_id=handle.backend_id)
        return NotReady("not measured yet") if value is None else JobResult(metrics=value)

    def cancel_one(self, handle: JobHandle, reason: str) -> CancelOutcome:
        before = self._ask("cancel_job", job_id=handle.backend_id, reason=reason)
        if before is None:
            return CancelOutcome.UNKNOWN_JOB
        return CancelOutcome.ALREADY_ENDED if STATES[before].ended else CancelOutcome.REQUESTED

    @hookimpl
    def axsched_capacity(self) -> int:
        return int(self._ask("get_free_places"))

    @hookimpl
    def axsched_reattach(self, requests: Sequence[JobRequest]) -> dict[str, Any]:
        # The queue never forgets a label. Where yours may, leave out what it does not know.
        return {one.key: self._find(one.key) or NotSubmitted() for one in requests}
