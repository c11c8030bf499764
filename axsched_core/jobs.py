"""The value types that cross the contract between the core and a runner.

Everything here is a frozen attrs class or an enum of plain strings, imports nothing
but the standard library and attrs, and holds plain data, so that it can be logged,
compared, and written as JSON.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Union

from attrs import field, frozen
from attrs.validators import ge, gt, optional

API_VERSION = (1, 0)
"""Version (major, minor) of the hook contract that this core speaks."""

Parameters = Mapping[str, Any]
"""One arm's parameters: name -> str, bool, int, float or None."""

Metrics = Mapping[str, tuple[float, Union[float, None]]]
"""Metric name -> (mean, standard error of the mean or None if it is unknown)."""


class JobState(enum.StrEnum):
    """The state of a job. ``QUEUED`` and ``RUNNING`` may alternate (a requeue)."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"

    @property
    def ended(self) -> bool:
        """True for the four states that a job never leaves."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Cause(enum.StrEnum):
    """Why a job ended in its `JobState`."""

    EXCEPTION = "EXCEPTION"
    """The Python function raised; the traceback is in ``stderr.log``."""
    LOAD_ERROR = "LOAD_ERROR"
    """The function could not be loaded where the job ran (Python version, missing module)."""
    EXIT_CODE = "EXIT_CODE"
    """The process ended by itself with a non-zero exit code."""
    SIGNAL = "SIGNAL"
    """The process was ended by a signal that did not come from axsched."""
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIME_LIMIT = "TIME_LIMIT"
    PREEMPTED = "PREEMPTED"
    NODE_FAIL = "NODE_FAIL"
    SUBMIT_REFUSED = "SUBMIT_REFUSED"
    """The backend will never take this job."""
    CONFIGURATION = "CONFIGURATION"
    """The backend will take no job of this objective with these options (no such image, partition
    or GPU). No trial fails because of it: the run ends, and its trials stay open."""
    RESULT_INVALID = "RESULT_INVALID"
    """The process ended without an error, but left no valid result."""
    LOST = "LOST"
    """The backend does not know the job any more and it left no exit file."""
    CANCELLED = "CANCELLED"
    """A cancel was requested."""


FAULTS_OF_THE_MACHINES = frozenset({Cause.LOST, Cause.NODE_FAIL, Cause.PREEMPTED})
"""Causes that say nothing about the job: on another machine, or later, it may succeed."""

FAULTS_OF_THE_POINT = frozenset(
    {
        Cause.EXCEPTION,
        Cause.EXIT_CODE,
        Cause.SIGNAL,
        Cause.OUT_OF_MEMORY,
        Cause.TIME_LIMIT,
        Cause.RESULT_INVALID,
    }
)
"""Causes that would most likely come again with the same parameters. LOAD_ERROR and SUBMIT_REFUSED
are not among them: if the function cannot be loaded, or the image is gone, the parameters were not
used, and a finite search space would be used up."""


class Capability(enum.StrEnum):
    """What a runner can do. The first four say which objectives it can run."""

    FUNCTION = "function"
    SCRIPT = "script"
    CONTAINER = "container"
    PARAMETERS = "parameters"
    """The runner evaluates the parameters itself; no objective is set."""
    REATTACH = "reattach"
    LOGS = "logs"
    """`axsched_read_log` works while the job runs."""
    RESOURCES = "resources"
    """Gives each job its `JobRequest.resources`."""
    PUSH = "push"
    """Calls ``context.wake`` when a job ends."""


OBJECTIVE_CAPABILITIES = frozenset(
    {Capability.FUNCTION, Capability.SCRIPT, Capability.CONTAINER, Capability.PARAMETERS}
)
"""Those that say which objectives a runner can run."""


def _capabilities(given: Iterable[Capability | str]) -> frozenset[Capability]:
    return frozenset(Capability(one) for one in given)


@frozen
class RunnerInfo:
    """What a runner says about itself. Cheap to make: no I/O, no heavy import."""

    name: str
    """The name that users select it by; equal to the name of its entry point."""
    capabilities: frozenset[Capability] = field(converter=_capabilities)
    summary: str = ""
    """One line for ``axsched runners``."""
    options_class: type | None = None
    """An attrs class; ``runner_options`` are checked against it. None: it has no options. A field
    with ``metadata={"secret": True}`` holds a secret: its value is never written or shown. Give it
    ``repr=False`` too: texts of a running runner are not searched for secrets."""
    api_version: tuple[int, int] = field(default=API_VERSION, converter=tuple)
    """(major, minor) of the contract it was written for."""
    result_grace: float = field(default=30.0, validator=ge(0))
    """Seconds that a result may be late after its job has ended without an error: network file
    systems lag. 0 if results cannot lag."""


