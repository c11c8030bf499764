"""The time limit of a job: where it comes from, and when a job is over it.

The backend or the worker keeps the limit. The core ends only a job that they did not end.
"""

from __future__ import annotations

import attrs

from axsched_core.jobs import Objective, Resources, ScriptObjective
from axsched_core.run import timing
from axsched_core.run.records import Attempt


def of(objective: Objective | None, setting: float) -> float:
    """Seconds that a job may run: the smaller of the objective's own limit and the setting.

    Args:
        objective: what the job evaluates.
        setting: `SchedulerConfig.max_trial_monitoring_time`.
    """
    own = getattr(objective, "time_limit", None)
    return min(setting, own) if own else setting


def extended(objective: Objective | None, grown: Resources | None) -> Objective | None:
    """The objective with the time that a retry gave it, if it has a limit of its own.

    The worker keeps a script's own limit, so the objective must say the longer one.
    """
    more = None if grown is None else grown.time_limit
    if not isinstance(objective, ScriptObjective) or not objective.time_limit or more is None:
        return objective
    return attrs.evolve(objective, time_limit=max(objective.time_limit, more))


def is_over(job: Attempt, now: float) -> bool:
    """True if a job still runs some time after its limit (``now``: `time.monotonic` seconds)."""
    limit = job.request.resources.time_limit
    if limit is None or job.running_since is None or job.suspended_since is not None:
        return False
    return now - job.running_since > limit + timing.TIME_LIMIT_SLACK
