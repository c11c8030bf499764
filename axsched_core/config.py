"""The scheduler's settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen
from attrs.validators import ge, gt, in_, le, lt, optional

from axsched_core import options
from axsched_core.errors import InvalidInput
from axsched_core.retry import RetryPolicy


def _policy(given: RetryPolicy | Mapping[str, Any]) -> RetryPolicy:
    try:
        return options.build(RetryPolicy, given, "'retry'")
    except InvalidInput as error:
        raise ValueError(str(error).rstrip(".")) from error


@frozen
class SchedulerConfig:
    """Settings of `AxScheduler`; its ``config`` may also be a mapping with these keys."""

    monitoring_interval: float = field(default=10.0, validator=[gt(0), lt(math.inf)])
    """Seconds: the usual pause between two queries to the backend. A runner's push, or an
    exit file that shows in a job's folder, is acted on sooner; trouble lengthens the pause."""
    max_trial_monitoring_time: float = field(default=86_400.0, validator=gt(0))
    """Seconds from the moment a job runs; then it is cancelled and its trial fails with
    TIME_LIMIT."""
    job_output_dir: Path = field(default=Path("./outputs"), converter=Path)
    """Each run makes a folder of its own in here."""
    cleanup_after_completion: bool = False
    """Remove the folders of succeeded trials once their results are told."""
    synchronous: bool | None = None
    """True: one trial at a time. False, said explicitly: leaving a batch does not wait for it."""
    max_parallelism: int | None = field(default=None, validator=optional(ge(1)))
    """No more jobs than this at once; None: what the runner and the optimizer allow."""
    max_result_bytes: int = field(default=1_000_000, validator=gt(0))
    """A larger result file is refused."""
    durable: bool = True
    """Keep a journal in the run directory, from which `AxScheduler.resume` can go on."""
    on_unknown: str = field(default="retry", validator=in_(("retry", "fail")))
    """What becomes of a job of a dead driver of which nobody can say whether it was submitted:
    a new attempt, or the failure of its trial (where a second run would be costly)."""
    on_exit: str = field(default="cancel", validator=in_(("cancel", "leave")))
    """What becomes of running jobs when the driver stops in good order (Ctrl-C, SIGTERM,
    SIGHUP, ``close``, the program's end): they are cancelled and their trials stay open, or they
    are left to the backend for `AxScheduler.resume` to find again."""
    retry: RetryPolicy = field(factory=RetryPolicy, converter=_policy)
    """How often a trial is tried again after which cause, and how long refusals for now are waited
    out; also a mapping with the keys of `RetryPolicy`."""
    failed_points: str = field(default="avoid", validator=in_(("avoid", "may_return")))
    """Whether the optimizer may propose the parameters of a trial again whose job failed by itself
    (exception, exit code, signal, memory, time limit, invalid result). Where the machines failed,
    or the backend has refused the job, it always may."""
    tolerated_trial_failure_rate: float = field(default=0.99, validator=[ge(0), le(1)])
    """The share of failed trials, of those that have ended, above which ``run_optimization`` and
    ``finish`` stop with `FailureRateExceeded`. The default stops a run in which nothing works; 1
    never stops one. Trials that failed because of the machines do not count."""
    min_failed_trials_for_failure_rate_check: int = field(default=5, validator=ge(1))
    """Fewer failed trials than this never stop a run."""
    progress: bool = True
    """A progress line where the terminal can show one, plain lines elsewhere."""

    def __attrs_post_init__(self) -> None:
        if self.on_exit == "leave" and not self.durable:
            raise ValueError("on_exit='leave' needs durable=True: who would find the jobs again?")
