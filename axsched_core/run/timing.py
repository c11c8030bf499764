"""How long the engine and the scheduler wait, for what."""

from __future__ import annotations

FETCH_INTERVAL = 0.5
"""Seconds between two looks for a result that is not there yet."""

CANCEL_GRACE = 10.0
"""Seconds that a cancelled job may take to end before the scheduler stops waiting for it."""

LIMIT_GRACE = 600.0
"""The same for one that is over its time limit: when its machine has died, the backend may need
minutes to see it, and only then says that the job was not at fault."""

LEAVING_GRACE = 2.0
"""Seconds that the runner has, after a second Ctrl-C, before its call is left behind."""

CTRL_C_LAG = 0.5
"""Seconds within which a Ctrl-C is noticed, at whatever moment it comes."""

TERMINATION_GRACE = 3.0
"""Seconds after SIGTERM or SIGHUP in which the jobs may end; then they are not waited for.
``docker stop`` kills after 10, `scancel` after 30, systemd after 90."""
TERMINATION_LIMIT = 5.0
"""The same for a candidate that the optimizer makes; then it is left in the middle."""
SAME_SIGNAL = 1.0
"""Seconds in which a second SIGTERM or SIGHUP is no more than the first: some senders send two (a
terminal and its shell, `scancel`)."""

TIME_LIMIT_SLACK = 5.0
"""Seconds over the limit after which the core cancels a job that the backend did not end."""


LOOK_INTERVAL = 0.5
"""Seconds between two looks for exit files in the folders of running jobs."""
QUICK_LOOK_INTERVAL = 0.05
"""The same soon after a job was submitted."""
LOOKS_PER_SECOND = 1000
"""Folders. So many looks are nothing to a local disk, and bearable to a shared one."""


def pause_between_looks(since: float, jobs: int) -> float:
    """Seconds from one look at all jobs' folders to the next: a job that took a second is not kept
    waiting for half of one, and jobs that take hours are left in peace.

    Args:
        since: seconds since a job was last submitted.
        jobs: how many are on the way.
    """
    pause = min(LOOK_INTERVAL, max(QUICK_LOOK_INTERVAL, since / 20))
    return max(pause, jobs / LOOKS_PER_SECOND)
