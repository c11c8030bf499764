"""Calls the hooks of one runner, like the engine."""

from __future__ import annotations

import json
import queue
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import cloudpickle

from axsched_core import jobfolder
from axsched_core.jobs import (
    Capability,
    FunctionObjective,
    JobHandle,
    JobRequest,
    JobResult,
    JobState,
    JobStatus,
    Metrics,
    NotReady,
    Objective,
    Resources,
    RunnerContext,
    ScriptObjective,
)
from axsched_core.objectives.results import metrics_of
from axsched_core.runners.session import RunnerSession
from axsched_core.testing import payloads

RESULT_LIMIT = 200_000
"""Bytes; the ``max_result_bytes`` of the kit's sessions."""
LOG_LIMIT = 64 << 20
"""The limit of bytes that the kit reads of a log."""


class Bench:
    """An open session with a runner, and actions for tests.

    Its run directory is ``run_dir``, and the run's id ``run_id``. The runner was opened with
    ``context``. ``session`` has a method for each hook (``session.poll(handles)``), which checks
    the answer. ``handles`` holds all submitted jobs, ``woken`` is a queue of the keys that the
    runner has pushed.

    Args:
        runner: the runner under test.
        folder: where the run directory is made.
        patience: seconds that jobs may take to react.
    """

    def __init__(self, runner: object, folder: Path, patience: float) -> None:
        self.session = RunnerSession(runner)
        self.patience = patience
        self.run_id = uuid.uuid4().hex[:10]
        self.run_dir = folder / self.run_id
        self.run_dir.mkdir(parents=True)
        self.woken: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.handles: list[JobHandle] = []
        self._numbers = 0
        self._closed = False
        self._pickle = self.run_dir / "function.pkl"
        cloudpickle.register_pickle_by_value(payloads)
        try:
            self._pickle.write_bytes(cloudpickle.dumps(payloads.act))
        finally:
            cloudpickle.unregister_pickle_by_value(payloads)
        self.context = RunnerContext(
            run_id=self.run_id,
            run_dir=self.run_dir,
            wake=self.woken.put,
            monitoring_interval=0.1,
            max_result_bytes=RESULT_LIMIT,
        )
        self.session.open(self.context)

    @property
    def kind(self) -> Capability:
        """The kind of objective for the tests: the first that the runner can run."""
        order = (Capability.FUNCTION, Capability.SCRIPT, Capability.PARAMETERS)
        return next((one for one in order if self.session.can(one)), Capability.CONTAINER)

    def objective(self) -> Objective | None:
        """What jobs evaluate: the kit's `payloads`, if the runner takes an objective."""
        if self.kind is Capability.FUNCTION:
            python = (sys.version_info.major, sys.version_info.minor)
            return FunctionObjective("act", False, python)
        if self.kind is Capability.SCRIPT:
            script = str(Path(payloads.__file__))
            return ScriptObjective((sys.executable, script), script=script)
        return None

    def request(
        self,
        parameters: Mapping[str, Any],
        *,
        objective: Objective | None = None,
        time_limit: float | None = None,
    ) -> JobRequest:
        """Make a request, and its folder."""
        self._numbers += 1
        chosen = objective if objective is not None else self.objective()
        request = JobRequest(
            key=f"{self.run_id}-{self._numbers}-1",
            trial_index=self._numbers,
            attempt=1,
            parameters=dict(parameters),
            folder=self.run_dir / "jobs" / f"{self._numbers:05d}-1",
            objective=chosen,
            resources=Resources(time_limit=time_limit),
        )
        is_function = isinstance(chosen, FunctionObjective)
        jobfolder.prepare(
            request,
            function_file=self._pickle if is_function else None,
            max_result_bytes=RESULT_LIMIT,
        )
        return request

    def folder(self, handle: JobHandle) -> Path:
        """The folder of one of this bench's jobs."""
        _, number, attempt = handle.key.rsplit("-", 2)
        return self.run_dir / "jobs" / f"{int(number):05d}-{attempt}"

    def submit(self, *requests: JobRequest) -> list[JobHandle]:
        """Submit requests that must be accepted."""
        answers = self.session.submit(requests)
        handles = [answer for answer in answers if isinstance(answer, JobHandle)]
        assert len(handles) == len(requests), f"refused: {answers}"
        self.handles += handles
        return handles

    def start(self, parameters: Mapping[str, Any], **more: Any) -> JobHandle:
        """Submit one job."""
        return self.submit(self.request(parameters, **more))[0]

    def wait(
        self, handles: Sequence[JobHandle], until: Callable[[JobStatus], bool] | None = None
    ) -> dict[str, JobStatus]:
        """Poll until every job is in the expected state: by default, until it has ended."""
        right = until or (lambda status: status.state.ended)
        deadline = time.monotonic() + self.patience
        seen: dict[str, JobStatus] = {}
        while True:
            seen |= self.session.poll(handles)
            if all(h.key in seen and right(seen[h.key]) for h in handles):
                return seen
            left = deadline - time.monotonic()
            assert left > 0, f"not there after {self.patience:g} s: {seen}"
            try:
                self.woken.get(timeout=min(0.1, left))
            except queue.Empty:
                continue

    def status(self, handle: JobHandle) -> JobStatus:
        """Wait for one job's end; return how it ended."""
        return self.wait([handle])[handle.key]

    def running(self, *handles: JobHandle) -> None:
        """Wait until these jobs run."""
        self.wait(handles, lambda status: status.state is not JobState.QUEUED)

    def fetch(self, handle: JobHandle, patience: float | None = None) -> JobResult | NotReady:
        """Fetch a result; waits while it is not ready."""
        grace = self.session.info.result_grace if patience is None else patience
        deadline = time.monotonic() + min(grace, self.patience)
        while True:
            result = self.session.fetch_results([handle]).get(handle.key, NotReady())
            if isinstance(result, JobResult) or time.monotonic() >= deadline:
                return result
            time.sleep(0.05)

    def metrics(self, handle: JobHandle) -> Metrics:
        """The validated metrics of a job that has ended without an error.

        Raises:
            InvalidResult: it has no valid metrics.
        """
        result = self.fetch(handle)
        assert isinstance(result, JobResult), f"no result: {result}"
        return metrics_of(result, objectives=["loss"], required=["loss"], limit=RESULT_LIMIT)

    def log(self, handle: JobHandle, stream: str) -> bytes:
        """All of a job's stdout or stderr; through the hook if there is one."""
        if not self.session.has("axsched_read_log"):
            name = jobfolder.log_name(stream)
            return jobfolder.read_part(self.folder(handle), name, 0, LOG_LIMIT)
        data, chunk = b"", b"."
        while chunk:
            chunk = self.session.read_log(handle, stream, len(data), 1 << 20)
            data += chunk
        return data

    def close(self, wait: bool = True) -> None:
        """Cancel running jobs, and close the session."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.handles:
                self.session.cancel(self.handles, "the test is over")
        finally:
            self.session.close(wait)


def through_json(handle: JobHandle) -> JobHandle:
    """A handle after a round trip through JSON, as in a journal."""
    return JobHandle(**json.loads(json.dumps(attrs.asdict(handle))))
