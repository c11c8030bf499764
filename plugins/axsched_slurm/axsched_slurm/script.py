"""Makes the arguments of sbatch and the batch script."""

from __future__ import annotations

import json
import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from axsched_core import imports, jobfolder
from axsched_core.errors import InvalidInput
from axsched_core.jobs import (
    ContainerObjective,
    FunctionObjective,
    JobRequest,
    Resources,
    ScriptObjective,
)
from axsched_core.worker.axsched_worker import THREAD_VARIABLES
from axsched_slurm.commands import own_environment
from axsched_slurm.containers import command_line, container_options
from axsched_slurm.options import SlurmOptions, seconds_of

SCRIPT = "batch.sh"
"""In a job's folder: the batch script, unless the job is one of an array."""
WITHOUT_PYTHON = "job.sh"
"""In the folder of a script's job: what a node runs if it has no Python for the worker."""
LOG = "slurm.log"
"""In a job's folder: the output of the batch script and of Slurm itself."""
NO_FOLDER = 66
"""Exit code of a batch script that cannot enter the job's folder."""
NO_MODULE = 67
"""Exit code of a batch script if ``module load`` failed."""
NO_SETUP = 68
"""Exit code of a batch script if a command of ``setup`` failed."""
NO_WRITE = 69
"""Exit code of a batch script that cannot write into the job's folder."""
TIME_ASKED = "slurm_time_limit"
"""In ``job.json``: the seconds that sbatch was asked for; null: the partition's default."""
TIME_SLACK = 60.0
"""Seconds that Slurm gives a job beyond the limit that its worker enforces."""


@frozen
class Prepared:
    """A request and its sbatch arguments; equal ``wants`` and ``env`` make an array."""

    request: JobRequest
    wants: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = field(repr=False)
    """The objective's environment: names and values (secrets), sorted."""
    cpus: int | None

    @property
    def time_asked(self) -> float | None:
        """Seconds that sbatch is asked for; None: the partition's default."""
        times = [want.removeprefix("--time=") for want in self.wants if want.startswith("--time=")]
        return seconds_of(times[-1]) if times else None


def prepare(request: JobRequest, options: SlurmOptions) -> Prepared:
    """Find out what a job needs from Slurm. Changes nothing.

    Raises:
        InvalidInput: the runner cannot run this.
    """
    if request.objective is None:
        raise InvalidInput("Slurm runs functions, scripts and containers; no objective is set")
    env = dict(jobfolder.environment(request))
    resources = request.resources
    if isinstance(request.objective, ContainerObjective):
        command_line(request, options.container_engine)  # raises for invalid options
        chosen = container_options(request.objective)
        given = {**chosen.env, **chosen.env_vars}
        env |= {str(name): str(value) for name, value in given.items()}
        resources = Resources(
            cpus=math.ceil(chosen.cpus) if chosen.cpus else resources.cpus,
            memory_bytes=chosen.memory or resources.memory_bytes,
            gpus=chosen.gpus if chosen.gpus is not None else resources.gpus,
            time_limit=resources.time_limit,
        )
    wants = _wants(options, resources, _own_limit(request))
    cpus = resources.cpus or options.cpus_per_task
    return Prepared(request, wants, tuple(sorted(env.items())), cpus)


def complete_job_file(
    prepared: Prepared, options: SlurmOptions, base: str, *, signals_all: bool
) -> None:
    """Add to ``job.json`` what only this runner knows about the place where the job will run.

    Args:
        prepared: the job.
        options: the runner's.
        base: relative entries of ``sys.path`` start at this directory.
        signals_all: see `Cluster.signals_all`.

    Raises:
        InvalidInput: there is no usable ``job.json``.
        OSError: it cannot be written.
    """
    request = prepared.request
    folder = request.folder
    job = jobfolder.read_json(folder, jobfolder.JOB)
    if not isinstance(job, dict):
        raise InvalidInput(f"there is no usable {jobfolder.JOB} in {folder}")
    job["backend_explains"] = True
    job["signals_all"] = signals_all and not _early_term(options)
    job[TIME_ASKED] = prepared.time_asked
    if prepared.cpus is not None:
        job["threads"] = prepared.cpus
    if isinstance(request.objective, FunctionObjective):
        job |= imports.places(base)
    elif isinstance(request.objective, ContainerObjective):
        # For the worker, a container is a script that starts one.
        job["kind"] = "script"
        job["argv"] = list(command_line(request, options.container_engine))
        job["env"] = [name for name, _ in prepared.env]
        job["time_limit"] = _least(job.get("time_limit"), _own_limit(request))
    jobfolder.write(folder, jobfolder.JOB, json.dumps(job).encode())
    if "argv" in job:
        jobfolder.write(folder, WITHOUT_PYTHON, _without_python(folder, job).encode())


