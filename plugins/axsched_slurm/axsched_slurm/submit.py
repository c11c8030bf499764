"""Submits equal jobs as arrays, as many as the cluster takes, and holds the others here."""

from __future__ import annotations

import enum
import itertools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from axsched_core import imports, jobfolder
from axsched_core.errors import BackendUnavailable, InvalidInput
from axsched_core.jobs import SubmitError
from axsched_slurm import script
from axsched_slurm.arrays import Batch, BatchBook
from axsched_slurm.cluster import Cluster
from axsched_slurm.commands import CommandFailed, CommandRetries, Commands
from axsched_slurm.nodes import Nodes
from axsched_slurm.options import SlurmOptions
from axsched_slurm.script import Prepared

LARGEST_ARRAY = 1000
"""Jobs in one array. The batch script names all their folders; Slurm limits it to 4 MB."""

_FAILED = "Batch job submission failed: "
"""sbatch prints this before the text of Slurm's error number. Other lines may be the site's."""

_USAGE = 'Try "sbatch --help" for more information'
"""The last line that sbatch prints if it does not know one of its arguments."""

_OUTAGE = re.compile(
    r"unable to contact|unable to connect|timed out|zero bytes were transmitted"
    r"|connection (refused|reset|timed out|failure)|connect failure|communication"
    r"|standby mode|transport endpoint|message (send|receive) failure|unable to establish"
    r"|authentication error|munge|slurmdbd|configuration source|insane message"
    r"|unexpected message|shutting down|header lengths|host is down|no route to host"
    r"|unable to resolve|broken pipe",
    re.IGNORECASE,
)
"""Texts of error numbers that mean that Slurm has not answered."""

_LIMIT = re.compile(r"(Assoc|QOS)\w*Submit\w*")
"""A line from Slurm that names a limit on the jobs in the queue: it passes as jobs end."""

_FULL = re.compile(r"job queue full|resource temporarily unavailable", re.IGNORECASE)
"""Texts of error numbers that mean that the queue is full."""

_NOWHERE = re.compile(f"{_FAILED}Requested node configuration is not available")

_SLEEPS = re.compile("sleeping and retrying")

_TOO_LARGE = re.compile(r"invalid job array specification", re.IGNORECASE)

_FOR_NOW = re.compile(
    r"accounting/QOS policy|not available now|partition not available|presently disabled"
    r"|not usable now|reservation is in use|in transition",
    re.IGNORECASE,
)
"""Texts of error numbers for other refusals that may pass."""


class Kind(enum.Enum):
    """The meaning of a refusal by sbatch."""

    FULL = enum.auto()
    """The queue takes no more jobs, or not this many."""
    TOO_LARGE = enum.auto()
    """An array is larger than arrays may be."""
    FOR_NOW = enum.auto()
    FINAL = enum.auto()


@frozen
class Refusal:
    """sbatch has refused one job or one array."""

    words: str
    kind: Kind

    def error(self) -> SubmitError:
        """The same as the core's error type."""
        # All jobs of a run are submitted with the same options.
        passes = self.kind in (Kind.FULL, Kind.FOR_NOW)
        return SubmitError(self.words, transient=passes, every_job=not passes)


def refusal(failure: CommandFailed) -> Refusal:
    """Find out what a failure of sbatch means.

    Only Slurm's own output counts: a site's own text may contain any words.

    Raises:
        BackendUnavailable: Slurm has not answered.
    """
    words = f"sbatch: {failure}"
    said = [line.removeprefix(_FAILED) for line in failure.lines if line.startswith(_FAILED)]
    if not said:  # it failed before it could submit anything
        if not failure.lines or _OUTAGE.search(failure.lines[-1]):
            raise BackendUnavailable(words)
        return Refusal(words, Kind.FINAL if _USAGE in failure.lines else Kind.FOR_NOW)
    reason = said[-1]
    if _OUTAGE.search(reason):
        raise BackendUnavailable(words)
    if _FULL.search(reason) or any(_LIMIT.fullmatch(line) for line in failure.lines):
        return Refusal(words, Kind.FULL)
    if _TOO_LARGE.search(reason):
        return Refusal(words, Kind.TOO_LARGE)
    return Refusal(words, Kind.FOR_NOW if _FOR_NOW.search(reason) else Kind.FINAL)


