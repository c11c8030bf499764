"""A runner that keeps the whole contract in few lines, and many that each break one promise.

A job is a real process, supervised by the core's own worker; the "backend" is the list of job
folders. Each broken runner is a subclass that differs in one thing.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from axsched_core import jobfolder
from axsched_core.errors import BackendUnavailable
from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import (
    CancelOutcome,
    Capability,
    FunctionObjective,
    JobHandle,
    JobRequest,
    JobResult,
    JobState,
    JobStatus,
    NotReady,
    NotSubmitted,
    RunnerContext,
    RunnerInfo,
    ScriptObjective,
    SubmitError,
)
from axsched_core.worker import axsched_worker as worker

INFO = RunnerInfo(
    "right",
    ["function", "script", "reattach", "logs", "push"],
    "for tests: one process a job",
    result_grace=0.5,
)


@hookimpl
def axsched_runner_info() -> RunnerInfo:
    return INFO


@hookimpl
def axsched_make_runner(options: Any) -> object:
    return RightRunner()


class RightRunner:
    PLACES = 40
    ALL_JOBS: list[JobHandle] = []
    """The jobs of all runs in this process."""

    def __init__(self) -> None:
        self.calls = 0
        self.down = False
        self.lose_answer = False
        self.wake: Callable[[str], None] = lambda key: None
        self.run_dir = Path()
        self.mine: dict[str, JobHandle] = {}
        self.env: Mapping[str, str] = {}

    def _call(self) -> None:
        self.calls += 1
        if self.down:
            raise BackendUnavailable("the backend is down")

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        self.down = True
        yield
        self.down = False

    @contextlib.contextmanager
    def answer_lost(self) -> Iterator[None]:
        self.lose_answer = True
        yield
        self.lose_answer = False

    @hookimpl
    def axsched_runner_info(self) -> RunnerInfo:
        return INFO

    @hookimpl
    def axsched_open(self, context: RunnerContext) -> None:
        self.wake, self.run_dir = context.wake, context.run_dir

    @hookimpl
    def axsched_close(self, wait: bool) -> None:
        for handle in self.mine.values():
            self.stop(handle)

    @hookimpl
    def axsched_submit(self, requests: Sequence[JobRequest]) -> list[JobHandle | SubmitError]:
        self._call()
        answers = [self.submit(request) for request in requests]
        if self.lose_answer:
            raise ConnectionResetError("the answer is lost")
        return answers

    def submit(self, request: JobRequest) -> JobHandle | SubmitError:
        if not isinstance(request.objective, FunctionObjective | ScriptObjective):
            return SubmitError("this runner takes functions and scripts only")
        if request.key in self.mine:
            return self.mine[request.key]
        handle = JobHandle(request.key, request.folder.name, {"folder": str(request.folder)})
        self.mine[request.key] = handle
        self.ALL_JOBS.append(handle)
        self.env = jobfolder.environment(request)
        self.start(handle)
        return handle

    def start(self, handle: JobHandle) -> None:
        descriptor = worker.start_spawned(handle.data["folder"], env=self.env)

        def watch() -> None:
            worker.wait_for_end(descriptor)
            self.wake(handle.key)

        threading.Thread(target=watch, daemon=True).start()

    @hookimpl
    def axsched_poll(self, handles: Sequence[JobHandle]) -> Mapping[str, JobStatus] | None:
        self._call()
        return {h.key: s for h in handles if (s := self.status(h)) is not None}

    def status(self, handle: JobHandle) -> JobStatus | None:
        folder = Path(handle.data.get("folder", "/none"))
        if (end := jobfolder.read_exit(folder)) is not None:
            return end
        if (folder / "claim").exists():
            return JobStatus(JobState.RUNNING)
        return JobStatus(JobState.QUEUED) if folder.exists() else None

    @hookimpl
    def axsched_fetch_results(
        self, handles: Sequence[JobHandle]
    ) -> Mapping[str, JobResult | NotReady]:
        self._call()
        return {
            h.key: jobfolder.read_result(Path(h.data.get("folder", "/none")), 300_000)
            for h in handles
        }

    @hookimpl
    def axsched_cancel(self, handles: Sequence[JobHandle], reason: str) -> dict[str, CancelOutcome]:
        self._call()
        return {handle.key: self.stop(handle) for handle in handles}

    def stop(self, handle: JobHandle) -> CancelOutcome:
        folder = Path(handle.data.get("folder", "/none"))
        if not folder.exists():
            return CancelOutcome.UNKNOWN_JOB
        if jobfolder.read_exit(folder) is not None:
            return CancelOutcome.ALREADY_ENDED
        jobfolder.request_cancel(folder, "stop")
        return CancelOutcome.REQUESTED

    @hookimpl
    def axsched_capacity(self) -> int:
        running = [h for h in self.mine.values() if not jobfolder.read_exit(Path(h.data["folder"]))]
        return self.PLACES - len(running)

    @hookimpl
    def axsched_reattach(
        self, requests: Sequence[JobRequest]
    ) -> dict[str, JobHandle | NotSubmitted]:
        self._call()
        found: dict[str, JobHandle | NotSubmitted] = {}
        for request in requests:
            handle = JobHandle(request.key, request.folder.name, {"folder": str(request.folder)})
            claimed = (request.folder / "claim").exists()
            found[request.key] = handle if claimed else NotSubmitted()
        return found

    @hookimpl
    def axsched_read_log(self, handle: JobHandle, stream: str, offset: int, limit: int) -> bytes:
        with (Path(handle.data["folder"]) / f"{stream}.log").open("rb") as file:
            file.seek(offset)
            return file.read(limit)

    @hookimpl
    def axsched_read_progress(
        self, handles: Sequence[JobHandle], offsets: Mapping[str, int]
    ) -> dict[str, bytes]:
        found = {}
        for handle in handles:
            path = Path(handle.data["folder"]) / "progress.jsonl"
            data = path.read_bytes()[offsets[handle.key] :] if path.exists() else b""
            found[handle.key] = data[: data.rfind(b"\n") + 1]
        return found

    @hookimpl
    def axsched_find_leftovers(self, run_id: str) -> list[str]:
        return [handle.key for handle in self.left_of(run_id)]

    @hookimpl
    def axsched_remove_leftovers(self, run_id: str) -> list[str]:
        left = self.left_of(run_id)
        for handle in left:
            self.stop(handle)
        return [handle.key for handle in left]

    def left_of(self, run_id: str) -> list[JobHandle]:
        return [
            handle
            for handle in self.ALL_JOBS
            if handle.key.startswith(run_id)
            and jobfolder.read_exit(Path(handle.data["folder"])) is None
        ]


# ---- each breaks one promise -----------------------------------------------------------------


class DoneWhenGone(RightRunner):
    def status(self, handle):
        return super().status(handle) or JobStatus(JobState.SUCCEEDED)


class DropsOne(RightRunner):
    @hookimpl
    def axsched_submit(self, requests):
        return [self.submit(request) for request in requests][:-1]


class MixesUpTheOrder(RightRunner):
    @hookimpl
    def axsched_submit(self, requests):
        return sorted((self.submit(r) for r in requests), key=lambda h: h.key)


class OneBadSpoilsAll(RightRunner):
    def submit(self, request):
        answer = super().submit(request)
        if isinstance(answer, SubmitError):
            raise ValueError(answer.message)
        return answer


class CallsAFinalRefusalTransient(RightRunner):
    def submit(self, request):
        answer = super().submit(request)
        return attrs.evolve(answer, transient=True) if isinstance(answer, SubmitError) else answer


class SubmitsTwice(RightRunner):
    """Starts a second job under the same key, and takes care that the claim does not stop it."""

    def submit(self, request):
        if self.mine.pop(request.key, None) is not None:
            claim = request.folder / "claim"
            while not claim.exists():
                time.sleep(0.01)
            claim.unlink()
            (request.folder / "exit.json").unlink(missing_ok=True)
        return super().submit(request)


class ForgetsWhatItTook(SubmitsTwice):
    """The same, but only if the answer was lost."""

    def __init__(self):
        super().__init__()
        self.lost = set()

    def submit(self, request):
        if request.key in self.lost:
            return super().submit(request)
        if self.lose_answer:
            self.lost.add(request.key)
        return RightRunner.submit(self, request)


class SwallowsAnOutage(RightRunner):
    @hookimpl
    def axsched_poll(self, handles):
        try:
            return super().axsched_poll(handles)
        except BackendUnavailable:
            return {}


class TakesAnOutageForTheEnd(RightRunner):
    @hookimpl
    def axsched_poll(self, handles):
        if self.down:
            return {h.key: JobStatus(JobState.LOST) for h in handles}
        return super().axsched_poll(handles)


class Leaks(RightRunner):
    """Leaves jobs running when it is closed."""

    @hookimpl
    def axsched_cancel(self, handles, reason):
        return {handle.key: CancelOutcome.REQUESTED for handle in handles}

    @hookimpl
    def axsched_close(self, wait):
        pass


class CancelsAllForOne(RightRunner):
    @hookimpl
    def axsched_cancel(self, handles, reason):
        return {handle.key: self.stop(handle) for handle in self.mine.values()}


class ChokesOnTheFinished(RightRunner):
    def stop(self, handle):
        outcome = super().stop(handle)
        if outcome is CancelOutcome.ALREADY_ENDED:
            raise RuntimeError("it has ended")
        return outcome


class CallsAllThatEndDone(RightRunner):
    def status(self, handle):
        status = super().status(handle)
        if status is not None and status.state is JobState.FAILED:
            return JobStatus(JobState.SUCCEEDED)
        return status


class LosesTheExitCode(RightRunner):
    def status(self, handle):
        status = super().status(handle)
        return attrs.evolve(status, exit_code=None) if status else None


class MakesUpAResult(RightRunner):
    @hookimpl
    def axsched_fetch_results(self, handles):
        found = super().axsched_fetch_results(handles)
        lame = JobResult(metrics={"loss": 0.0})
        return {k: r if isinstance(r, JobResult) else lame for k, r in found.items()}


class ForgetsWhatHasEnded(RightRunner):
    def status(self, handle):
        status = super().status(handle)
        if status is not None and status.state.ended:
            if handle.key in self.told:
                return JobStatus(JobState.LOST)
            self.told.add(handle.key)
        return status

    def __init__(self):
        super().__init__()
        self.told = set()


class ReturnsNone(RightRunner):
    @hookimpl
    def axsched_poll(self, handles):
        return super().axsched_poll(handles) or None


class QuotesBadly(RightRunner):
    """Sends parameters through something like a shell's echo."""

    def start(self, handle):
        path = Path(handle.data["folder"]) / "params.json"
        parameters = json.loads(path.read_text())
        tidy = {k: v.strip().replace("\r\n", "\n") if isinstance(v, str) else v
                for k, v in parameters.items()}  # fmt: skip
        path.write_text(json.dumps(tidy))
        super().start(handle)


