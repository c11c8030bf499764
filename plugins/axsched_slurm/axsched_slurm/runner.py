"""Implements the runner's hooks with `Submitter` (submits jobs) and `Watch` (finds states)."""

from __future__ import annotations

import contextlib
import functools
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from axsched_core import jobfolder
from axsched_core import options as options_
from axsched_core.errors import BackendUnavailable, InvalidInput
from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import (
    CancelOutcome,
    JobHandle,
    JobRequest,
    JobResult,
    JobState,
    JobStatus,
    NotReady,
    NotSubmitted,
    RunnerContext,
    RunnerInfo,
    SubmitError,
)
from axsched_slurm import script, states
from axsched_slurm.arrays import BatchBook
from axsched_slurm.cancel import cancel, scancel
from axsched_slurm.cluster import Cluster, describe
from axsched_slurm.commands import CommandFailed, Commands, require
from axsched_slurm.info import INFO
from axsched_slurm.nodes import Nodes
from axsched_slurm.options import SlurmOptions
from axsched_slurm.query import Row, squeue
from axsched_slurm.submit import Submitter
from axsched_slurm.watch import Watch

GATHERING = 1.0
"""For this many seconds after a submission, free places are collected, so that one array can fill
them. Slurm starts jobs at most once a second, whenever they arrive."""
CLOSE_LIMIT = 10.0
"""Seconds that `SlurmRunner.axsched_close` waits for cancelled jobs."""
WITHDRAWN_BY = "withdrawn: the runner was closed before Slurm had room for it"
TAKEN_OVER_BY = "taken over: another driver has found no such job in Slurm"


