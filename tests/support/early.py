"""A run on a real backend in which some trials report, and are stopped early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from axsched_core import AxScheduler, TrialState
from axsched_core.jobs import Report
from axsched_core.testing import RandomSearch

SHELL = """
echo '{"step": 1, "loss": 0.75}' >>"$AXSCHED_PROGRESS_FILE"
if [ $((AXSCHED_TRIAL_INDEX % 2)) = 1 ]; then
    while true; do sleep 0.1; done
fi
echo '{"loss": 0.5}' >"$AXSCHED_RESULT_FILE"
"""
"""An objective: trials with an odd index end only when they are stopped."""


class StopsOdd(RandomSearch):
    """Stops trials with an odd index as soon as they have reported something."""

    def __init__(self) -> None:
        super().__init__({"x": (0.0, 1.0)}, seed=0)
        self.reports: dict[int, list[Report]] = {}

    def tell_intermediate(self, reports: Mapping[int, Sequence[Report]]) -> None:
        for index, found in reports.items():
            self.reports.setdefault(index, []).extend(found)

    def to_stop(self, indices: Sequence[int]) -> dict[int, str]:
        return {index: "it is odd" for index in indices if index % 2}


def check(scheduler: AxScheduler) -> None:
    """Run four trials, and check what has become of them.

    ``scheduler``: of a `StopsOdd`, with an objective that does the same as `SHELL`.
    """
    scheduler.run_optimization(max_trials=4)
    early, well = TrialState.EARLY_STOPPED, TrialState.SUCCEEDED
    trials: dict[int, Any] = scheduler.trials
    assert [trials[index].state for index in range(4)] == [well, early, well, early]
    assert trials[1].message == "it is odd"
    assert trials[1].results == {"loss": (0.75, None)}
    assert trials[0].results == {"loss": (0.5, None)}
    report = Report(1, {"loss": (0.75, None)})
    assert scheduler.client.reports == {index: [report] for index in range(4)}
