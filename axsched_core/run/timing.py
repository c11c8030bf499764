"""How long the engine and the scheduler wait for each event; a job's own limit: `time_limit`."""

from __future__ import annotations

FETCH_INTERVAL = 0.5
"""Seconds between two checks for a result that is not there yet."""

CANCEL_GRACE = 10.0
"""Seconds that a cancelled job may take to end before the scheduler stops waiting for it."""

LIMIT_GRACE = 600.0
"""The same for a job that is over its time limit: if its machine has died, the backend may need
minutes to notice it. Only then it says that the machine was the cause."""

LEAVING_GRACE = 2.0
"""Seconds that the runner has, after a second Ctrl-C, before its call is abandoned."""

CTRL_C_LAG = 0.5
"""Seconds within which a Ctrl-C is always noticed."""

TERMINATION_GRACE = 3.0
"""Seconds after SIGTERM or SIGHUP in which the jobs may end; after that nothing waits for them.
``docker stop`` kills after 10, `scancel` after 30, systemd after 90."""
TERMINATION_LIMIT = 5.0
"""The same for a candidate that the optimizer is making; after that it is abandoned."""
TOLD_TOO = 0.5
"""Seconds within which this program has got the signal that has ended a job, if both got it."""
SAME_SIGNAL = 1.0
"""Seconds in which a second SIGTERM or SIGHUP counts as the first: some senders send two (a
terminal and its shell, `scancel`)."""

TIME_LIMIT_SLACK = 5.0
"""Seconds over its limit after which the core cancels a job that the backend has not ended."""


LOOK_INTERVAL = 0.5
"""Seconds between two checks for exit files in the folders of running jobs."""
QUICK_LOOK_INTERVAL = 0.05
"""The same soon after a job was submitted."""
PROGRESS_INTERVAL = 1.0
"""Seconds between two reads of what running jobs report, while they report something. While they
report nothing, the pause doubles up to the setting ``monitoring_interval``."""
PROGRESS_COST = 20.0
"""A pause between two reads is at least this many times as long as a read takes."""
MOST_COMPLAINTS = 20
"""How many different faults in intermediate results are logged."""
LOOKS_PER_SECOND = 1000
"""Number of folders that are cheap to check on a local disk, and acceptable on a shared one."""


def pause_between_looks(since: float, jobs: int) -> float:
    """Seconds from one check of all jobs' folders to the next: short for jobs of seconds, long for
    jobs of hours.

    Args:
        since: seconds since a job was last submitted.
        jobs: how many jobs are unfinished.
    """
    pause = min(LOOK_INTERVAL, max(QUICK_LOOK_INTERVAL, since / 20))
    return max(pause, jobs / LOOKS_PER_SECOND)
