"""When a run stops because its trials fail: a verdict over trials, without side effects."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from axsched_core import jobs
from axsched_core.run.records import Record
from axsched_core.trials import TrialState


@frozen
class Verdict:
    """Too many trials have failed."""

    failed: tuple[Record, ...]
    """The trials that failed, but not because of the machines, by index."""
    finished: int
    """The number of all ended trials, without those that failed because of the machines."""


def verdict(
    records: Iterable[Record], *, tolerated_rate: float, least_failures: int
) -> Verdict | None:
    """Say whether too many trials have failed; None: not (yet).

    A trial that is `past`, was cancelled, or failed because of the machines says nothing about
    the objective, and does not count. A running trial counts as a success if a trial that was
    made after it has failed: failing trials often end sooner than others.

    Args:
        records: all trials of the run.
        tolerated_rate: from 0 to 1; a larger share of failures is too many.
        least_failures: fewer failures are never too many.
    """
    current = [record for record in records if not record.past]
    failed = sorted((r for r in current if _failed(r)), key=lambda record: record.index)
    if not failed or len(failed) < least_failures:
        return None
    well = (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED)
    finished = len(failed) + sum(record.state in well for record in current)
    older = sum(r.state is TrialState.RUNNING and r.index < failed[-1].index for r in current)
    if len(failed) <= tolerated_rate * (finished + older):
        return None
    return Verdict(tuple(failed), finished)


def _failed(record: Record) -> bool:
    return record.state is TrialState.FAILED and record.cause not in jobs.FAULTS_OF_THE_MACHINES
