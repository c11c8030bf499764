"""The states of a trial, and the snapshot of a trial that users get."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from axsched_core.jobs import Cause, Metrics, Parameters


class TrialState(enum.StrEnum):
    """The state of a trial: `JobState`'s words, and more for trials without a job."""

    CANDIDATE = "CANDIDATE"
    """Made, but it has no unfinished job of ours."""
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    """Cancelled for good. The optimizer holds it as abandoned; if it was made in advance and never
    had a job, as stale."""
    EARLY_STOPPED = "EARLY_STOPPED"
    """Stopped because its intermediate results promise nothing; these are its data."""
    CLOSED = "CLOSED"
    """Ended by the user in the optimizer itself, not by us."""

    @property
    def ended(self) -> bool:
        """True for the states that a trial never leaves."""
        return self not in (TrialState.CANDIDATE, TrialState.QUEUED, TrialState.RUNNING)


@frozen
class Trial:
    """What is known about a trial at one moment."""

    index: int
    parameters: Parameters
    state: TrialState
    cause: Cause | None = None
    """Why it failed or was cancelled; None for one that was cancelled and never had a job."""
    message: str = ""
    """The same as text; for a trial that does not run now, why: its job is queued or suspended, or
    it waits for another attempt."""
    results: Metrics | None = None
    """Metric -> (mean, sem); None until the result was read and found valid. Of an EARLY_STOPPED
    trial: the last intermediate results."""
    notes: Any = None
    """What the result held under ``notes``, as in JSON; None if it held none."""
    folder: Path | None = None
    """The folder of its last job; None if it never had one."""
    attempts: int = 0
    """Jobs that it has had."""
    method: str = ""
    """What has made it, such as the name of a generation strategy's step; "": the user, or not
    known."""
