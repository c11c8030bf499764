"""Brings jobs to Slurm: arrays of like ones, as many as the cluster takes; the others wait here."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from axsched_core import imports, jobfolder
from axsched_core.errors import BackendUnavailable, InvalidInput
from axsched_core.jobs import SubmitError
from axsched_slurm import script
from axsched_slurm.arrays import Batch, BatchBook
from axsched_slurm.commands import CommandFailed, Commands
from axsched_slurm.options import SlurmOptions
from axsched_slurm.script import Prepared

LARGEST_ARRAY = 1000
"""Jobs in one array; the batch script, which Slurm limits to 4 MB, names all their folders."""

_LIMIT = re.compile(r"Submit\w*Limit|SubmitJob|job queue full|MaxJobCount", re.IGNORECASE)
"""Words of a limit on how many jobs may be in the queue: it passes as jobs end."""

_TOO_LARGE = re.compile(f"{_LIMIT.pattern}|Invalid job array specification", re.IGNORECASE)
"""Words that an array may be refused with while a smaller one, or its jobs, are taken."""

_FOR_NOW = re.compile(
    r"accounting/QOS policy|not available now|partition not available|presently disabled"
    r"|reservation|in transition",
    re.IGNORECASE,
)
"""Words of other refusals that may pass."""


class Submitter:
    """Calls sbatch.

    Args:
        options: the runner's.
        commands: Slurm's.
        book: where arrays are written down.
        max_array_size: says, when it is asked, how large the cluster lets an array be.
    """

    def __init__(
        self,
        options: SlurmOptions,
        commands: Commands,
        book: BatchBook,
        max_array_size: Callable[[], int],
    ) -> None:
        self._options, self._commands, self._book = options, commands, book
        self._max_array_size = max_array_size
        self._sys_path_base = imports.current_directory() or "/"
        self.held: dict[str, Prepared] = {}
        """Jobs that wait here because a limit of the cluster is reached."""
        self.held_why = ""
        self.doubtful: set[str] = set()
        """Keys that sbatch was called with, and has not answered."""

    def submit(self, jobs: Sequence[Prepared]) -> dict[str, SubmitError]:
        """Submit jobs, or hold them where the cluster's limit is reached. Returns those refused.

        Raises:
            BackendUnavailable: Slurm does not answer; what it has of them is `doubtful`.
        """
        refused: dict[str, SubmitError] = {}
        for wants, group in itertools.groupby(sorted(jobs, key=_wants), key=_wants):
            del wants
            refused |= self._bring(list(group), LARGEST_ARRAY)
        return refused

    def submit_held(self, room: int) -> dict[str, SubmitError]:
        """Try again with those that are held. Returns those refused for good.

        Args:
            room: how many of ours have ended since the last try: so many are tried first.

        Raises:
            BackendUnavailable: as `submit`.
        """
        for key, job in list(self.held.items()):
            if jobfolder.never_ran(job.request.folder):
                del self.held[key]  # it was cancelled
        jobs = list(self.held.values())
        if not jobs:
            return {}
        alike = list(itertools.takewhile(lambda job: _wants(job) == _wants(jobs[0]), jobs))
        others = {job.request.key: job for job in jobs[len(alike) :]}
        self.held = {}
        try:
            refused = self._bring(alike, max(1, room))
        except BackendUnavailable:
            self.held |= {
                job.request.key: job for job in alike if self._book.job_id(job.request.key) is None
            }
            raise
        finally:
            self.held |= others
        for job in alike:
            key = job.request.key
            if key in refused and refused[key].transient:
                self.held_why = refused.pop(key).message
                self.held[key] = job
        return refused

    def _bring(self, jobs: list[Prepared], size: int) -> dict[str, SubmitError]:
        """Submit like jobs in arrays of at most ``size``, smaller ones where a limit is near."""
        refused: dict[str, SubmitError] = {}
        # A cluster without arrays says 0.
        size = min(size, max(1, self._max_array_size()) if len(jobs) > 1 else 1)
        while jobs:
            if self.held:
                self.held |= {job.request.key: job for job in jobs}
                break
            part = jobs[:size]
            error = self._try(part)
            if error is not None and len(part) > 1 and _TOO_LARGE.search(error.message):
                size = len(part) // 2
                continue
            if error is not None and _LIMIT.search(error.message):
                self.held_why = error.message
                self.held |= {job.request.key: job for job in jobs}
                break
            if error is not None:
                refused |= {job.request.key: error for job in part}
            jobs = jobs[size:]
        return refused

    def _try(self, jobs: Sequence[Prepared]) -> SubmitError | None:
        keys = [job.request.key for job in jobs]
        try:
            for job in jobs:
                if not jobfolder.has(job.request.folder, jobfolder.CLAIM):
                    script.complete_job_file(job, self._options, self._sys_path_base)
            batch = self._book.new(keys)
            path = self._write_script(batch, jobs)
        except InvalidInput as error:
            return SubmitError(str(error))
        except OSError as error:
            return SubmitError(f"its files cannot be written: {error}", transient=True)
        size = len(jobs) if batch.is_array else None
        argv = script.command(batch.name, jobs[0], self._options, path, size)
        self.doubtful.update(keys)
        try:
            answer = self._commands.run(*argv, env=script.environment(jobs[0]))
        except CommandFailed as failure:
            self.doubtful.difference_update(keys)
            self._clear_away(batch)
            return refusal(str(failure))
        number = answer.strip().partition(";")[0]
        if not number.isdigit():
            raise BackendUnavailable(f"sbatch has answered {answer!r:.200}, which is no job's id")
        self.doubtful.difference_update(keys)
        self._book.submitted(batch.name, number)
        return None

    def _write_script(self, batch: Batch, jobs: Sequence[Prepared]) -> Path:
        requests = [job.request for job in jobs]
        text = script.batch_script(requests, self._options, array=batch.is_array).encode()
        if not batch.is_array:
            folder = requests[0].folder
            jobfolder.write(folder, script.SCRIPT, text)
            return folder / script.SCRIPT
        path = self._book.folder / f"{batch.name}.sh"
        jobfolder.write_atomically(path, text)
        return path

    def _clear_away(self, batch: Batch) -> None:
        """A refused sbatch may leave a job behind."""
        try:
            self._commands.run("scancel", f"--name={batch.name}", f"--user={os.getuid()}")
        except (BackendUnavailable, CommandFailed):
            pass  # Slurm ends by itself what it has refused; this was to make sure


def refusal(words: str) -> SubmitError:
    """What a refusal of sbatch's means, in its own words."""
    final = "Batch job submission failed" in words and not _FOR_NOW.search(words)
    return SubmitError(f"sbatch: {words}", transient=not final)


def _wants(job: Prepared) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    return job.wants, job.env
