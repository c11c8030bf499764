"""Is a trial tried again after its job ended or was refused for now? The verdicts use no clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
from attrs import field, frozen

from axsched_core.config import RetryPolicy
from axsched_core.jobs import FAULTS_OF_THE_MACHINES, Cause, JobState, JobStatus, Resources


@frozen
class Ended:
    """An attempt that failed and counts."""

    cause: Cause | None
    resources: Resources = field(factory=Resources)
    """The resources that it had; only the last attempt's matter."""


@frozen
class Again:
    """The trial gets another attempt."""

    pause: float
    """Seconds until then."""
    resources: Resources
    """The least resources that the attempt gets."""


@frozen
class Stop:
    """The trial has failed."""

    reason: str = ""
    """Why it is not tried again, if the cause alone does not explain it."""


def verdict(
    policy: RetryPolicy, ended: Sequence[Ended], *, resizable: bool, jitter: float = 1.0
) -> Again | Stop:
    """Decide what follows a failed attempt.

    Args:
        policy: the setting.
        ended: all failed attempts of the trial that count, in order.
        resizable: the runner gives each job the memory in its request.
        jitter: from 0 (half of the pause) to 1 (all of it).
    """
    last = ended[-1]
    if last.cause is None:
        return Stop()
    if sum(one.cause is last.cause for one in ended) >= policy.attempts.get(last.cause, 1):
        return Stop()
    times = [one for one in ended if one.cause is last.cause]
    if last.cause in FAULTS_OF_THE_MACHINES:
        times = [one for one in ended if one.cause in FAULTS_OF_THE_MACHINES]
        if len(times) >= max(policy.attempts[cause] for cause in FAULTS_OF_THE_MACHINES):
            return Stop()
    resources = last.resources
    if last.cause is Cause.OUT_OF_MEMORY and policy.memory_factor > 1:
        had = resources.memory_bytes
        if not resizable:
            return Stop("this runner cannot give a job more memory")
        if had is None:
            return Stop("the objective names no memory that could grow")
        memory = _more(had, policy.memory_factor, policy.max_memory)
        if memory is None:
            return Stop("it had max_memory")
        resources = attrs.evolve(resources, memory_bytes=math.ceil(memory))
    if last.cause is Cause.TIME_LIMIT and policy.time_factor > 1:
        limit = resources.time_limit
        longer = None if limit is None else _more(limit, policy.time_factor, policy.max_time)
        if longer is None:
            return Stop("it had max_time" if limit is not None else "its limit is not the core's")
        resources = attrs.evolve(resources, time_limit=longer)
    return Again(_pause(policy, len(times), jitter), resources)


def patience(
    policy: RetryPolicy, refusals: int, waited: float, jitter: float = 1.0
) -> float | None:
    """Seconds until a job that was refused for now is submitted again; None: never.

    Args:
        policy: the setting.
        refusals: how often it was refused in a row, at least 1.
        waited: seconds since the first of these refusals.
        jitter: see `verdict`.
    """
    pause = _pause(policy, refusals, jitter)
    if policy.max_refusal_time is None:
        return pause
    left = policy.max_refusal_time - waited
    return min(pause, left) if left > 0 else None  # one more try at the end of the time


def at_least(resources: Resources, grown: Resources | None) -> Resources:
    """``resources``, with the memory and time of ``grown`` if these are larger."""
    if grown is None:
        return resources
    return attrs.evolve(
        resources,
        memory_bytes=_larger(resources.memory_bytes, grown.memory_bytes),
        time_limit=_larger(resources.time_limit, grown.time_limit),
    )


def machines_failed(status: JobStatus) -> bool:
    """True if a job ended because of its machine or backend."""
    return status.state is JobState.LOST or status.cause in FAULTS_OF_THE_MACHINES


def _pause(policy: RetryPolicy, times: int, jitter: float) -> float:
    # From 2**60 on it is always the longest pause, and a float cannot grow without a limit.
    longest = min(policy.max_pause, policy.pause * 2.0 ** min(times - 1, 60))
    return longest * (1 + jitter) / 2


def _more(had: float, factor: float, most: float | None) -> float | None:
    wanted = had * factor if most is None else min(had * factor, most)
    return wanted if wanted > had and math.isfinite(wanted) else None


def _larger(a: Any, b: Any) -> Any:
    return max((n for n in (a, b) if n is not None), default=None)