class SlurmRunner:
    """Runs jobs on a Slurm cluster.

    Args:
        config: options as a mapping; ``singularity_path`` is another name of
            ``container_engine``.
        options: see `SlurmOptions`.

    Raises:
        InvalidInput: an option is unknown or invalid.

    Example:
        >>> SlurmRunner(partition="main", time_limit="00:30:00", memory="4G", cpus_per_task=4)
    """

    def __init__(self, config: Mapping[str, Any] | None = None, **options: Any) -> None:
        given = {**(config or {}), **options}
        if "singularity_path" in given:
            given["container_engine"] = given.pop("singularity_path")
        self._set_up(options_.build(SlurmOptions, given, "options of SlurmRunner"))

    @classmethod
    def from_options(cls, options: SlurmOptions) -> SlurmRunner:
        """Make a runner from options that are already checked."""
        runner = cls.__new__(cls)
        runner._set_up(options)
        return runner

    def _set_up(self, options: SlurmOptions) -> None:
        self._options = options
        self._commands = Commands(options.command_timeout)
        self._context: RunnerContext | None = None
        self._handles: dict[str, JobHandle] = {}
        self._ended_before = 0
        self._kept_away_from = ""
        self._submitted_at = -GATHERING

    def __repr__(self) -> str:
        return f"SlurmRunner({self._options})"

    # ------------------------------------------------------------ opening and closing

    @hookimpl
    def axsched_runner_info(self) -> RunnerInfo:
        """See `axsched_core.hookspecs.RunnerSpec`, here and below."""
        return INFO

    @hookimpl
    def axsched_open(self, context: RunnerContext) -> None:
        require("sbatch", "squeue", "scancel", "scontrol")
        self._context = context
        self._commands.time_left = context.time_left
        self._folders = jobfolder.JobFolders(context.run_dir)
        folder = context.run_dir / "slurm"
        if self._options.job_dir is not None:
            folder = Path(self._options.job_dir).expanduser().absolute() / context.run_id
        self._book = BatchBook(folder, context.run_id)
        self._nodes = Nodes(avoids=not self._options.chooses_nodes)
        self._submitter = Submitter(
            self._options, self._commands, self._book, lambda: self._cluster, self._nodes
        )
        self._watch = Watch(
            self._commands,
            self._book,
            self._options.patience,
            context.monitoring_interval,
            lambda: self._cluster,
            self._nodes,
        )

    @functools.cached_property
    def _cluster(self) -> Cluster:
        return describe(self._commands)

    @hookimpl
    def axsched_close(self, wait: bool) -> None:
        if self._context is None:
            return
        for job in self._submitter.held.values():
            jobfolder.try_claim(job.request.folder, WITHDRAWN_BY)
        deadline = time.monotonic() + CLOSE_LIMIT
        while wait and time.monotonic() < deadline and self._being_cancelled():
            time.sleep(0.05)

    def _being_cancelled(self) -> bool:
        """True while a job that was told to stop has no ``exit.json``."""
        folders = [self._folders.of(handle) for handle in self._handles.values()]
        return any(
            jobfolder.has(folder, jobfolder.CANCEL) and jobfolder.read_exit(folder) is None
            for folder in folders
        )

    # ------------------------------------------------------------ jobs

    @hookimpl
    def axsched_submit(self, requests: Sequence[JobRequest]) -> list[JobHandle | SubmitError]:
        answers: dict[str, SubmitError] = {}
        fresh = [request for request in requests if request.key not in self._handles]
        doubtful = [request for request in fresh if request.key in self._submitter.doubtful]
        if doubtful:
            self._watch.look((), now=True)
            for request in doubtful:
                self._found(request)
        prepared = []
        for request in fresh:
            if request.key in self._handles:
                continue
            try:
                prepared.append(script.prepare(request, self._options))
            except InvalidInput as error:
                answers[request.key] = SubmitError(f"job {request.key}: {error}")
        try:
            if prepared:
                self._submitted_at = time.monotonic()
            answers |= self._submitter.submit(prepared)
        finally:  # do not resubmit jobs that Slurm took before it stopped answering
            for job in prepared:
                self._accept(job.request, answers)
        return [answers.get(r.key) or self._handles[r.key] for r in requests]

    def _accept(self, request: JobRequest, refused: Mapping[str, SubmitError]) -> None:
        key = request.key
        held, job_id = key in self._submitter.held, self._book.job_id(key)
        if key in refused or not (held or (job_id and key not in self._submitter.doubtful)):
            return
        self._handles[key] = self._folders.handle(request, job_id or "")
        self._watch.submitted(key)

    def _found(self, request: JobRequest) -> bool:
        """True if the last query has found a job with this key."""
        row = self._watch.row(request.key)
        if row is None:
            return False
        self._book.submitted(self._book.own_name(row.name), str(row.number))
        self._submitter.doubtful.discard(request.key)
        self._submitter.held.pop(request.key, None)
        self._handles[request.key] = self._folders.handle(request, row.job_id)
        return True

    @hookimpl
    def axsched_poll(self, handles: Sequence[JobHandle]) -> dict[str, JobStatus]:
        ours = {handle.key: handle for handle in filter(self._folders.knows, handles)}
        self._handles |= ours
        try:
            # If all have ended by their own files, there is no need to ask Slurm.
            open_ = any(not self._settled(handle) for handle in ours.values())
            if open_ and self._watch.look(ours):
                self._submit_held()
                self._clear_up()
                self._watch.learn({key: self._folders.of(handle) for key, handle in ours.items()})
            found = {key: self._status(handle) for key, handle in ours.items()}
            self._keep_waiting_jobs_away()
        except OSError as error:
            raise BackendUnavailable(f"the jobs' folders cannot be read: {error}") from error
        return {key: status for key, status in found.items() if status is not None}

    def _status(self, handle: JobHandle) -> JobStatus | None:
        submitter = self._submitter
        if handle.key in submitter.held and not self._settled(handle):
            words = f"waits for room: {submitter.held_why}"
            return JobStatus(JobState.QUEUED, message=words, backend_state="HELD HERE")
        if not handle.backend_id and self._book.job_id(handle.key) is None:
            self._watch.never_sent(handle.key)
        return self._watch.status(handle.key, self._folders.of(handle))

    @hookimpl
    def axsched_fetch_results(
        self, handles: Sequence[JobHandle]
    ) -> dict[str, JobResult | NotReady]:
        limit = self._context.max_result_bytes if self._context is not None else 1_000_000
        return {
            handle.key: jobfolder.read_result(self._folders.of(handle), limit)
            for handle in filter(self._folders.knows, handles)
        }

    def _submit_held(self) -> None:
        """Submit the jobs that wait here, as far as there is room now."""
        submitter = self._submitter
        for job in list(submitter.held.values()):
            if job.request.key in submitter.doubtful:
                self._found(job.request)
        if not submitter.held:
            return
        waiting = dict(submitter.held)
        ended = sum(map(self._settled, self._handles.values()))
        room, self._ended_before = ended - self._ended_before, ended
        refused = submitter.submit_held(room)
        for key, job in waiting.items():
            if key in refused:
                self._watch.refused(key, job.request.folder, refused[key])
            elif self._book.job_id(key) is not None:
                self._watch.submitted(key)

    def _keep_waiting_jobs_away(self) -> None:
        """Keep jobs that wait in Slurm off avoided nodes, if other nodes are known to work."""
        avoided = self._nodes.exclude()
        if avoided in ("", self._kept_away_from) or not self._nodes.any_good:
            return
        self._kept_away_from = avoided
        for number in sorted(self._watch.waiting()):
            with contextlib.suppress(BackendUnavailable, CommandFailed):  # they may begin just now
                update = (f"JobId={number}", f"ExcNodeList={avoided}")
                self._commands.run("scontrol", "update", *update)

    def _clear_up(self) -> None:
        """Cancel jobs that Slurm holds or would start again although they have ended."""
        folders = {key: self._folders.of(handle) for key, handle in self._handles.items()}
        if rows := self._watch.left_behind(folders):
            scancel(self._commands, rows, self._watch.all_rows())

    @hookimpl
    def axsched_cancel(self, handles: Sequence[JobHandle], reason: str) -> dict[str, CancelOutcome]:
        outcomes = {handle.key: CancelOutcome.UNKNOWN_JOB for handle in handles}
        ours = filter(self._folders.knows, handles)
        folders = {handle.key: self._folders.of(handle) for handle in ours}
        return outcomes | cancel(folders, reason, self._watch, self._commands)

    @hookimpl
    def axsched_reattach(
        self, requests: Sequence[JobRequest]
    ) -> dict[str, JobHandle | NotSubmitted]:
        self._watch.look([request.key for request in requests], now=True)
        found: dict[str, JobHandle | NotSubmitted] = {}
        for request in requests:
            if self._found(request):
                found[request.key] = self._handles[request.key]
            # Slurm does not know it. The claim decides: if we take it here, the job never runs,
            # even if a submission is still in progress.
            elif jobfolder.try_claim(request.folder, TAKEN_OVER_BY) or jobfolder.never_ran(
                request.folder
            ):
                found[request.key] = NotSubmitted()
            else:
                job_id = self._book.job_id(request.key) or ""
                found[request.key] = self._folders.handle(request, job_id)
        return found

    @hookimpl
    def axsched_capacity(self) -> int | None:
        gathers = time.monotonic() < self._submitted_at + GATHERING and self._has_jobs()
        return 0 if self._submitter.held or gathers else None

    def _has_jobs(self) -> bool:
        """False where all jobs have left their exit files, so that there is nothing to wait for."""
        newest_first = reversed(self._handles.values())
        return any(not self._settled(handle) for handle in newest_first)

    def _settled(self, handle: JobHandle) -> bool:
        """True where a job's own files say how it has ended."""
        return self._watch.settled(handle.key, self._folders.of(handle)) is not None

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
            prepared = script.prepare(request, self._options)
        except InvalidInput as error:
            return f"refused: {error}"
        path = request.folder / script.SCRIPT
        command = script.command(request.key, prepared, self._options, path, None)
        text = script.batch_script([request], self._options, array=False)
        runs = script.what_runs(request, self._options)
        return f"{shlex.join(command)}\n\n{path}:\n{text}\nwhich runs: {runs}\n"

    @hookimpl
    def axsched_find_leftovers(self, run_id: str) -> list[str]:
        return [_named(row) for row in self._leftovers(run_id)[0]]

    @hookimpl
    def axsched_remove_leftovers(self, run_id: str) -> list[str]:
        left, everything = self._leftovers(run_id)
        scancel(self._commands, left, everything)
        return [_named(row) for row in left]

    def _leftovers(self, run_id: str) -> tuple[list[Row], list[Row]]:
        """The run's jobs that wait or run, and all of the user's jobs."""
        everything = squeue(self._commands)
        ours = [row for row in everything if f"{run_id}-" in row.name]
        return [row for row in ours if states.alive(row)], everything


def _named(row: Row) -> str:
    return f"{row.job_id} {row.state} {row.name}"
