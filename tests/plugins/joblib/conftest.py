"""Helpers that drive the joblib runner through its hooks, as an engine would."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest
from axsched_joblib import JobLibRunner

from axsched_core import jobfolder
from axsched_core.jobs import (
    CancelOutcome,
    FunctionObjective,
    JobHandle,
    JobRequest,
    JobResult,
    JobStatus,
    Resources,
    RunnerContext,
    ScriptObjective,
    SubmitError,
)

PATIENCE = 60.0
"""Seconds after which a test gives up waiting."""


class Session:
    """One open runner and its jobs."""

    def __init__(self, root: Path, runner: JobLibRunner) -> None:
        self.root = root
        self.runner = runner
        self.handles: dict[str, JobHandle] = {}
        self.woken: queue.Queue[str] = queue.Queue()
        self._count = 0
        self.open()

    def open(self) -> None:
        self.runner.axsched_open(
            RunnerContext("run", self.root, self.woken.put, 0.5, max_result_bytes=1_000_000)
        )

    def close(self, wait: bool = True) -> None:
        self.runner.axsched_close(wait)

    def request(
        self,
        objective: Callable[..., Any] | ScriptObjective,
        parameters: Mapping[str, Any] | None = None,
        *,
        time_limit: float | None = None,
    ) -> JobRequest:
        self._count += 1
        function_file = None
        if not isinstance(objective, ScriptObjective):
            function_file = self.root / f"{self._count}.pkl"
            function_file.write_bytes(cloudpickle.dumps(objective))
            objective = FunctionObjective(objective.__name__, False, sys.version_info[:2])
        request = JobRequest(
            key=f"run-{self._count}-1",
            trial_index=self._count,
            attempt=1,
            parameters=parameters or {},
            folder=self.root / f"job{self._count}",
            objective=objective,
            resources=Resources(time_limit=time_limit),
        )
        jobfolder.prepare(request, function_file=function_file, max_result_bytes=1_000_000)
        return request

    def submit(self, *args: Any, **keywords: Any) -> JobHandle:
        return self.submit_requests([self.request(*args, **keywords)])[0]

    def submit_requests(self, requests: Sequence[JobRequest]) -> list[JobHandle]:
        answers = self.runner.axsched_submit(requests)
        handles = [answer for answer in answers if not isinstance(answer, SubmitError)]
        assert len(handles) == len(requests), answers
        self.handles |= {handle.key: handle for handle in handles}
        return handles

    def status(self, handle: JobHandle) -> JobStatus:
        return self.runner.axsched_poll([handle])[handle.key]

    def cancel(self, handle: JobHandle, reason: str = "the test") -> CancelOutcome:
        return self.runner.axsched_cancel([handle], reason)[handle.key]

    def wait(self, *handles: JobHandle, timeout: float = PATIENCE) -> list[JobStatus]:
        """Wait for the ends of jobs, looking only when the runner has called ``wake``."""
        deadline = time.monotonic() + timeout
        statuses = self.runner.axsched_poll(handles)
        pending = {h.key: h for h in handles if not statuses[h.key].state.ended}
        while pending:
            try:
                key = self.woken.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no news of {list(pending)}") from None
            if key in pending:
                statuses[key] = self.status(pending[key])
                if statuses[key].state.ended:
                    del pending[key]
        return [statuses[handle.key] for handle in handles]

    def comes_to_have(self, free: int) -> bool:
        """Wait for so many free places: a job's end may be seen before its place is given back."""
        deadline = time.monotonic() + PATIENCE
        while self.runner.axsched_capacity() != free and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.runner.axsched_capacity() == free

    @staticmethod
    def ended(pid: int, within: float = 5.0) -> bool:
        return ended(pid, within)

    def result(self, handle: JobHandle) -> Any:
        result = self.runner.axsched_fetch_results([handle])[handle.key]
        assert isinstance(result, JobResult), result
        assert result.raw is not None
        return json.loads(result.raw)

    def supervisor(self, handle: JobHandle) -> psutil.Process:
        """The process that has written ``pid.json``."""
        pid = json.loads((self.folder(handle) / jobfolder.PID).read_text())["pid"]
        return psutil.Process(pid)

    def folder(self, handle: JobHandle) -> Path:
        """The job's folder."""
        return jobfolder.located(handle.data["folder"], self.root)


def ended(pid: int, within: float) -> bool:
    """Wait until a process has ended; a zombie has."""
    try:
        process = psutil.Process(pid)
        deadline = time.monotonic() + within
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
    except psutil.NoSuchProcess:
        return True
    return True


def end_processes(root: Path) -> list[int]:
    """Kill what jobs below a directory have left alive, and say what that was."""
    left = []
    for path in root.rglob("pid.json"):
        pid = json.loads(path.read_text())["pid"]
        if pid != os.getpid() and not ended(pid, within=2.0):
            left.append(pid)
            os.kill(pid, signal.SIGTERM)  # a supervisor ends its job
    return left


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Callable[..., Session]]:
    """Open a runner: ``session(n_jobs=2)``. At the end no process of a job may be left."""
    sessions: list[Session] = []

    def make(n_jobs: int = 2, **options: Any) -> Session:
        runner = JobLibRunner(n_jobs, **options)
        root = tmp_path / f"session{len(sessions)}"
        root.mkdir()
        sessions.append(Session(root, runner))
        return sessions[-1]

    yield make
    for one in sessions:
        for handle in one.handles.values():
            folder = one.folder(handle)
            if folder.is_dir() and jobfolder.read_exit(folder) is None:
                jobfolder.request_cancel(folder, "the test is over")
        one.close(wait=True)
    assert not end_processes(tmp_path)
