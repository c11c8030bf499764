"""Standard errors in only some results, for models that need them in all results or in none."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
from collections.abc import Iterator
from typing import Any

from ax.core.data import Data

log = logging.getLogger("axsched")


@contextlib.contextmanager
def even_sems(experiment: Any, known: set[str]) -> Iterator[None]:
    """Let Ax's models infer a metric's noise if only some trials have a standard error of it.

    If no trial has one, Ax 1.3 infers the noise; if all have one, it uses them; otherwise it
    fails with 'Input data contains NaN values'. No noise is invented, and a missing error does not
    count as no noise: inside the context the existing standard errors are left out. Nothing else
    may change the experiment's data inside the context; afterwards they are as before.

    Args:
        experiment: an Ax ``Experiment``.
        known: metrics that were already reported; grows.
    """
    whole = experiment.data
    uneven = _uneven(whole)
    if not uneven:
        yield
        return
    for metric, (without, having) in uneven.items():
        if metric not in known:
            known.add(metric)
            log.warning(
                "Metric %r has a standard error in some results only (trial %d has none, trial %d "
                "has one), and Ax's models take all or none: they infer its noise, as if none had "
                "one. The data keep what was told. Give one with every result, or with none.",
                metric,
                without,
                having,
            )
    rows = [copy.copy(row) for row in whole._data_rows]
    for row in rows:
        if row.metric_name in uneven:
            row.se = math.nan
    experiment.data = Data(data_rows=rows)
    try:
        yield
    finally:
        experiment.data = whole


def _uneven(data: Any) -> dict[str, tuple[int, int]]:
    """Metric -> the first trial without a standard error, and the first with one."""
    without: dict[str, int] = {}
    having: dict[str, int] = {}
    for row in data._data_rows:
        if not math.isnan(row.mean):
            (without if math.isnan(row.se) else having).setdefault(row.metric_name, row.trial_index)
    return {name: (without[name], having[name]) for name in without if name in having}