@frozen
class Check:
    """One thing that `axsched_diagnose` has checked."""

    name: str
    ok: bool
    message: str = ""


@frozen
class Resources:
    """What one job needs. None: the backend decides."""

    cpus: int | None = field(default=None, validator=optional(ge(1)))
    memory_bytes: int | None = field(default=None, validator=optional(gt(0)))
    gpus: int | None = field(default=None, validator=optional(ge(0)))
    time_limit: float | None = field(default=None, validator=optional(gt(0)))
    """Seconds from the moment the job runs."""

    def __str__(self) -> str:
        """The same in words; empty if the backend decides everything."""
        memory, limit = self.memory_bytes, self.time_limit
        words = [
            None if self.cpus is None else f"{self.cpus} CPU{'' if self.cpus == 1 else 's'}",
            None if memory is None else f"{_with_unit(memory)} of memory",
            None if self.gpus is None else f"{self.gpus} GPU{'' if self.gpus == 1 else 's'}",
            None if limit is None else f"{limit:g} s",
        ]
        return ", ".join(filter(None, words))


def _with_unit(size: int) -> str:
    """Bytes in the largest unit of which they are a whole number."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size % (1 << power) == 0:
            return f"{size >> power} {unit}"
    return f"{size} bytes"


@frozen
class FunctionObjective:
    """A Python function; ``function.pkl`` (cloudpickle) is in the job's folder."""

    name: str
    """The function's qualified name, for people."""
    keywords: bool
    """True: called as ``f(x=..., y=...)``; False: as ``f({"x": ..., "y": ...})``."""
    python: tuple[int, int]
    """(major, minor) of the Python that pickled it."""
    resources: Resources = field(factory=Resources)
    """What each of its jobs needs; its time limit is not used."""
    time_limit: float | None = None
    """Seconds that one evaluation may take; None: the setting alone decides."""

    @property
    def capability(self) -> Capability:
        """What a runner must be able to do to run it."""
        return Capability.FUNCTION


SECRET_OPTIONS = ("env", "env_vars", "environment")
"""Options of a container objective with secret values, such as environment variables."""


def _names_only(env: Mapping[str, str]) -> str:
    return f"<{', '.join(sorted(env))}>"


def _without_secrets(options: Mapping[str, Any]) -> str:
    return repr({key: "***" if key in SECRET_OPTIONS else options[key] for key in options})


@frozen
class ScriptObjective:
    """An executable file; ``argv`` is complete and never goes through a shell."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(factory=dict, repr=_names_only)
    """Added to the job's environment. Values may be secrets: they are not in the job's files, the
    runner puts them into the environment of the process that starts the worker."""
    working_dir: str | None = None
    """None: the job's own folder."""
    time_limit: float | None = None
    """Seconds from the moment the job runs."""
    script: str | None = None
    """The script itself, one of ``argv``: for runners that bring it to another machine."""
    resources: Resources = field(factory=Resources)
    """What each of its jobs needs; its time limit is not used."""

    @property
    def capability(self) -> Capability:
        """What a runner must be able to do to run it."""
        return Capability.SCRIPT


@frozen
class ContainerObjective:
    """A container image that follows the job folder's protocol."""

    image: str
    command: tuple[str, ...] | None = None
    """None: the image's own."""
    options: Mapping[str, Any] = field(factory=dict, repr=_without_secrets)
    """For the runner, which checks them. Those of `SECRET_OPTIONS` are never written."""

    @property
    def capability(self) -> Capability:
        """What a runner must be able to do to run it."""
        return Capability.CONTAINER


Objective = Union[FunctionObjective, ScriptObjective, ContainerObjective]
"""What is evaluated; ``capability`` of each says what a runner must be able to do."""


@frozen
class JobRequest:
    """One attempt to evaluate one trial, before it is submitted."""

    key: str
    """``<run>-<trial>-<attempt>``: globally unique, made before the job is submitted."""
    trial_index: int
    attempt: int
    """1, 2, ..."""
    parameters: Parameters
    folder: Path
    """Absolute path of the job's folder, which exists and holds the job's input files."""
    objective: Objective | None
    """None for a runner with the capability ``parameters``."""
    resources: Resources = field(factory=Resources)
    avoid: tuple[str, ...] = ()
    """Hosts (`JobStatus.host`) on which earlier attempts of this trial failed because of the
    machine. A runner with a choice of machines takes others, as long as there are any."""


