"""Makes a command line for apptainer, singularity or ch-run from a container objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen
from attrs.converters import optional as or_none
from attrs.validators import ge, gt, optional

from axsched_core import options
from axsched_core.errors import InvalidInput
from axsched_core.jobs import ContainerObjective, JobRequest

_FIND_ENGINE = (
    'for engine in apptainer singularity; do command -v "$engine" >/dev/null 2>&1 && '
    'exec "$engine" "$@"; done; '
    "echo 'this node has neither apptainer nor singularity' >&2; exit 127"
)


def _volumes(value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        return tuple(f"{source}:{_target(target)}" for source, target in value.items())
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidInput(f"volumes={value!r}: give a mapping or a list")
    return tuple(map(str, value))


def _target(target: Any) -> str:
    if isinstance(target, Mapping):
        return f"{target.get('bind')}:{target.get('mode', 'rw')}"
    return str(target)


@frozen
class ContainerOptions:
    """The ``container_options`` of `AxScheduler.set_container_objective`.

    Options that the Docker runner also has are named as there.
    """

    volumes: Sequence[str] = field(default=(), converter=_volumes)
    """A list of ``"source:target"`` or ``"source:target:ro"``, or a mapping from source to
    target."""
    env: Mapping[str, Any] = field(factory=dict, metadata={"secret": True})
    """Environment variables to add."""
    env_vars: Mapping[str, Any] = field(factory=dict, metadata={"secret": True})
    """The same as ``env``."""
    working_dir: str | None = None
    """Where the command starts. None: in the job's folder."""
    args: Sequence[str] = ()
    """Further arguments for the engine, before the image."""
    cpus: float | None = field(default=None, validator=optional(gt(0)))
    """Slurm gives whole ones: as many as that needs."""
    memory: int | None = field(default=None, converter=or_none(options.size))
    """Bytes, or a text like ``"512m"``, ``"2g"``."""
    gpus: int | None = field(default=None, validator=optional(ge(0)))
    """More than 0 adds apptainer's ``--nv``."""
    time_limit: float | None = field(default=None, validator=optional(gt(0)))
    """Seconds."""


def container_options(objective: ContainerObjective) -> ContainerOptions:
    """Check a container objective's options.

    Raises:
        InvalidInput: an option is unknown or invalid.
    """
    return options.build(ContainerOptions, objective.options, "container_options")


def command_line(request: JobRequest, engine: str | None) -> tuple[str, ...]:
    """The command that runs the container in a job.

    The job's folder is bound under its own path. It is also the working directory, unless an option
    names another. The engine passes on its environment, with the job's ``AXSCHED_...``.

    Args:
        request: a job with a container objective.
        engine: the option ``container_engine``.

    Raises:
        InvalidInput: an option is invalid, or the engine needs more.
    """
    objective = request.objective
    assert isinstance(objective, ContainerObjective)
    chosen = container_options(objective)
    folder = str(request.folder)
    if engine is not None and Path(engine).name.startswith("ch-run"):
        return _charliecloud(engine, objective, chosen, folder)
    binds = [f"{folder}:{folder}", *chosen.volumes]
    arguments = ["exec" if objective.command else "run"]
    for bind in binds:
        arguments += ["--bind", bind]
    arguments += ["--pwd", chosen.working_dir or folder]
    if chosen.gpus:
        arguments.append("--nv")
    arguments += [*chosen.args, image_name(objective.image), *(objective.command or ())]
    if engine is None:
        return ("/bin/sh", "-c", _FIND_ENGINE, "axsched", *arguments)
    return (engine, *arguments)


def _charliecloud(
    engine: str, objective: ContainerObjective, chosen: ContainerOptions, folder: str
) -> tuple[str, ...]:
    if not objective.command:
        raise InvalidInput("ch-run has no default command: give the container_command")
    arguments = [engine]
    for bind in [f"{folder}:{folder}", *chosen.volumes]:
        arguments += ["--bind", bind]
    arguments += [
        "--cd",
        chosen.working_dir or folder,
        *chosen.args,
        objective.image,
        "--",
        *objective.command,
    ]
    return tuple(arguments)


def image_name(image: str) -> str:
    """An image in apptainer's form: a name without a scheme is an image in a registry."""
    if "://" in image or image.endswith((".sif", ".img", ".sqsh")) or Path(image).exists():
        return image
    return f"docker://{image}"
