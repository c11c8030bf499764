"""Defines and checks the runner's options, and the sbatch options that users may set."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import Attribute, field, frozen
from attrs.validators import gt

from axsched_core import plain
from axsched_core.errors import InvalidInput

OWNED = {
    "array": "batches are made by the runner",
    "chdir": "a job runs in its own folder; scripts have script_options={'working_dir': ...}",
    "clusters": "one cluster is used, the default one",
    "error": "a job's stderr.log is in its folder",
    "export": "set the option export",
    "export-file": "set the option export",
    "input": "a job has no standard input",
    "job-name": "it tells the runner's jobs from all others",
    "open-mode": "a job's logs are in its folder",
    "output": "a job's stdout.log is in its folder",
    "parsable": "the runner reads what sbatch says",
    "quiet": "the runner reads what sbatch says",
    "test-only": "use scheduler.preview() and `axsched doctor slurm`",
    "wait": "the runner waits itself",
    "wrap": "the objective is what is run",
}
"""Options of sbatch that the runner sets itself, and why."""

ELSEWHERE = {
    "account": "account",
    "constraint": "constraint",
    "cpus-per-task": "cpus_per_task",
    "gpus": "gpus",
    "gres": "gres",
    "mem": "memory",
    "nodes": "nodes",
    "ntasks": "ntasks",
    "partition": "partition",
    "qos": "qos",
    "time": "time_limit",
}
"""sbatch options that are separate options of the runner: sbatch's name -> ours."""

LETTERS = {
    "A": "account",
    "a": "array",
    "b": "begin",
    "C": "constraint",
    "c": "cpus-per-task",
    "D": "chdir",
    "d": "dependency",
    "e": "error",
    "F": "nodefile",
    "G": "gpus",
    "H": "hold",
    "i": "input",
    "J": "job-name",
    "k": "no-kill",
    "L": "licenses",
    "M": "clusters",
    "N": "nodes",
    "n": "ntasks",
    "o": "output",
    "p": "partition",
    "Q": "quiet",
    "q": "qos",
    "S": "core-spec",
    "s": "oversubscribe",
    "t": "time",
    "W": "wait",
    "w": "nodelist",
    "x": "exclude",
}
"""sbatch's short names of its options: letter -> long name."""

_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
_Validator = Callable[[object, "Attribute[Any]", Any], None]


def seconds_of(time_limit: str) -> int:
    """Convert a time in Slurm's format to seconds.

    Slurm's formats: ``M``, ``M:S``, ``H:M:S``, ``D-H``, ``D-H:M``, ``D-H:M:S``.

    Raises:
        InvalidInput: it has none of these formats.
    """
    match = _TIME.fullmatch(time_limit)
    if match is None:
        raise InvalidInput(
            f"time_limit={time_limit!r} is no time of Slurm's: write 'H:MM:SS' or 'D-HH:MM:SS'"
        )
    days, *parts = (None if part is None else int(part) for part in match.groups())
    first, second, third = parts[0] or 0, parts[1] or 0, parts[2] or 0
    if days is not None:
        return ((days * 24 + first) * 60 + second) * 60 + third
    if parts[2] is not None:
        return (first * 60 + second) * 60 + third
    return first * 60 + second


def _time(_: object, attribute: Attribute[Any], value: Any) -> None:
    if isinstance(value, int):
        raise InvalidInput(
            f"{attribute.name}={value!r} could be minutes or seconds: write '0:30:00'"
        )
    if value is not None and (not isinstance(value, str) or seconds_of(value) == 0):
        raise InvalidInput(f"{attribute.name}={value!r} is no time: write '0:30:00'")


def _memory(_: object, attribute: Attribute[Any], value: Any) -> None:
    if value is not None and not re.fullmatch(r"\d+[KMGT]", str(value)):
        raise InvalidInput(f"{attribute.name}={value!r} is no amount of memory: write '4G', '500M'")


def _count(least: int) -> _Validator:
    def check(_: object, attribute: Attribute[Any], value: Any) -> None:
        if value is not None and (type(value) is not int or value < least):
            raise InvalidInput(f"{attribute.name}={value!r} must be a number from {least} on")

    return check


def _word(_: object, attribute: Attribute[Any], value: Any) -> None:
    if value is not None and not (isinstance(value, str) and value.strip() and "\n" not in value):
        raise InvalidInput(f"{attribute.name}={value!r} must be a word of Slurm's, or left out")


def _gpus(value: Any) -> str | None:
    if value is None:
        return None
    number = plain.whole(value)
    words = str(value if number is None else number)
    if isinstance(value, bool) or not re.fullmatch(r"([\w.-]+:)?\d+", words):
        raise InvalidInput(f"gpus={value!r} must be a number, or 'type:number'")
    return words