def _early_term(options: SlurmOptions) -> bool:
    """True if ``sbatch --signal=B:TERM@60`` signals only the batch script, some time before Slurm
    signals all processes."""
    signal = [one.removeprefix("--signal=") for one in options.sbatch_options]
    return any(re.match(r"(R:|R?B:)+(SIG)?(TERM|15)\b", one, re.IGNORECASE) for one in signal)


def _without_python(folder: Path, job: Mapping[str, Any]) -> str:
    """What a node without Python runs instead of the worker: see ``without_python.sh``."""
    variables = {
        "AXSCHED_JOB_DIR": folder,
        "AXSCHED_PARAMS_FILE": folder / jobfolder.PARAMS,
        "AXSCHED_RESULT_FILE": folder / jobfolder.RESULT,
        "AXSCHED_PROGRESS_FILE": folder / jobfolder.PROGRESS,
        "AXSCHED_TRIAL_INDEX": job["trial_index"],
        "AXSCHED_ATTEMPT": job["attempt"],
        "JOB_PARAMS_FILE": folder / jobfolder.PARAMS,
    }
    lines = [f"export {name}={shlex.quote(str(value))}" for name, value in variables.items()]
    for name in THREAD_VARIABLES if "threads" in job else ():
        lines.append(f'export {name}="${{{name}:-{job["threads"]}}}"')
    lines.append(f"cd {shlex.quote(job.get('working_dir') or str(folder))} || exit 126")
    return "\n".join([*lines, f"exec {shlex.join(job['argv'])}", ""])


def _own_limit(request: JobRequest) -> float | None:
    """The limit, in seconds, that the user set for the objective itself."""
    if isinstance(request.objective, ContainerObjective):
        return container_options(request.objective).time_limit
    return getattr(request.objective, "time_limit", None)