@frozen
class JobHandle:
    """What a runner returns for a submitted job; survives JSON."""

    key: str
    backend_id: str = ""
    """The backend's own name for the job (a Slurm id, a container id); "" if it has none."""
    data: Mapping[str, Any] = field(factory=dict)
    """Other data that the runner needs to find the job again; JSON values only."""


@frozen
class SubmitError:
    """One request that the backend refused."""

    message: str
    """The backend's own message."""
    transient: bool = False
    """True: the same job may be accepted later (a full queue). Its request comes again, under the
    same key, after pauses that grow to a minute; this does not count as an attempt of the trial.
    False: the trial fails with this message."""
    every_job: bool = False
    """True: it would refuse every job of this objective with these options in the same way (see
    `Cause.CONFIGURATION`): the run ends with this message, and its trials stay open."""

    def __attrs_post_init__(self) -> None:
        if self.transient and self.every_job:
            raise ValueError("a refusal that is 'transient' cannot be one of 'every_job'")


@frozen
class JobStatus:
    """What the backend says about one job.

    ``SUCCEEDED`` means here that the job's *process* ended without an error; for the engine the job
    has succeeded only when it has read a valid result.
    """

    state: JobState
    cause: Cause | None = None
    message: str = ""
    """For people: one line that says what happened; for a queued or suspended job, why it does not
    run."""
    backend_state: str = ""
    """The backend's own word for the state (``OUT_OF_ME+``, ``Exited (137)``)."""
    exit_code: int | None = None
    signal: int | None = None
    started_at: float | None = None
    """Seconds since the epoch, by the clock of the machine that ran the job."""
    ended_at: float | None = None
    host: str = ""
    max_rss_bytes: int | None = None
    """The peak of its memory, in bytes; None if it was not measured."""
    remedy: str = ""
    """For a queued job that will not start by itself (it is held, a limit forbids it): what a
    person must do. "": it is enough to wait."""
    suspended: bool = False
    """For a running job: it is suspended or paused now. This time does not count for its limit."""


@frozen
class Report:
    """Intermediate results of a running job: the valid part of one line of its file."""

    step: float
    """How far the evaluation was; finite."""
    metrics: Metrics
    """Metric name -> (mean, sem), finite; sem None if it is unknown."""


@frozen
class JobResult:
    """What a job left: the bytes of its result file, or (capability ``parameters``) plain values.

    Exactly one of the two is given. The core parses and validates both in the same way.
    """

    raw: bytes | None = None
    """The content of ``result.json``. A runner does not have to read more than the core's limit +
    1."""
    metrics: Any = None
    """A number, or name -> number | (mean, sem) | {"mean":, "sem":}, and any JSON value under
    ``notes``."""


@frozen
class NotReady:
    """No result yet; the core asks again for a grace period (network file systems lag)."""

    reason: str = ""


@frozen
class NotSubmitted:
    """`axsched_reattach` is certain that the backend never accepted the job and never will."""


class CancelOutcome(enum.StrEnum):
    """The answer to a request to cancel. Only a later poll says that a job *is* cancelled."""

    REQUESTED = "REQUESTED"
    ALREADY_ENDED = "ALREADY_ENDED"
    UNKNOWN_JOB = "UNKNOWN_JOB"
    NOT_POSSIBLE = "NOT_POSSIBLE"
    """The backend cannot stop a job once it runs (a thread of this process)."""


def no_limit() -> None:
    """The default of `RunnerContext.time_left`: no call ever ends by itself."""


@frozen
class RunnerContext:
    """What a runner gets when its session opens."""

    run_id: str
    """The first part of every key of this run."""
    run_dir: Path
    """Absolute path of the run directory."""
    wake: Callable[[str], None]
    """``wake(key)`` means 'poll this job soon'; from any thread, at any time, for any key."""
    monitoring_interval: float
    """Seconds: the usual pause between two polls."""
    max_result_bytes: int
    """A larger ``result.json`` is refused; a runner does not have to read more."""
    time_left: Callable[[], float | None] = no_limit
    """Seconds that the user's current call may still take: 0.0 after Ctrl-C, or once the time of
    the call is over; None: no limit. From any thread. A hook that waits for its backend should end
    the wait soon after this time and raise `BackendUnavailable`: the call cannot end before."""