def _lines(value: Any) -> tuple[str, ...]:
    lines = (value,) if isinstance(value, str) else value
    if not isinstance(lines, Sequence) or not all(isinstance(one, str) for one in lines):
        raise InvalidInput(f"{value!r} must be a string or a list of strings")
    return tuple(lines)


def _names(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = _lines(value)
    for name in names:
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise InvalidInput(f"export: {name!r} is no name of an environment variable")
    return names


def _sbatch_options(given: Any) -> tuple[str, ...]:
    """Arguments for sbatch, from a mapping of option names to values, or from a list of options.

    Raises:
        InvalidInput: the runner sets this option itself, or it is a separate option of the runner.
    """
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, Sequence) and not isinstance(given, str):
        pairs = [_pair(str(one)) for one in given]
    else:
        raise InvalidInput(
            f"sbatch_options={given!r} must be a mapping, such as {{'exclusive': True}}"
        )
    arguments = []
    for key, value in pairs:
        name = _allowed(str(key))
        if value is True:
            arguments.append(f"--{name}")
        elif value is not None and value is not False:
            arguments.append(f"--{name}={value}")
    return tuple(arguments)


def _pair(argument: str) -> tuple[str, str | bool]:
    name, equals, value = argument.partition("=")
    return name, value if equals else True


def _allowed(key: str) -> str:
    """The long name of an sbatch option that users may set."""
    name = key.lstrip("-").replace("_", "-")
    name = LETTERS.get(name, name)
    if name in OWNED:
        raise InvalidInput(f"sbatch_options: {key!r} is the runner's own: {OWNED[name]}")
    if name in ELSEWHERE:
        raise InvalidInput(f"sbatch_options: for {key!r} set the option {ELSEWHERE[name]}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]+", name):
        raise InvalidInput(f"sbatch_options: {key!r} is no name of an option; write the long one")
    return name


@frozen
class SlurmOptions:
    """Options of the Slurm runner; every one has a default.

    If you leave an option out, the cluster decides.

    Raises:
        InvalidInput: a value is invalid, or ``sbatch_options`` has an option that they may not set.
    """

    partition: str | None = field(default=None, validator=_word)
    time_limit: str | None = field(default=None, validator=_time)
    """In Slurm's format: ``"0:30:00"``, ``"2-12:00:00"``."""
    memory: str | None = field(default=None, validator=_memory)
    """For each node: ``"4G"``, ``"500M"``."""
    cpus_per_task: int | None = field(default=None, validator=_count(1))
    gpus: str | None = field(default=None, converter=_gpus)
    """For each job: a number, or ``"a100:2"``."""
    gres: str | None = field(default=None, validator=_word)
    """Generic resources for each node, in Slurm's format."""
    nodes: int | None = field(default=None, validator=_count(1))
    ntasks: int | None = field(default=None, validator=_count(1))
    """Slurm starts the objective itself once, on the first node; the objective calls srun."""
    account: str | None = field(default=None, validator=_word)
    qos: str | None = field(default=None, validator=_word)
    constraint: str | None = field(default=None, validator=_word)
    modules: Sequence[str] = field(default=(), converter=_lines)
    """Loaded with ``module load`` before the job begins."""
    setup: Sequence[str] = field(default=(), converter=_lines)
    """Lines of bash, run before the job begins (``"source /opt/conda/bin/activate mine"``). If one
    of their commands fails, the job does not begin; after one that may fail, write ``|| true``."""
    export: Sequence[str] | None = field(default=None, converter=_names)
    """Names of the driver's environment variables that jobs get. None: all but Slurm's own."""
    sbatch_options: tuple[str, ...] = field(default=(), converter=_sbatch_options)
    """Other options of sbatch: ``{"exclusive": True, "mail-type": "FAIL"}``."""
    python: str | None = field(default=None, validator=_word)
    """What runs the job's worker. None: the driver's own Python if the node has it, otherwise
    ``python3``."""
    container_engine: str | None = field(default=None, validator=_word)
    """apptainer, singularity or ch-run, or the path of one. None: apptainer if the node has it,
    otherwise singularity."""
    job_dir: str | None = field(default=None, validator=_word)
    """Folder for batch scripts and the tables of arrays, on a file system that all nodes share.
    None: in the run directory."""
    patience: float = field(default=60.0, validator=gt(0))
    """Seconds that a job may be missing from all of Slurm's lists before it counts as lost, and
    that its files may take to be visible here."""
    command_timeout: float = field(default=60.0, validator=gt(0))
    """Seconds that one of Slurm's commands may take."""

    @property
    def chooses_nodes(self) -> bool:
        """True if ``sbatch_options`` say which nodes jobs may use."""
        names = ("--exclude=", "--nodelist=", "--nodefile=")
        return any(one.startswith(names) for one in self.sbatch_options)
