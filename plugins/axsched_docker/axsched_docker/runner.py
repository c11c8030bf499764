"""The runner: what the hooks say of jobs is read from their folders, and from one list call.

A job's container is named after its key, which the engine takes once; its end is told when its
files are in its folder, ``exit.json`` last. Hence it does not matter which driver has started a
container, and a handle is valid before the container is made.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from axsched_core import jobfolder
from axsched_core import options as core_options
from axsched_core.errors import InvalidInput
from axsched_core.folders import Folder
from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import (
    CancelOutcome,
    Cause,
    JobHandle,
    JobRequest,
    JobResult,
    JobState,
    JobStatus,
    NotReady,
    NotSubmitted,
    Objective,
    RunnerContext,
    RunnerInfo,
    SubmitError,
)
from axsched_docker import lifecycle, logs
from axsched_docker.archive import BOX, JOB
from axsched_docker.containers import Containers
from axsched_docker.engine import Engine, seconds
from axsched_docker.info import INFO
from axsched_docker.job import Job, Phase
from axsched_docker.options import DockerOptions
from axsched_docker.spec import check_objective, container_name, make_plan
from axsched_docker.watcher import Watcher

NEVER_RAN_BY = "given up: the driver that submitted it has ended before it ran"
NOT_YET = ("created", "configured", "initialized")
"""Docker's, and Podman's, words for a container that was not started."""


class DockerRunner:
    """Runs each job in a container of its own, on a Docker engine.

    Args:
        options: the options, ready made or as a mapping;
        values: or by their names, see `DockerOptions`.

    Raises:
        InvalidInput: an option that does not exist, or has no meaning.
    """

    def __init__(
        self, options: DockerOptions | Mapping[str, Any] | None = None, **values: Any
    ) -> None:
        self._options = core_options.build(DockerOptions, options or values, "DockerRunner")
        self._context: RunnerContext | None = None
        self._engine: Engine | None = None
        self._watcher: Watcher | None = None
        self._cpus = math.inf
        """How many the engine's machine has; known once the runner is open."""
        self._containers: Containers | None = None
        """None while the runner is not open."""

    def __repr__(self) -> str:
        return f"DockerRunner(image={self._options.image!r})"

    # ---- opening and closing -------------------------------------------------------------

    @hookimpl
    def axsched_runner_info(self) -> RunnerInfo:
        """See `axsched_core.hookspecs.RunnerSpec`, here and below."""
        return INFO

    @hookimpl
    def axsched_open(self, context: RunnerContext) -> None:
        engine = Engine(self._options)
        info = engine.info()
        self._cpus = float(info.get("NCPU") or math.inf)
        if (self._options.cpus or 0) > self._cpus:
            raise InvalidInput(self._too_many_cpus(self._options.cpus))
        self._context, self._engine = context, engine
        self._folders = jobfolder.JobFolders(context.run_dir)
        self._containers = Containers(
            engine,
            context.run_id,
            context.run_dir,
            self._options,
            _places(self._options, info),
            context.wake,
        )
        now = seconds(info.get("SystemTime"))
        self._watcher = Watcher(
            engine, context.run_id, now, self._containers.happened, self._containers.look_around
        )
        self._containers.on_silence = self._watcher.reopen

    @hookimpl
    def axsched_close(self, wait: bool) -> None:
        containers, self._containers = self._containers, None
        if containers is None:
            return
        watcher, engine = self._watcher, self._engine
        assert watcher is not None
        assert engine is not None

        def let_go() -> None:
            watcher.close()
            engine.close()

        containers.close(wait, then=let_go)

    # ---- jobs ----------------------------------------------------------------------------

    @hookimpl
    def axsched_check_objective(self, objective: Objective) -> None:
        check_objective(objective, self._options)

    @hookimpl
    def axsched_submit(self, requests: Sequence[JobRequest]) -> list[JobHandle | SubmitError]:
        return [self._submit(request) for request in requests]

    def _submit(self, request: JobRequest) -> JobHandle | SubmitError:
        try:
            plan = make_plan(request, self._options)
        except InvalidInput as error:
            return SubmitError(str(error), every_job=True)
        cpus = plan.body["HostConfig"].get("NanoCpus", 0) / 1e9
        if cpus > self._cpus:
            return SubmitError(self._too_many_cpus(cpus), every_job=True)
        if jobfolder.read_exit(request.folder) is None:  # else it has ended already
            self._open_containers().add(request.key, plan)
        return self._handle(request)

    def _too_many_cpus(self, wanted: float | None) -> str:
        return f"cpus={wanted:g}: the engine's machine has only {self._cpus:g}"

    def _handle(self, request: JobRequest) -> JobHandle:
        kind = request.objective.capability.value if request.objective is not None else ""
        return self._folders.handle(request, container_name(request.key), kind=kind)

    @hookimpl
    def axsched_poll(self, handles: Sequence[JobHandle]) -> dict[str, JobStatus]:
        containers = self._open_containers()
        statuses, unknown = {}, []
        for handle in filter(self._folders.knows, handles):
            folder = self._folders.of(handle)
            status = jobfolder.read_exit(folder)
            if status is not None:
                statuses[handle.key] = status
            else:
                job = containers.adopt(handle.key, folder)
                unknown.append((job, job.phase))  # as it is before the list is made
        if unknown:
            states = containers.look()
            for job, phase in unknown:
                statuses[job.key] = self._status(job, phase, states.get(job.key))
        return statuses

    def _status(self, job: Job, phase: Phase, state: str | None) -> JobStatus:
        begun = phase in (Phase.STARTED, Phase.ENDED)
        if state is None and begun:
            # Its files may have been fetched, and its container removed, since we looked.
            return jobfolder.read_exit(job.folder) or self._lost(job)
        if state in NOT_YET and begun and job.plan is None:
            self._open_containers().discard(job)
            _never_to_run(job.folder)
            return _lost(NEVER_RAN_BY)
        if state is None or state in NOT_YET:
            return JobStatus(JobState.QUEUED, message=job.waits_for)
        paused = state == "paused"
        return JobStatus(
            JobState.RUNNING,
            message=job.waits_for or ("paused" if paused else ""),
            backend_state=state,
            suspended=paused,
            host=self._engine.host if self._engine is not None else "",
        )

    def _lost(self, job: Job) -> JobStatus:
        self._open_containers().lost(job)
        try:
            never_ran = jobfolder.try_claim(job.folder, NEVER_RAN_BY)
        except FileNotFoundError:
            never_ran = False
        if never_ran or jobfolder.never_ran(job.folder):
            return _lost(NEVER_RAN_BY)
        return _lost(f"the container {job.name} is gone: somebody has removed it")

    @hookimpl
    def axsched_fetch_results(
        self, handles: Sequence[JobHandle]
    ) -> dict[str, JobResult | NotReady]:
        assert self._context is not None
        limit = self._context.max_result_bytes
        return {
            handle.key: jobfolder.read_result(self._folders.of(handle), limit)
            for handle in filter(self._folders.knows, handles)
        }

    @hookimpl
    def axsched_cancel(self, handles: Sequence[JobHandle], reason: str) -> dict[str, CancelOutcome]:
        return {handle.key: self._cancel(handle, reason) for handle in handles}

    def _cancel(self, handle: JobHandle, reason: str) -> CancelOutcome:
        if not self._folders.knows(handle) or not self._folders.of(handle).is_dir():
            return CancelOutcome.UNKNOWN_JOB
        folder = self._folders.of(handle)
        if jobfolder.read_exit(folder) is not None:
            return CancelOutcome.ALREADY_ENDED
        containers = self._open_containers()
        containers.cancel(containers.adopt(handle.key, folder), reason)
        return CancelOutcome.REQUESTED

    @hookimpl
    def axsched_reattach(
        self, requests: Sequence[JobRequest]
    ) -> dict[str, JobHandle | NotSubmitted]:
        states = self._open_containers().look()
        return {
            request.key: self._handle(request)
            if request.key in states or not _can_never_run(request.folder)
            else NotSubmitted()
            for request in requests
        }

    @hookimpl
    def axsched_capacity(self) -> int:
        return self._open_containers().free_places()

    # ---- looking at jobs -----------------------------------------------------------------

    @hookimpl
    def axsched_read_log(self, handle: JobHandle, stream: str, offset: int, limit: int) -> bytes:
        folder, name = self._folders.of(handle), jobfolder.log_name(stream)
        if jobfolder.has(folder, name):
            return jobfolder.read_part(folder, name, offset, limit)
        if handle.data.get("kind") == "container":
            assert self._engine is not None
            pieces = logs.printed_so_far(self._engine, container_name(handle.key), stream)
            return logs.part(pieces, offset, limit)
        return self._read_running(handle.key, folder, name, offset, limit)

    @hookimpl
    def axsched_read_progress(
        self, handles: Sequence[JobHandle], offsets: Mapping[str, int]
    ) -> dict[str, bytes]:
        name, limit = jobfolder.PROGRESS, jobfolder.PROGRESS_LIMIT
        found = {}
        for handle in filter(self._folders.knows, handles):
            folder, offset = self._folders.of(handle), offsets[handle.key]
            data = self._read_running(handle.key, folder, name, offset, limit)
            found[handle.key] = jobfolder.whole_lines(data)
        return found

    def _read_running(self, key: str, folder: Path, name: str, offset: int, limit: int) -> bytes:
        """A part of a file that the job writes, wherever it is now."""
        assert self._engine is not None
        try:
            with Folder(folder) as ours:
                if ours.has(name):
                    return jobfolder.read_part(ours, name, offset, limit)
                if ours.has(jobfolder.EXIT):
                    return b""  # it has ended, and all that it wrote is here
                if ours.has(BOX):
                    with ours.sub(BOX) as box, box.sub("job") as job:
                        return jobfolder.read_part(job, name, offset, limit)
        except (FileNotFoundError, NotADirectoryError):
            pass  # it is taken over, or removed, at this moment
        path = f"{JOB}/{name}"
        data = logs.read_running(self._engine, container_name(key), path, offset, limit)
        # It may have been fetched meanwhile.
        return data or jobfolder.read_part(folder, name, offset, limit)

    @hookimpl
    def axsched_preview(self, requests: Sequence[JobRequest]) -> dict[str, str]:
        return {request.key: self._preview(request) for request in requests}

    def _preview(self, request: JobRequest) -> str:
        try:
            return make_plan(request, self._options).shown()
        except InvalidInput as error:
            return f"refused: {error}"

    @hookimpl
    def axsched_find_leftovers(self, run_id: str) -> list[str]:
        with contextlib.closing(Engine(self._options)) as engine:
            return [lifecycle.describe(one) for one in engine.containers(run_id)]

    @hookimpl
    def axsched_remove_leftovers(self, run_id: str) -> list[str]:
        removed = []
        with contextlib.closing(Engine(self._options)) as engine:
            for container in engine.containers(run_id):
                engine.remove(container["Id"])
                removed.append(lifecycle.describe(container))
        return removed

    def _open_containers(self) -> Containers:
        if self._containers is None:
            raise RuntimeError("the docker runner is not open: axsched_open comes first")
        return self._containers


def _places(options: DockerOptions, info: Mapping[str, Any]) -> int:
    """How many containers may run at a time."""
    if options.max_containers is not None:
        return options.max_containers
    return max(1, int(int(info.get("NCPU") or 1) // (options.cpus or 1)))


def _lost(message: str) -> JobStatus:
    return JobStatus(JobState.LOST, Cause.LOST, message=message)


def _can_never_run(folder: Path) -> bool:
    """True where a job without a container is certain never to have one."""
    if jobfolder.read_exit(folder) is not None:
        return False  # it has ended, and its container was removed
    return jobfolder.keep_from_running(folder, NEVER_RAN_BY) or jobfolder.never_ran(folder)


def _never_to_run(folder: Path) -> None:
    """Take the claim of a job whose container was made, claimed for, but never started."""
    with contextlib.suppress(FileNotFoundError):
        data = json.dumps({"by": NEVER_RAN_BY}).encode()
        jobfolder.write(folder, jobfolder.CLAIM, data)
