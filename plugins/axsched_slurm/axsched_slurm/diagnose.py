"""Makes the checks of ``axsched doctor slurm``, from the commands to a job that really runs."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from axsched_core.errors import BackendUnavailable, InvalidInput, RunnerError
from axsched_core.jobs import Check
from axsched_slurm import states
from axsched_slurm.cluster import Cluster, describe
from axsched_slurm.commands import CommandFailed, Commands, own_environment, require
from axsched_slurm.options import SlurmOptions, seconds_of
from axsched_slurm.query import Row, squeue
from axsched_slurm.script import LOG, find_python, resource_arguments, set_up

NEEDED = ("sbatch", "squeue", "scancel", "scontrol")
PROBE_LIMIT = 120.0
"""Seconds that the probe job may wait for a node."""
FILE_LIMIT = 60.0
"""Seconds until its file must be visible here."""
CLOCK_LIMIT = 5.0
"""Seconds by which the clocks of node and driver may differ."""
OLDEST_PYTHON = (3, 7)
"""The worker runs with this version or newer."""
LOOK = 1.0
"""Seconds between two queries for the probe job."""


def checks(options: SlurmOptions) -> list[Check]:
    """Check everything that jobs need; stop if the next check would make no sense."""
    return list(_checks(options))


def _checks(options: SlurmOptions) -> Iterator[Check]:
    commands = Commands(options.command_timeout)
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        words = f"{', '.join(missing)} not on PATH: is this a machine of the cluster?"
        yield Check("commands", False, words)
        return
    try:
        require()
    except RunnerError as error:
        yield Check("controller", False, str(error))
        return
    try:
        version = commands.ask("sbatch", "--version").strip()
        yield Check("commands", True, f"{version} ({shutil.which('sbatch')})")
        cluster = describe(commands)
    except BackendUnavailable as trouble:
        yield Check("controller", False, str(trouble))
        return
    yield Check("controller", True, f"cluster {cluster.name}, Slurm {cluster.version} answers")
    yield _accounting(cluster, commands)
    words = f"arrays up to {cluster.max_array_size}, {cluster.max_jobs} jobs in the queue"
    yield Check("limits", True, words)
    probe = list(_Probe(options, commands).checks())
    if options.partition is not None:
        ran = any(check.name == "job" and check.ok for check in probe)
        yield _partition(options, commands, ran)
    yield from probe


def _accounting(cluster: Cluster, commands: Commands) -> Check:
    if not cluster.accounting:
        age = f"{cluster.min_job_age:g} s"
        words = f"off: squeue knows a job for {age} after its end, then its files"
        return Check("accounting", True, words)
    if shutil.which("sacct") is None:
        return Check("accounting", False, "on, but there is no sacct on PATH")
    try:
        commands.ask("sacct", "-n", "-X", "-o", "JobID", "-S", "now-1minutes")
    except BackendUnavailable as trouble:
        return Check("accounting", False, f"on, but does not answer: {trouble}")
    return Check("accounting", True, "on")


def _partition(options: SlurmOptions, commands: Commands, ran: bool) -> Check:
    try:
        text = commands.ask("scontrol", "show", "partition", str(options.partition))
    except BackendUnavailable as trouble:
        if ran:  # PrivateData
            return Check("partition", True, f"{options.partition} is not shown, but has run a job")
        return Check("partition", False, str(trouble))
    shown = dict(word.partition("=")[::2] for word in text.split())
    limit, state = shown.get("MaxTime", ""), shown.get("State", "")
    words = f"{options.partition} is {state}, jobs may run {limit}"
    try:
        too_long = options.time_limit is not None and seconds_of(options.time_limit) > seconds_of(
            limit
        )
    except InvalidInput:  # UNLIMITED
        too_long = False
    if too_long:
        words += f", which is less than time_limit={options.time_limit}"
    return Check("partition", state == "UP" and not too_long, words)


class _Probe:
    """A small job, with the options of real jobs, that writes a file where they will write."""

    def __init__(self, options: SlurmOptions, commands: Commands) -> None:
        self._options, self._commands = options, commands
        place = Path(options.job_dir) if options.job_dir is not None else Path.cwd()
        self._place = place.expanduser().absolute()
        self._name = f"axsched-doctor-{os.getpid()}"

    def checks(self) -> Iterator[Check]:
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=".axsched-doctor-", dir=self._place))
        except OSError as error:
            yield Check("folder", False, f"{self._place} cannot be written here: {error}")
            return
        try:
            yield from self._run(folder)
        except BackendUnavailable as trouble:
            yield Check("job", False, str(trouble))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, folder: Path) -> Iterator[Check]:
        script, begun = folder / "probe.sh", time.time()
        script.write_text(self._script(folder))
        try:
            answer = self._commands.run(
                *("sbatch", "--parsable", f"--job-name={self._name}", "--output=/dev/null"),
                *("--export=ALL", *resource_arguments(self._options), str(script)),
                env=own_environment(),
            )
        except CommandFailed as failure:
            yield Check("job", False, f"sbatch refuses it: {failure}")
            return
        job_id = answer.strip().partition(";")[0]
        try:
            row = self._wait(job_id)
        finally:
            self._cancel(job_id)
        if row is None:
            yield Check("job", False, f"{job_id} has not been seen to end in {PROBE_LIMIT:g} s")
            return
        if states.alive(row):
            words = f"{job_id} is still {row.state} ({row.reason}) after {PROBE_LIMIT:g} s"
            yield Check("job", False, words)
            return
        ran = row.state == "COMPLETED"
        words = f"{job_id} ran on {row.nodes}" if ran else _failed(folder, row)
        yield Check("job", ran, words)
        if ran:
            yield from _findings(folder, row, begun)

    def _script(self, folder: Path) -> str:
        code = (
            "import json, sys, time; "
            "print(json.dumps([time.time(), sys.version.split()[0], sys.executable]))"
        )
        return "\n".join(
            [
                "#!/bin/bash",
                f"set -- {shlex.quote(str(folder))}",
                'cd "$1" || exit 0',  # the missing file shows that the folder is not there
                f"exec >{LOG} 2>&1",
                *set_up(self._options),
                *find_python(self._options.python),
                f'"$python" -c {shlex.quote(code)} >answer.part 2>&1',
                "mv answer.part answer",
                "",
            ]
        )

    def _wait(self, job_id: str) -> Row | None:
        deadline = time.monotonic() + PROBE_LIMIT
        row: Row | None = None
        while time.monotonic() < deadline:
            rows = [one for one in squeue(self._commands) if one.job_id == job_id]
            row = rows[0] if rows else row
            if row is not None and not states.alive(row):
                break
            time.sleep(LOOK)
        return row

    def _cancel(self, job_id: str) -> None:
        try:
            self._commands.run("scancel", f"--name={self._name}", job_id)
        except (BackendUnavailable, CommandFailed):
            pass  # it ends by itself very soon


def _failed(folder: Path, row: Row) -> str:
    """How it failed, with the last line that it printed."""
    try:
        lines = (folder / LOG).read_text(errors="replace").split("\n")
    except OSError:
        lines = []
    return "; ".join([states.status(row).message, *[one for one in lines if one.strip()][-1:]])


def _findings(folder: Path, row: Row, begun: float) -> Iterator[Check]:
    answer, seen = folder / "answer", time.time()
    deadline = time.monotonic() + FILE_LIMIT
    while not answer.exists() and time.monotonic() < deadline:
        os.listdir(folder)  # makes NFS refresh its cache
        time.sleep(0.1)
    if not answer.exists():
        words = f"{folder.parent} is not the same folder on {row.nodes}; set job_output_dir"
        yield Check("shared folder", False, f"{words} to one that all nodes share")
        return
    yield Check("shared folder", True, f"{folder.parent} is written by {row.nodes}")
    text = answer.read_text(errors="replace").strip()
    try:
        clock, version, executable = json.loads(text)
    except ValueError:
        words = text.splitlines()[-1] if text else "it printed nothing"
        yield Check("python", False, f"{words}; set the option python")
        return
    yield _python(version, f"{executable} on {row.nodes}")
    # By the driver's clock, it ran between these two times.
    off = min(0.0, clock - begun) + max(0.0, clock - seen)
    words = f"{row.nodes} is {off:+.1f} s from here" if off else "agree"
    yield Check("clocks", abs(off) < CLOCK_LIMIT, words)


def _python(version: str, where: str) -> Check:
    words = f"{version} ({where})"
    if tuple(map(int, version.split(".")[:2])) < OLDEST_PYTHON:
        return Check("python", False, f"{words} is too old; set the option python")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not version.startswith(f"{here}."):
        words += f": for scripts; a function needs {here}, as here, by the option python"
    return Check("python", True, words)
