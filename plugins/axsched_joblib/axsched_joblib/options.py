"""The runner's options, and what they mean on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from attrs import Attribute, field, frozen

from axsched_core import plain
from axsched_core.errors import InvalidInput, RunnerError, did_you_mean

PROCESSES = ("loky", "multiprocessing")
"""Backends with our own processes as workers, which never run user code: safe to fork."""
LOCAL = (*PROCESSES, "threading", "sequential")
"""Backends with jobs on this machine."""
ISOLATIONS = ("fork", "spawn", "none")
LONGEST_GRACE = 8.0
"""Seconds: after 10 nobody waits for a cancelled job any more."""


def _whole(value: Any) -> Any:
    """The whole number that is meant; what is none is for the validator."""
    number = plain.whole(value)
    return value if number is None else number


def _count(words: str, negative: bool) -> Callable[[object, Attribute[Any], object], None]:
    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidInput(
                f"{attribute.name} must be an int, not {type(value).__name__} ({value!r})."
            )
        if value == 0 or (value < 0 and not negative):
            raise InvalidInput(f"{attribute.name}={value} has no meaning: {words}.")

    return check


def _isolation(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and value not in ISOLATIONS:
        raise InvalidInput(
            f"{attribute.name}={value!r} is not known: take one of {', '.join(ISOLATIONS)}, "
            f"or None.{did_you_mean(str(value), ISOLATIONS)}"
        )


def _modules(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is None:
        return
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidInput(f"{attribute.name} must be a list of modules' names, not {value!r}.")
    for name in value:
        if not isinstance(name, str) or not all(map(str.isidentifier, name.split("."))):
            raise InvalidInput(f"{attribute.name}: {name!r} is no module's name.")


def _seconds(_: object, attribute: Attribute[Any], value: object) -> None:
    if (seconds := plain.number(value)) is None:
        raise InvalidInput(
            f"{attribute.name} must be a number of seconds, not {type(value).__name__} ({value!r})."
        )
    if not 0 <= seconds <= LONGEST_GRACE:
        raise InvalidInput(f"{attribute.name}={value}: it must be from 0 to {LONGEST_GRACE} s.")


def _name(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise InvalidInput(
            f"{attribute.name} must be the name of a joblib backend ('loky', 'threading', "
            f"'dask', ...), not {value!r}. A backend object is set by joblib.parallel_config."
        )


def _mapping(_: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidInput(
            f"{attribute.name} must be a mapping from names to values, not {value!r}."
        )


@frozen
class JobLibOptions:
    """Options of the joblib runner; every one has a default.

    Raises:
        InvalidInput: a value is not valid.
    """

    n_jobs: int | None = field(
        default=None,
        converter=_whole,
        validator=_count(
            "1 is one job at a time, -1 all cores (None: as joblib.parallel_config says, "
            "else all cores)",
            negative=True,
        ),
    )
    """How many jobs run at a time; -1: the number of cores, -2: one fewer, ... None: the value of
    the caller's `joblib.parallel_config`, otherwise all cores."""
    backend: str | None = field(default=None, validator=_name)
    """The name of a joblib backend. None: the one of `joblib.parallel_config`, otherwise loky."""
    isolation: str | None = field(default=None, validator=_isolation)
    """How a job is isolated from the worker that starts it.

    ``fork``: a process forked from a warm worker; ``spawn``: a fresh interpreter; ``none``: a
    call in the worker itself. None: fork for loky and multiprocessing on Linux, none for
    threading, spawn for everything else."""
    threads_per_job: int | None = field(
        default=None,
        converter=_whole,
        validator=_count("a job needs at least 1 thread", negative=False),
    )
    """Limit for OpenMP, OpenBLAS, MKL, ... in a job. None: cores / n_jobs, at least 1."""
    preload: Sequence[str] | None = field(default=None, validator=_modules)
    """Modules of a process from which functions are forked, so that each job need not import them.
    None: those installed ones that the first jobs have imported; ``[]``: none. Only for
    ``isolation="fork"``."""
    stop_grace: float = field(default=0.5, validator=_seconds)
    """Seconds that a job has between SIGTERM and SIGKILL when it is cancelled or over its time
    limit: time to save a checkpoint. At most 8."""
    backend_options: Mapping[str, Any] = field(factory=dict, validator=_mapping)
    """Passed to the joblib backend (``{"scheduler_host": "..."}`` for dask).

    loky and multiprocessing take none."""


