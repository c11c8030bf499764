"""Results on their way into an Ax experiment's data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ax.core.data import Data, DataRow

from axsched_core.jobs import Metrics, Report


class Results:
    """Adds results to an experiment, intermediate and final ones.

    Args:
        final_step: the step that the user's own object writes for a final result.
    """

    def __init__(self, final_step: float | None) -> None:
        self._final_step = final_step
        self._last: dict[int, dict[str, float]] = {}
        """Trial -> metric -> the last step that it has reported."""

    def add_final(self, experiment: Any, results: Mapping[int, Metrics]) -> None:
        """Add final results (trial -> metrics).

        Ax takes the value of the last step for a trial's result. So the final one replaces the last
        intermediate one of its metric.
        """
        rows = []
        for index, metrics in results.items():
            steps = self._last.pop(index, {})
            rows += [
                _row(experiment, index, name, value, steps.get(name, self._final_step))
                for name, value in metrics.items()
            ]
        _attach(experiment, rows)

    def add_intermediate(self, experiment: Any, reports: Mapping[int, Sequence[Report]]) -> None:
        """Add intermediate results. One of a step that is there already replaces it."""
        rows = []
        for index, found in reports.items():
            steps = self._last.setdefault(index, {})
            for report in found:
                for name, value in report.metrics.items():
                    rows.append(_row(experiment, index, name, value, report.step))
                    steps[name] = max(report.step, steps.get(name, -math.inf))
        _attach(experiment, rows)


def _row(
    experiment: Any, index: int, name: str, value: tuple[float, float | None], step: float | None
) -> DataRow:
    mean, sem = value
    return DataRow(
        trial_index=index,
        arm_name=experiment.trials[index].arm.name,  # Ax silently accepts a wrong one
        metric_name=name,
        metric_signature=experiment.metrics[name].signature,
        mean=float(mean),
        se=math.nan if sem is None else float(sem),  # Ax's NaN: unknown
        step=step,
    )


def _attach(experiment: Any, rows: list[DataRow]) -> None:
    if rows:
        experiment.attach_data(Data(data_rows=rows))
