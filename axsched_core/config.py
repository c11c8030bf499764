"""The scheduler's settings."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen
from attrs.converters import optional as optional_
from attrs.validators import ge, gt, in_, le, lt, optional

from axsched_core import options, plain
from axsched_core.errors import InvalidInput, did_you_mean
from axsched_core.jobs import FAULTS_OF_THE_MACHINES, Cause, Resources

ATTEMPTS: Mapping[Cause, int] = dict.fromkeys(sorted(FAULTS_OF_THE_MACHINES), 3)
"""The default of `RetryPolicy.attempts` for causes that are not named; 1 for all others."""


_NEVER = frozenset({Cause.CANCELLED, Cause.SUBMIT_REFUSED, Cause.CONFIGURATION})
"""A user has asked for the end, or the backend has said that it will never take the job."""


def _attempts(given: Mapping[Cause | str, int]) -> dict[Cause, int]:
    if not isinstance(given, Mapping):
        raise TypeError(f"'attempts' must be a mapping from cause to number, not {given!r}")
    known = [cause.value for cause in Cause if cause not in _NEVER]
    found = dict(ATTEMPTS)
    for name, number in given.items():
        if name not in known:
            raise ValueError(
                f"'attempts': {name!r} is no cause after which a trial can be tried again."
                f"{did_you_mean(str(name), known)} There are {', '.join(known)}"
            )
        times = plain.whole(number)
        if times is None or times < 1:
            raise ValueError(f"'attempts': {name} must be a whole number from 1, not {number!r}")
        found[Cause(name)] = times
    return found


def _size(given: Any) -> int | None:
    return None if given is None else options.size(given)


@frozen
class RetryPolicy:
    """How often a trial is tried again, for which cause, after what pause, with what resources.

    The setting ``retry`` of `SchedulerConfig`; also a mapping with these keys.
    """

    attempts: Mapping[Cause, int] = field(factory=dict, converter=_attempts)
    """Cause -> how many attempts of a trial may end with it. Causes that are not named keep the
    default: 3 for LOST, NODE_FAIL and PREEMPTED, 1 (never again) for all others. These three, the
    faults of the machines, together allow no more attempts than the largest of their numbers.
    After CANCELLED and SUBMIT_REFUSED there is none, and CONFIGURATION ends the run."""
    pause: float = field(default=1.0, validator=[gt(0), lt(math.inf)])
    """Seconds before the first new attempt, or after the first refusal for now; doubled each
    time. The real pause is between half of it and all of it, at random."""
    max_pause: float = field(default=60.0, validator=[gt(0), lt(math.inf)])
    """Seconds; no pause is longer."""
    memory_factor: float = field(default=2.0, validator=[ge(1), lt(math.inf)])
    """After OUT_OF_MEMORY the next attempt gets the last one's memory times this factor. If it
    cannot get more (the runner has no ``resources``, no memory was asked for, `max_memory` is
    reached), the trial fails; with 1 it is tried again with the same memory."""
    max_memory: int | None = field(default=None, converter=_size)
    """Bytes, or a text like ``"64G"``: the most memory of a new attempt. None: no limit."""
    time_factor: float = field(default=2.0, validator=[ge(1), lt(math.inf)])
    """The same for the time limit, after TIME_LIMIT, with any runner: the core itself enforces the
    limit. May exceed ``max_trial_monitoring_time``. A limit in the options of the runner or of a
    container does not grow."""
    max_time: float | None = field(default=None, validator=optional(gt(0)))
    """Seconds: the longest time limit of a new attempt. None: no limit."""
    max_refusal_time: float | None = field(default=None, validator=optional(ge(0)))
    """Seconds that a trial waits while its job is refused for now; then it fails with
    SUBMIT_REFUSED. None: as long as the run goes on. A resume starts the count again."""


def _job_output_dir(given: Any) -> Path:
    return options.path(given, "'job_output_dir'")


def _working_dir(given: Any) -> Path:
    return options.path(given, "'working_dir'")


def _policy(given: RetryPolicy | Mapping[str, Any]) -> RetryPolicy:
    try:
        return options.build(RetryPolicy, given, "'retry'")
    except InvalidInput as error:
        raise ValueError(str(error)) from error


@frozen
class SchedulerConfig:
    """Settings of `AxScheduler`; its ``config`` may also be a mapping with these keys."""

    monitoring_interval: float = field(default=10.0, validator=[gt(0), lt(math.inf)])
    """Seconds: the usual pause between two queries to the backend. The core reacts sooner to a
    runner's push, or to an exit file in a job's folder; outages and faults lengthen it."""
    max_trial_monitoring_time: float = field(default=86_400.0, validator=gt(0))
    """Seconds that a job may run; then it is cancelled and its trial fails with TIME_LIMIT."""
    job_output_dir: Path = field(default=Path("./outputs"), converter=_job_output_dir)
    """Each run makes its own folder in here."""
    cleanup_after_completion: bool = False
    """Remove the folders of succeeded trials once the optimizer has their results."""
    synchronous: bool | None = None
    """True: one trial at a time. False, set explicitly: leaving a batch does not wait for it."""
    total_trials: int | None = field(default=None, validator=optional(ge(1)))
    """How many trials the experiment should have: for `AxScheduler.run_all_trials`, and a limit for
    `AxScheduler.run_n_trials`. None: no limit."""
    max_parallelism: int | None = field(default=None, validator=optional(ge(1)))
    """The largest number of jobs at once; None: what the runner and the optimizer allow."""
    prefetch: int = field(default=1, validator=ge(0))
    """How many candidates a model makes in advance while all places are taken, so that a job that
    ends makes room for the next at once. Each of them is made without the results of the jobs that
    run meanwhile. Candidates that need no results (Sobol, random search) are made in larger
    batches. 0: none in advance; also if trials run one at a time."""
    max_result_bytes: int = field(default=1_000_000, validator=gt(0))
    """A larger result file is refused."""
    durable: bool = True
    """Keep a journal in the run directory, from which `AxScheduler.resume` can go on."""
    on_unknown: str = field(default="retry", validator=in_(("retry", "fail")))
    """What happens to a dead driver's job if it is not known whether it was submitted: a new
    attempt, or the failure of its trial (if a second run would be too costly)."""
    on_exit: str = field(default="cancel", validator=in_(("cancel", "leave")))
    """What happens to running jobs when the driver stops in good order (Ctrl-C, SIGTERM,
    SIGHUP, ``close``, the program's end): they are cancelled and their trials stay open, or they
    run on, and `AxScheduler.resume` finds them again."""
    retry: RetryPolicy = field(factory=RetryPolicy, converter=_policy)
    """How often a trial is tried again after each cause, and how long it waits while its job is
    refused for now; also a mapping with the keys of `RetryPolicy`."""
    failed_points: str = field(default="avoid", validator=in_(("avoid", "may_return")))
    """Whether the optimizer may propose a trial's parameters again if its job failed by itself
    (exception, exit code, signal, memory, time limit, invalid result). If the machines failed,
    or the backend refused the job, it always may."""
    tolerated_trial_failure_rate: float = field(default=0.99, validator=[ge(0), le(1)])
    """The share of failed trials among the ended ones above which ``run_optimization`` and
    ``finish`` stop with `FailureRateExceeded`. The default stops a run in which nothing works; 1
    never stops one. Trials that failed because of the machines do not count."""
    min_failed_trials_for_failure_rate_check: int = field(default=5, validator=ge(1))
    """Fewer failed trials than this never stop a run."""
    progress: bool = True
    """A progress line if the terminal can show one, plain lines elsewhere."""

    def __attrs_post_init__(self) -> None:
        if self.on_exit == "leave" and not self.durable:
            raise ValueError("on_exit='leave' needs durable=True: who would find the jobs again?")


def _words(given: str | Sequence[Any]) -> tuple[str, ...]:
    if isinstance(given, str | os.PathLike):
        return (os.fspath(given),)
    if not isinstance(given, Sequence) or isinstance(given, bytes):
        raise TypeError(f"'interpreter' must be a program, or a list of words, not {given!r:.80}")
    return tuple(map(str, given))


@frozen
class Needs:
    """What each job of an objective needs, for runners that use it (`axsched runners` shows
    ``resources``)."""

    cpus: int | None = field(default=None, validator=optional(ge(1)))
    """Cores."""
    memory: Any = field(default=None, converter=optional_(options.size))
    """Bytes, or "512M", "4G"."""
    gpus: int | None = field(default=None, validator=optional(ge(0)))
    """GPUs."""

    def as_resources(self) -> Resources:
        """The same in the form that the runner gets."""
        return Resources(self.cpus, self.memory, self.gpus)


@frozen
class ScriptOptions(Needs):
    """The ``script_options`` of `AxScheduler.set_script_objective`."""

    interpreter: tuple[str, ...] | None = field(default=None, converter=optional_(_words))
    """What runs the script: a program, or a program and its arguments (``["python", "-u"]``).
    None: the script itself if it is executable; otherwise what its ``#!`` line names; without one
    (or if it names a Python in a ``.py`` file) this Python for ``.py``, sh for ``.sh``."""
    args: Sequence[Any] = ()
    """Arguments after the script's path."""
    timeout: float | None = field(default=None, validator=optional(gt(0)))
    """Seconds; then the script is ended and its trial fails with TIME_LIMIT."""
    env: Mapping[str, Any] = field(factory=dict, repr=False, metadata={"secret": True})
    """Environment variables to add. Their values are secrets."""
    working_dir: Path | None = field(default=None, converter=optional_(_working_dir))
    """Where it runs; None: in the job's own folder. Several jobs share this folder, so the script
    must write metrics to ``$AXSCHED_RESULT_FILE``; a ``result.json`` in it is not read."""