@frozen
class Settings:
    """The result of the options and the caller's `joblib.parallel_config`."""

    n_jobs: int
    backend: str
    isolation: str
    threads: int
    preload: Sequence[str] | None = None
    stop_grace: float = 0.5
    backend_object: Any = None
    """The backend that `joblib.parallel_config` has made, if it has."""
    backend_options: Mapping[str, Any] = MappingProxyType({})


def capture_parallel_config() -> tuple[Any, int | None]:
    """Return the backend and n_jobs that this thread's `joblib.parallel_config` has set.

    None for a value that it has not set. If joblib was never imported, it cannot have set anything,
    and this function does not import it.
    """
    if "joblib" not in sys.modules:
        return None, None
    from joblib.parallel import get_active_backend

    backend, n_jobs = get_active_backend()
    return backend, n_jobs


def resolve(options: JobLibOptions, captured: tuple[Any, int | None]) -> Settings:
    """Fill in the defaults, for this machine.

    Raises:
        InvalidInput: the options do not fit each other.
        RunnerError: joblib has no backend of that name.
    """
    backend_object, configured_n_jobs = captured
    if options.backend is not None:
        backend, backend_object = options.backend, None
    elif backend_object is not None:
        backend = _name_of(backend_object)
    else:
        backend = "loky"
    _check_known(backend, backend_object)
    if options.backend_options and backend in PROCESSES:
        raise InvalidInput(
            f"backend_options={options.backend_options!r}: {backend} takes none here."
        )
    isolation = _resolve_isolation(options.isolation, backend)
    if options.preload and isolation != "fork":
        raise InvalidInput(
            f"preload={list(options.preload)}: only jobs with isolation='fork' start in a process "
            f"that has modules; here it is {isolation!r}."
        )

    import joblib

    cores = joblib.cpu_count()
    wanted = options.n_jobs or configured_n_jobs or -1
    n_jobs = wanted if wanted > 0 else max(1, cores + 1 + wanted)
    limit = getattr(backend_object, "inner_max_num_threads", None)
    local = backend in LOCAL
    threads = options.threads_per_job or limit or (max(1, cores // n_jobs) if local else 1)
    return Settings(
        n_jobs=1 if backend == "sequential" else n_jobs,
        backend=backend,
        isolation=isolation,
        threads=threads,
        preload=options.preload if isolation == "fork" else (),
        stop_grace=options.stop_grace,
        backend_object=backend_object,
        backend_options=options.backend_options,
    )


def _name_of(backend: Any) -> str:
    """The name of one of joblib's own backends, otherwise of its class."""
    from joblib.parallel import BACKENDS

    for name, factory in BACKENDS.items():
        if type(backend) is factory:
            return str(name)
    return type(backend).__name__


def _check_known(backend: str, backend_object: Any) -> None:
    from joblib.parallel import BACKENDS, EXTERNAL_BACKENDS

    known = sorted({*BACKENDS, *EXTERNAL_BACKENDS})
    if backend_object is None and backend not in known:
        raise RunnerError(
            f"joblib has no backend {backend!r}.{did_you_mean(backend, known)} It has: "
            f"{', '.join(known)}; others are added by joblib.register_parallel_backend."
        )


def _resolve_isolation(isolation: str | None, backend: str) -> str:
    if isolation is None:
        if backend in PROCESSES:
            return "fork" if sys.platform.startswith("linux") else "spawn"
        return "none" if backend == "threading" else "spawn"
    if isolation == "fork" and backend not in PROCESSES:
        raise InvalidInput(
            f"isolation='fork' with backend={backend!r} would fork a process that may have run "
            f"OpenMP (torch, scikit-learn), and such children hang. Use 'spawn', or one of "
            f"the backends {', '.join(PROCESSES)}."
        )
    if isolation == "fork" and not hasattr(os, "fork"):
        raise InvalidInput("isolation='fork': this system cannot fork. Use 'spawn'.")
    return isolation
