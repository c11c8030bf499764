"""Translates Slurm's state into a job state and cause; `watch` then checks the job's files."""

from __future__ import annotations

import re

from axsched_core.jobs import Cause, JobState, JobStatus
from axsched_slurm.query import Row

QUEUED = frozenset(
    {
        "PENDING",
        "CONFIGURING",
        "REQUEUED",
        "REQUEUE_FED",
        "REQUEUE_HOLD",
        "RESV_DEL_HOLD",
        "SPECIAL_EXIT",
    }
)
RUNNING = frozenset(
    {
        "RUNNING",
        # Its processes have ended, but Slurm's own work has not; the next state says how it ended.
        "COMPLETING",
        "RESIZING",
        "SIGNALING",
        "STAGE_OUT",
        "STOPPED",
        "SUSPENDED",
    }
)
ENDED: dict[str, tuple[JobState, Cause | None]] = {
    "COMPLETED": (JobState.SUCCEEDED, None),
    "FAILED": (JobState.FAILED, Cause.EXIT_CODE),
    "CANCELLED": (JobState.CANCELLED, Cause.CANCELLED),
    "TIMEOUT": (JobState.FAILED, Cause.TIME_LIMIT),
    "DEADLINE": (JobState.FAILED, Cause.TIME_LIMIT),
    "OUT_OF_MEMORY": (JobState.FAILED, Cause.OUT_OF_MEMORY),
    "NODE_FAIL": (JobState.FAILED, Cause.NODE_FAIL),
    "BOOT_FAIL": (JobState.FAILED, Cause.NODE_FAIL),
    "LAUNCH_FAILED": (JobState.FAILED, Cause.NODE_FAIL),
    "RECONFIG_FAIL": (JobState.FAILED, Cause.NODE_FAIL),
    "PREEMPTED": (JobState.FAILED, Cause.PREEMPTED),
    "REVOKED": (JobState.LOST, Cause.LOST),
}

NEVER = frozenset({"DependencyNeverSatisfied"})
"""With these reasons, a pending job would wait for ever."""


def alive(row: Row) -> bool:
    """True if Slurm has not ended the job."""
    return row.state in QUEUED or row.state in RUNNING


def known(row: Row) -> bool:
    """False for a state that this runner does not know: it tells nothing."""
    return alive(row) or row.state in ENDED


def status(row: Row) -> JobStatus:
    """The job's status by Slurm's state alone; the job's files may know better."""
    if row.state in QUEUED:
        words, remedy = _waiting(row)
        return JobStatus(JobState.QUEUED, message=words, remedy=remedy, backend_state=row.state)
    if row.state in RUNNING:
        suspended = row.state in ("SUSPENDED", "STOPPED")
        return JobStatus(
            JobState.RUNNING,
            message="suspended by Slurm" if suspended else "",
            suspended=suspended,
            backend_state=row.state,
            started_at=row.started_at,
            host=row.nodes,
        )
    state, cause = ENDED[row.state]
    if row.state == "FAILED" and row.out_of_memory:
        cause = Cause.OUT_OF_MEMORY
    elif row.state == "FAILED" and row.signal:
        cause = Cause.SIGNAL
    return JobStatus(
        state,
        cause,
        message=_words(row),
        backend_state=row.state,
        exit_code=None if row.signal else row.exit_code,
        signal=row.signal or None,
        started_at=row.started_at,
        ended_at=row.ended_at,
        host=row.nodes,
    )


_REMEDIES = (
    # "launch failed requeued held" is a reason, too
    (r"JobHeld\w*|.*\bheld", "it is held; to release it: scontrol release {job}"),
    ("PartitionTimeLimit", "it asks for more time than its partition allows; lower time_limit"),
    ("PartitionNodeLimit", "it asks for more or fewer nodes than its partition allows"),
    ("AccountNotAllowed|InvalidAccount", "its account may not use this; set another account"),
    ("QOSNotAllowed|InvalidQOS", "its QOS may not be used here; set another qos"),
    ("BadConstraints", "no node has what it asks for; change constraint, gres, gpus or memory"),
    ("ReservationDeleted", "its reservation is gone; set another one, or none"),
    (
        r"(Assoc|QOS)Max\w*PerJob\w*",
        "a limit of its account or QOS forbids so large a job; ask for less",
    ),
)
"""Reasons of jobs that do not start by themselves, and what a person must do. The reasons are
Slurm's job reason codes (https://slurm.schedmd.com/job_reason_codes.html)."""

_MEANINGS = (
    ("Partition(Down|Inactive)", "its partition starts no jobs now; wait, or choose another"),
    ("ReqNodeNotAvail.*", "nodes that it asks for are down, drained or reserved"),
    ("Reservation", "it waits for its reservation"),
    (
        r"(Assoc|QOS)(Max|Grp)\w*",
        "a limit of its account or QOS is reached; wait until other jobs end",
    ),
)
"""Reasons that pass, and what they mean."""


def _waiting(row: Row) -> tuple[str, str]:
    """Why a pending job waits, and what a person must do; "" if it is enough to wait."""
    words, remedy = row.reason or row.state, ""
    for pattern, what in _REMEDIES:
        if re.fullmatch(pattern, row.reason, re.IGNORECASE):
            remedy = what.format(job=row.job_id)
            break
    else:
        for pattern, what in _MEANINGS:
            if re.fullmatch(pattern, row.reason):
                words += f": {what}"
                break
    if row.restarts:
        words = f"put back into the queue by Slurm ({row.restarts}): {words}"
    return words, remedy


def _words(row: Row) -> str:
    """How it ended, in Slurm's own words."""
    words = [f"Slurm: {row.state}"]
    if row.reason and row.reason not in (row.state, "NonZeroExitCode"):
        words.append(f"({row.reason})")
    if row.signal:
        words.append(f"signal {row.signal}")
    elif row.exit_code:
        words.append(f"exit code {row.exit_code}")
    if row.nodes:
        words.append(f"on {row.nodes}")
    if row.signal == 9 and row.state == "FAILED":
        words.append("(often over its memory)")
    return " ".join(words)
