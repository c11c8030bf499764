"""What the optimizer is told about an ended trial, of this driver or an earlier one."""

from __future__ import annotations

from collections.abc import Mapping

from axsched_core import jobs
from axsched_core.jobs import Cause
from axsched_core.optimizers.base import OutcomeKind
from axsched_core.trials import TrialState

_KINDS: Mapping[TrialState, OutcomeKind] = {
    TrialState.SUCCEEDED: OutcomeKind.COMPLETED,
    TrialState.FAILED: OutcomeKind.FAILED,
    TrialState.CANCELLED: OutcomeKind.ABANDONED,
    TrialState.EARLY_STOPPED: OutcomeKind.EARLY_STOPPED,
}


def kind_of(
    state: TrialState,
    cause: Cause | None,
    failed_points: str,
    *,
    past: bool = False,
) -> OutcomeKind | None:
    """How the optimizer is told about a trial's end; None for one that we did not end.

    Args:
        state: how it ended.
        cause: why. None for a cancelled trial: it never had a job.
        failed_points: the setting: ``"avoid"`` or ``"may_return"``.
        past: True if the failure no longer belongs to the point (see `Record.past`).
    """
    avoid = failed_points == "avoid" and not past and cause in jobs.FAULTS_OF_THE_POINT
    if state is TrialState.FAILED and avoid:
        return OutcomeKind.ABANDONED
    if state is TrialState.CANCELLED and cause is None:
        return OutcomeKind.STALE  # made in advance, and then the run was stopped
    return _KINDS.get(state)