class MixesTheStreams(RightRunner):
    @hookimpl
    def axsched_read_log(self, handle, stream, offset, limit):
        return super().axsched_read_log(handle, "stdout", offset, limit)


class ReadsHalfLines(RightRunner):
    @hookimpl
    def axsched_read_progress(self, handles, offsets):
        found = {}
        for handle in handles:
            path = Path(handle.data["folder"]) / "progress.jsonl"
            found[handle.key] = path.read_bytes()[offsets[handle.key] :] if path.exists() else b""
        return found


class AsksJobByJob(RightRunner):
    @hookimpl
    def axsched_poll(self, handles):
        self.calls += len(handles)
        return super().axsched_poll(handles)


class HandlesThatJsonCannotHold(RightRunner):
    def submit(self, request):
        handle = super().submit(request)
        if isinstance(handle, SubmitError):
            return handle
        return attrs.evolve(handle, data={**handle.data, "path": request.folder})


class LosesTheEnvironment(RightRunner):
    def start(self, handle):
        self.env = {}
        super().start(handle)


class WritesTheEnvironmentDown(RightRunner):
    def start(self, handle):
        Path(handle.data["folder"], "command").write_text(str(dict(self.env)))
        super().start(handle)


class NeverWakes(RightRunner):
    @hookimpl
    def axsched_open(self, context):
        super().axsched_open(attrs.evolve(context, wake=lambda key: None))