def _least(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _wants(options: SlurmOptions, need: Resources, own_limit: float | None) -> tuple[str, ...]:
    memory = options.memory
    if need.memory_bytes is not None:
        memory = f"{math.ceil(need.memory_bytes / 1024)}K"
    wanted = {
        "partition": options.partition,
        "time": _time(options.time_limit, own_limit, need.time_limit),
        "mem": memory,
        "cpus-per-task": need.cpus or options.cpus_per_task,
        "gpus": need.gpus if need.gpus is not None else options.gpus,
        "gres": options.gres,
        "nodes": options.nodes,
        "ntasks": options.ntasks,
        "account": options.account,
        "qos": options.qos,
        "constraint": options.constraint,
    }
    arguments = [f"--{name}={value}" for name, value in wanted.items() if value is not None]
    return (*arguments, *options.sbatch_options)


def resource_arguments(options: SlurmOptions) -> tuple[str, ...]:
    """The sbatch arguments of any job with these options."""
    return _wants(options, Resources(), None)


def _time(asked: str | None, own: float | None, limit: float | None) -> str | None:
    """The time to ask Slurm for: never less than the worker allows the job."""
    if asked is None and own is None:
        # Do not ask for more than the partition's default because of the core's general limit.
        return None
    needed = _least(own, limit)
    if asked is not None and (needed is None or seconds_of(asked) <= needed + TIME_SLACK):
        return asked
    assert needed is not None
    return str(math.ceil((needed + TIME_SLACK) / 60))


def command(
    name: str,
    prepared: Prepared,
    options: SlurmOptions,
    script: Path,
    size: int | None,
    avoided: str = "",
) -> list[str]:
    """The sbatch command for a job, or an array of ``size`` jobs; ``avoided`` are nodes."""
    return [
        "sbatch",
        "--parsable",
        f"--job-name={name}",
        *([] if size is None else [f"--array=0-{size - 1}"]),
        # The batch script itself writes into the job's folder. Its exit code says if it cannot
        # see it. (If slurmd cannot open a file, it ends the job without a message.)
        "--output=/dev/null",
        f"--export={_export(options, prepared)}",
        *prepared.wants,
        *([f"--exclude={avoided}"] if avoided else []),
        str(script),
    ]


def _export(options: SlurmOptions, prepared: Prepared) -> str:
    if options.export is None:
        return "ALL"
    # Names only: sbatch takes the values from its own environment.
    return ",".join(dict.fromkeys([*options.export, *(name for name, _ in prepared.env)])) or "NONE"


def environment(prepared: Prepared) -> Mapping[str, str]:
    """The environment of sbatch and the job: the driver's and the objective's."""
    return {**own_environment(), **dict(prepared.env)}


def batch_script(requests: Sequence[JobRequest], options: SlurmOptions, *, array: bool) -> str:
    """The script: it finds its folder, runs the set-up, and becomes the job's worker."""
    quoted = " ".join(shlex.quote(str(request.folder)) for request in requests)
    lines = ["#!/bin/bash", f"set -- {quoted}"]
    if array:
        lines.append('shift "$SLURM_ARRAY_TASK_ID"')
    lines += [
        f'cd "$1" || exit {NO_FOLDER}',
        f": >>{LOG} || exit {NO_WRITE}",
        f"exec >>{LOG} 2>&1",
        f"[ -e {jobfolder.EXIT} ] && exit 0  # Slurm has requeued a job that had ended",
        *set_up(options),
        *find_python(options.python),
        *_for_nodes_without_python(requests),
        f'exec "$python" {jobfolder.WORKER} "$1" --stay --restart "${{SLURM_RESTART_COUNT:-0}}"',
    ]
    return "\n".join(lines) + "\n"


def _for_nodes_without_python(requests: Sequence[JobRequest]) -> list[str]:
    if all(isinstance(request.objective, FunctionObjective) for request in requests):
        return []
    text = Path(__file__).with_name("without_python.sh").read_text(encoding="utf-8")
    condition = f'[ -e {WITHOUT_PYTHON} ] && ! command -v "$python" >/dev/null 2>&1'
    return [f"if {condition}; then", text.rstrip(), "fi"]


# Like `set -e`, but does not end scripts that the set-up sources if one of their commands fails.
_STOP_ON_ERROR = (
    "trap 'axsched_code=$?; [ ${#BASH_SOURCE[@]} -gt 1 ] || "
    '{ echo "set-up: exit code $axsched_code of: $BASH_COMMAND"; '
    f"exit {NO_SETUP}; }}' ERR"
)


def set_up(options: SlurmOptions) -> list[str]:
    """Lines that load the modules and run the user's set-up; ``$1`` is the job's folder."""
    lines = []
    if options.modules:
        lines.append("type module >/dev/null 2>&1 || . /etc/profile")
        lines += [f"module load {shlex.quote(one)} || exit {NO_MODULE}" for one in options.modules]
    if options.setup:
        # The lines may change the positional parameters: restore ours.
        lines += ["axsched_folder=$1", _STOP_ON_ERROR, *options.setup, "trap - ERR"]
        lines += ['cd "$axsched_folder"', 'set -- "$axsched_folder"']
    return lines


def find_python(python: str | None) -> list[str]:
    """Lines that set ``$python``."""
    if python is not None:
        return [f"python={shlex.quote(python)}"]
    return [
        f"python={shlex.quote(sys.executable)}",
        '[ -x "$python" ] || python=python3',
    ]


def what_runs(request: JobRequest, options: SlurmOptions) -> str:
    """What the job's worker starts, for people. Masks values of environment variables: secrets."""
    objective = request.objective
    if isinstance(objective, FunctionObjective):
        return f"{objective.name}({'**parameters' if objective.keywords else 'parameters'})"
    if isinstance(objective, ContainerObjective):
        return shlex.join(command_line(request, options.container_engine))
    assert isinstance(objective, ScriptObjective)
    where = objective.working_dir or str(request.folder)
    variables = [f"{name}=***" for name in objective.env]
    return f"cd {shlex.quote(where)} && {' '.join([*variables, shlex.join(objective.argv)])}"
