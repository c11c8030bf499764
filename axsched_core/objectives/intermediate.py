"""Intermediate results: what a job reports while it runs.

A job appends lines to its ``progress.jsonl``, each a JSON object with ``step`` and metrics:
``{"step": 3, "loss": 0.25}``. `axsched_core.report` writes them for a function.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from attrs import define, field

from axsched_core.jobs import Report
from axsched_core.objectives.results import InvalidResult, finite, metric

LINE_LIMIT = 100_000
"""Bytes; a longer line is left out."""


def read(data: bytes) -> tuple[list[Report], list[str]]:
    """Read complete lines.

    Args:
        data: as from `axsched_core.jobfolder.read_progress`.

    Returns:
        What is valid, in the order of the lines, and what is wrong with the rest.
    """
    found, wrong = [], []
    for raw in data.splitlines():
        if not raw.strip():
            continue
        try:
            report, dropped = _line(raw)
        except InvalidResult as error:
            wrong.append(str(error))
            continue
        wrong += dropped
        if report.metrics:
            found.append(report)
    return found, wrong


def _line(raw: bytes) -> tuple[Report, list[str]]:
    if len(raw) > LINE_LIMIT:
        raise InvalidResult(f"a line has {len(raw):,} bytes, more than {LINE_LIMIT:,}")
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidResult(f"a line is no JSON: {error}") from error
    if not isinstance(line, Mapping) or "step" not in line:
        raise InvalidResult("a line is no JSON object with a 'step'")
    step = finite("step", line["step"])
    metrics, dropped = {}, []
    for name, value in line.items():
        if name == "step":
            continue
        try:
            metrics[name] = metric(name, value)
        except InvalidResult as error:
            dropped.append(str(error))
    return Report(step, metrics), dropped


@define
class Thinned:
    """Chooses some of very many: the first ones all, then ever fewer.

    Args:
        dense: so many are all taken.
        growth: after them, one is taken if its number is at least this times the last one's.
    """

    dense: int
    growth: float
    _seen: int = 0
    _next: float = 0.0

    def takes(self) -> bool:
        """True if the next one is taken."""
        self._seen += 1
        if self._seen > self.dense and self._seen < self._next:
            return False
        self._next = self._seen * self.growth
        return True


@define(eq=False)
class Progress:
    """How much of a job's intermediate results is known."""

    offset: int = 0
    """Bytes of its file that were read."""
    last: Report | None = None
    """The last one that was read."""
    untold: list[Report] = field(factory=list)
    """Those that the optimizer does not have yet."""
    thinned: Thinned = field(factory=lambda: Thinned(1000, 1.01))
    """Chooses those that the optimizer and the observers get."""
    in_journal: Thinned = field(factory=lambda: Thinned(10, 1.2))
    """Chooses those of them that the journal gets."""
    journalled: float = -math.inf
    """The last step in the journal; an earlier driver may have written it."""
