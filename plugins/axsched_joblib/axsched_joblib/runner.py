"""The runner: the hooks' answers about jobs come from the jobs' folders.

Memory is used only to send each job to a worker, through the `Dispatcher`. So it does not matter
which worker, pool or driver has started a job, or whether it still lives.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from axsched_core import imports, jobfolder
from axsched_core.errors import InvalidInput
from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import (
    CancelOutcome,
    Cause,
    FunctionObjective,
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
    ScriptObjective,
    SubmitError,
)
from axsched_core.worker import axsched_worker as worker
from axsched_joblib import starting
from axsched_joblib.dispatch import Dispatcher, Phase, Progress
from axsched_joblib.info import INFO
from axsched_joblib.modules import Modules
from axsched_joblib.options import LOCAL, JobLibOptions, capture_parallel_config, resolve

CLOSE_LIMIT = 10.0
"""Seconds that `JobLibRunner.axsched_close` waits for cancelled jobs."""
FOLDER_LAG = 30.0
"""Seconds in which the files of a job that ran elsewhere must have become visible here."""
SILENCE = 45.0
"""Seconds without a beat after which a job on another machine is lost."""
CANCELLED_BY = "cancelled before it ran"
WITHDRAWN_BY = "withdrawn: the runner was closed before it ran"
NEVER_STARTED_BY = "given up: it could not be started"
ORPHAN_BY = "given up: the driver that submitted it has ended before it ran"


class JobLibRunner:
    """Runs jobs on this machine's cores, or on the machines of a joblib backend.

    Args:
        n_jobs, backend, isolation, threads_per_job, backend_options: see `JobLibOptions`.

    Raises:
        InvalidInput: an option is not valid.
        RunnerError: joblib has no such backend.
    """

    def __init__(
        self,
        n_jobs: int | None = None,
        *,
        backend: str | None = None,
        isolation: str | None = None,
        threads_per_job: int | None = None,
        preload: Sequence[str] | None = None,
        stop_grace: float = 0.5,
        backend_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._set_up(
            JobLibOptions(
                n_jobs,
                backend,
                isolation,
                threads_per_job,
                preload,
                stop_grace,
                backend_options or {},
            )
        )

    @classmethod
    def from_options(cls, options: JobLibOptions) -> JobLibRunner:
        """Make a runner from options that were checked already."""
        runner = cls.__new__(cls)
        runner._set_up(options)
        return runner

    def _set_up(self, options: JobLibOptions) -> None:
        starting.take_standard_descriptors()  # before the run's files are opened
        # In the caller's thread, because joblib.parallel_config is thread-local.
        self._settings = resolve(options, capture_parallel_config())
        self._sys_path_base = imports.current_directory()
        self._context: RunnerContext | None = None
        self._dispatcher: Dispatcher | None = None
        self._handles: dict[str, JobHandle] = {}

    def __repr__(self) -> str:
        s = self._settings
        return (
            f"JobLibRunner(n_jobs={s.n_jobs}, backend={s.backend!r}, "
            f"isolation={s.isolation!r}, threads_per_job={s.threads})"
        )

    # ------------------------------------------------------------ opening and closing

    @hookimpl
    def axsched_runner_info(self) -> RunnerInfo:
        """See `axsched_core.hookspecs.RunnerSpec`, here and below."""
        return INFO

    @hookimpl
    def axsched_open(self, context: RunnerContext) -> None:
        self._context = context
        self._folders = jobfolder.JobFolders(context.run_dir)
        self._handles = {}
        self._heard: dict[Path, tuple[float | None, float]] = {}
        self._dispatcher = Dispatcher(self._settings, context.wake)
        self._modules = Modules(context.run_dir, self._settings.preload)

    @hookimpl
    def axsched_close(self, wait: bool) -> None:
        dispatcher, self._dispatcher = self._dispatcher, None
        if dispatcher is None:
            return
        # If a claim succeeds here, the job certainly never runs, even if a cluster still has it in
        # its queue.
        for handle in self._handles.values():
            folder = self._folders.of(handle)
            if not jobfolder.has(folder, jobfolder.CLAIM):
                jobfolder.keep_from_running(folder, WITHDRAWN_BY)
        if wait:
            self._wait_for_cancelled()
        dispatcher.close()

    def _wait_for_cancelled(self) -> None:
        deadline = time.monotonic() + CLOSE_LIMIT
        for handle in self._handles.values():
            folder = self._folders.of(handle)
            if not jobfolder.has(folder, jobfolder.CANCEL):
                continue
            while (
                jobfolder.read_exit(folder) is None
                and worker.owner_is_alive(str(folder))
                and time.monotonic() < deadline
            ):
                time.sleep(0.02)

    # ------------------------------------------------------------ jobs

    @hookimpl
    def axsched_check_objective(self, objective: Objective) -> None:
        if isinstance(objective, ScriptObjective) and self._settings.backend in LOCAL:
            program = objective.argv[0]
            if os.sep in program and not os.path.isabs(program):
                return  # it is looked for in the job's folder
            if shutil.which(program, path=objective.env.get("PATH")) is None:
                raise InvalidInput(
                    f"{program!r}, which is to run the script {objective.script}, is not an "
                    "executable file of this machine: give another interpreter, or its whole path."
                )

    @hookimpl
    def axsched_submit(self, requests: Sequence[JobRequest]) -> list[JobHandle | SubmitError]:
        return [self._submit(request) for request in requests]

    def _submit(self, request: JobRequest) -> JobHandle | SubmitError:
        if request.key in self._handles:
            return self._handles[request.key]
        try:
            isolation = self._isolation_for(request)
            self._complete_job_file(request)
        except InvalidInput as error:
            return SubmitError(str(error))
        except OSError as error:
            return SubmitError(str(error), transient=True)
        handle = self._folders.handle(request)
        self._handles[request.key] = handle
        env = jobfolder.environment(request)
        imports = isinstance(request.objective, FunctionObjective)
        self._open_dispatcher().add(
            request.key, str(request.folder), isolation, env, self._modules if imports else None
        )
        return handle

    def _isolation_for(self, request: JobRequest) -> str:
        objective, isolation = request.objective, self._settings.isolation
        if isinstance(objective, ScriptObjective):
            # A script is a separate process anyway, and is supervised like any other.
            return "spawn" if isolation == "none" else isolation
        if not isinstance(objective, FunctionObjective):
            kind = objective.capability.value if objective is not None else "no objective"
            raise InvalidInput(
                f"job {request.key}: the joblib runner takes functions and scripts, not {kind}."
            )
        return isolation

    def _complete_job_file(self, request: JobRequest) -> None:
        """Add to ``job.json`` what only this runner knows about the place where the job will
        run."""
        folder = request.folder
        job = jobfolder.read_json(folder, jobfolder.JOB)
        if not isinstance(job, dict):
            raise InvalidInput(
                f"job {request.key}: there is no usable {jobfolder.JOB} in {folder}."
            )
        if jobfolder.has(folder, jobfolder.CLAIM):
            return  # submitted before; another process may be reading the file
        job["threads"] = self._settings.threads
        job["stop_grace"] = self._settings.stop_grace
        job["list_modules"] = self._modules.wanted
        job |= {**imports.places(self._sys_path_base), "driver": worker.identity()}
        jobfolder.write(folder, jobfolder.JOB, json.dumps(job).encode())

    @hookimpl
    def axsched_poll(self, handles: Sequence[JobHandle]) -> dict[str, JobStatus]:
        return {handle.key: self._status(handle) for handle in filter(self._folders.knows, handles)}

    def _status(self, handle: JobHandle) -> JobStatus:
        folder = self._folders.of(handle)
        status = jobfolder.read_exit(folder)
        if status is not None:
            self._open_dispatcher().ended(handle.key)
            return status
        progress = self._open_dispatcher().progress(handle.key)
        if not jobfolder.has(folder, jobfolder.CLAIM):
            if progress.phase is Phase.ACTIVE:
                return JobStatus(JobState.QUEUED, message="no worker is free yet")
            # Nothing will start it; make sure of that before it is tried again.
            words = f"{NEVER_STARTED_BY}: {progress.words}" if progress.words else ORPHAN_BY
            jobfolder.keep_from_running(folder, words)
        taken_by = jobfolder.taken_back_by(folder)
        if taken_by == CANCELLED_BY:
            return JobStatus(JobState.CANCELLED, Cause.CANCELLED, message=CANCELLED_BY)
        if taken_by:
            return _lost(taken_by)
        if self._may_still_run(folder, progress):
            return JobStatus(JobState.RUNNING)
        # It may have written its last file and ended since we checked.
        return jobfolder.read_exit(folder) or _lost(
            "the process that ran the job has vanished and has left no exit file; it was "
            "killed, or the machine was restarted"
        )

    def _may_still_run(self, folder: Path, progress: Progress) -> bool:
        ended = progress.phase is Phase.ENDED
        if ended and progress.isolation == "none":
            return False  # the process that owns it is a worker, and continues
        alive = worker.owner_is_alive(str(folder))
        if alive is not None:
            return alive
        # It runs on another machine; the network's file system may lag behind.
        return progress.age < FOLDER_LAG if ended else self._beats(folder)

    def _beats(self, folder: Path) -> bool:
        """True unless a job on another machine has not said for long that it lives.

        The machines' clocks may differ: what counts is how long we have seen no new beat.
        """
        beat, now = worker.last_beat(str(folder)), time.monotonic()
        last, since = self._heard.get(folder, (None, now))
        if beat is None or beat != last:
            since = now
        self._heard[folder] = (beat, since)
        return now - since < SILENCE

    @hookimpl
    def axsched_fetch_results(
        self, handles: Sequence[JobHandle]
    ) -> dict[str, JobResult | NotReady]:
        limit = self._context.max_result_bytes if self._context is not None else 1_000_000
        for handle in filter(self._folders.knows, handles):
            self._modules.learn(self._folders.of(handle))
        return {
            handle.key: jobfolder.read_result(self._folders.of(handle), limit)
            for handle in filter(self._folders.knows, handles)
        }

    @hookimpl
    def axsched_cancel(self, handles: Sequence[JobHandle], reason: str) -> dict[str, CancelOutcome]:
        outcomes, trouble = {}, None
        for handle in handles:
            try:
                outcomes[handle.key] = self._cancel(handle, reason)
            except OSError as error:  # the others must still be told
                trouble = error
        if trouble is not None:
            raise trouble
        return outcomes

    def _cancel(self, handle: JobHandle, reason: str) -> CancelOutcome:
        if not self._folders.knows(handle) or not self._folders.of(handle).is_dir():
            return CancelOutcome.UNKNOWN_JOB
        folder = self._folders.of(handle)
        if jobfolder.read_exit(folder) is not None:
            return CancelOutcome.ALREADY_ENDED
        if jobfolder.try_claim(folder, CANCELLED_BY):
            self._open_dispatcher().forget(handle.key)
            return CancelOutcome.REQUESTED
        taken_by = jobfolder.taken_back_by(folder)
        if taken_by:
            cancelled = taken_by == CANCELLED_BY
            return CancelOutcome.REQUESTED if cancelled else CancelOutcome.ALREADY_ENDED
        if self._open_dispatcher().progress(handle.key).isolation == "none":
            return CancelOutcome.NOT_POSSIBLE
        jobfolder.request_cancel(folder, reason)
        return CancelOutcome.REQUESTED

    @hookimpl
    def axsched_reattach(
        self, requests: Sequence[JobRequest]
    ) -> dict[str, JobHandle | NotSubmitted]:
        # The process that makes the claim decides: if it is made here, the job never runs.
        found: dict[str, JobHandle | NotSubmitted] = {}
        for request in requests:
            ours = jobfolder.try_claim(request.folder, WITHDRAWN_BY)
            if ours or jobfolder.taken_back_by(request.folder):
                found[request.key] = NotSubmitted()
            else:
                found[request.key] = self._folders.handle(request)
        return found

    @hookimpl
    def axsched_capacity(self) -> int:
        return self._open_dispatcher().free_slots()

    # ------------------------------------------------------------ looking at jobs

    @hookimpl
    def axsched_read_log(self, handle: JobHandle, stream: str, offset: int, limit: int) -> bytes:
        folder, name = self._folders.of(handle), jobfolder.log_name(stream)
        return jobfolder.read_part(folder, name, offset, limit)

    @hookimpl
    def axsched_read_progress(
        self, handles: Sequence[JobHandle], offsets: Mapping[str, int]
    ) -> dict[str, bytes]:
        return {
            handle.key: jobfolder.read_progress(self._folders.of(handle), offsets[handle.key])
            for handle in filter(self._folders.knows, handles)
        }

    @hookimpl
    def axsched_preview(self, requests: Sequence[JobRequest]) -> dict[str, str]:
        return {request.key: self._preview(request) for request in requests}

    def _preview(self, request: JobRequest) -> str:
        try:
            isolation = self._isolation_for(request)
        except InvalidInput as error:
            return f"refused: {error}"
        objective, settings = request.objective, self._settings
        if isinstance(objective, ScriptObjective):
            where = objective.working_dir or str(request.folder)
            variables = [f'{name}="${name}"' for name in objective.env]  # values may be secrets
            what = " ".join([f"cd {shlex.quote(where)} &&", *variables, shlex.join(objective.argv)])
        else:
            assert isinstance(objective, FunctionObjective)
            arguments = "**parameters" if objective.keywords else "parameters"
            what = f"{objective.name}({arguments})"
        command = [sys.executable, str(request.folder / jobfolder.WORKER), str(request.folder)]
        return (
            f"{what}\n"
            f"  backend {settings.backend}, {settings.n_jobs} jobs at a time, isolation "
            f"{isolation}, {settings.threads} threads a job\n"
            f"  the same by hand: {shlex.join(command)}"
        )

    def _open_dispatcher(self) -> Dispatcher:
        if self._dispatcher is None:
            raise RuntimeError("the joblib runner is not open: axsched_open comes first")
        return self._dispatcher


def _lost(message: str) -> JobStatus:
    return JobStatus(JobState.LOST, Cause.LOST, message=message)