class Submitter:
    """Calls sbatch.

    Args:
        options: the runner's.
        commands: Slurm's.
        book: records the arrays.
        cluster: its first call asks the cluster for its configuration.
        nodes: knows which nodes are avoided.
    """

    def __init__(
        self,
        options: SlurmOptions,
        commands: Commands,
        book: BatchBook,
        cluster: Callable[[], Cluster],
        nodes: Nodes,
    ) -> None:
        self._options, self._commands, self._book = options, commands, book
        self._cluster, self._nodes = cluster, nodes
        self._sys_path_base = imports.current_directory() or "/"
        self.held: dict[str, Prepared] = {}
        """Jobs that wait here because a limit of the cluster is reached."""
        self.held_why = ""
        self.doubtful: set[str] = set()
        """Keys for which sbatch was called but has not answered."""

    def submit(self, jobs: Sequence[Prepared]) -> dict[str, SubmitError]:
        """Submit jobs, or hold them if the cluster's limit is reached. Returns the refused ones.

        Raises:
            BackendUnavailable: Slurm does not answer; the jobs that it may have are `doubtful`.
        """
        refused: dict[str, SubmitError] = {}
        for wants, group in itertools.groupby(sorted(jobs, key=_wants), key=_wants):
            del wants
            refused |= self._bring(list(group), LARGEST_ARRAY)
        return refused

    def submit_held(self, room: int) -> dict[str, SubmitError]:
        """Try the held jobs again. Returns those refused for good.

        Args:
            room: how many of our jobs have ended since the last try: it tries this many first.

        Raises:
            BackendUnavailable: as for `submit`.
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
        """Submit equal jobs in arrays of at most ``size``, smaller ones if a limit is near."""
        refused: dict[str, SubmitError] = {}
        # A cluster without arrays reports 0.
        size = min(size, max(1, self._cluster().max_array_size) if len(jobs) > 1 else 1)
        while jobs:
            if self.held:
                self.held |= {job.request.key: job for job in jobs}
                break
            part = jobs[:size]
            answer = self._try(part)
            if isinstance(answer, Refusal):
                avoided = self._nodes.exclude(part[0].request.avoid)
                if avoided and _NOWHERE.search(answer.words):
                    self._nodes.forgive()
                    continue
                if len(part) > 1 and answer.kind in (Kind.FULL, Kind.TOO_LARGE):
                    size = len(part) // 2
                    continue
                if answer.kind is Kind.FULL:
                    self.held_why = answer.words
                    self.held |= {job.request.key: job for job in jobs}
                    break
                answer = answer.error()
            if answer is not None:
                refused |= {job.request.key: answer for job in part}
            jobs = jobs[size:]
        return refused

    def _try(self, jobs: Sequence[Prepared]) -> SubmitError | Refusal | None:
        keys = [job.request.key for job in jobs]
        base, signals_all = self._sys_path_base, self._cluster().signals_all
        try:
            for job in jobs:
                if not jobfolder.has(job.request.folder, jobfolder.CLAIM):
                    script.complete_job_file(job, self._options, base, signals_all=signals_all)
            batch = self._book.new(keys)
            path = self._write_script(batch, jobs)
        except InvalidInput as error:
            return SubmitError(str(error))
        except OSError as error:
            return SubmitError(f"its files cannot be written: {error}", transient=True)
        size = len(jobs) if batch.is_array else None
        avoided = self._nodes.exclude(jobs[0].request.avoid)
        argv = script.command(batch.name, jobs[0], self._options, path, size, avoided)
        self.doubtful.update(keys)
        try:
            printed = self._commands.run(*argv, env=script.environment(jobs[0]))
        except CommandRetries as waits:
            if not _SLEEPS.search(str(waits)):
                raise
            # If it tried again before it was ended, the next query finds the jobs.
            return Refusal(str(waits), Kind.FULL)
        except CommandFailed as failure:
            answer = refusal(failure)
            self.doubtful.difference_update(keys)
            self._clear_away(batch)
            return answer
        number = printed.strip().partition(";")[0]
        if not number.isdigit():
            raise BackendUnavailable(f"sbatch has answered {printed!r:.200}, which is no job's id")
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
            pass  # Slurm itself ends jobs that it refused; this only makes sure


def _wants(job: Prepared) -> tuple[Any, ...]:
    return job.wants, job.env, job.request.avoid