class IgnoresTimeLimits(RightRunner):
    def start(self, handle):
        path = Path(handle.data["folder"]) / "job.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "time_limit": None}))
        super().start(handle)


class CapacityThatNeverChanges(RightRunner):
    @hookimpl
    def axsched_capacity(self):
        return self.PLACES


class GuessesInAnOutage(RightRunner):
    @hookimpl
    def axsched_reattach(self, requests):
        if self.down:
            return {request.key: NotSubmitted() for request in requests}
        return super().axsched_reattach(requests)


class PromisesMoreThanItHas(RightRunner):
    @hookimpl
    def axsched_runner_info(self):
        return RunnerInfo("right", ["function", "reattach", "logs", Capability.PUSH])

    # The hook loses its mark, as when a decorator is forgotten.
    def axsched_reattach(self, requests):
        return {}


class BoundToItsThread(RightRunner):
    def __init__(self):
        super().__init__()
        self.thread = threading.get_ident()

    @hookimpl
    def axsched_poll(self, handles):
        if threading.get_ident() != self.thread:
            raise RuntimeError("called from another thread")
        return super().axsched_poll(handles)


class OnlySaysThatItRemoves(RightRunner):
    @hookimpl
    def axsched_remove_leftovers(self, run_id):
        return self.axsched_find_leftovers(run_id)
