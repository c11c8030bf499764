"""How busy the workers were: a figure over the times at which jobs have run."""

from __future__ import annotations

from array import array


class Usage:
    """The times at which jobs have run. Two numbers a job are kept: a run may have very many."""

    def __init__(self) -> None:
        self._starts, self._ends = array("d"), array("d")

    def add(self, start: float, end: float) -> None:
        """A job has run from ``start`` to ``end``, seconds of one clock."""
        self._starts.append(start)
        self._ends.append(max(start, end))

    @property
    def busy(self) -> float:
        """Seconds that all jobs together have run."""
        return sum(self._ends) - sum(self._starts)

    @property
    def most_at_once(self) -> int:
        """The largest number of jobs that ran at one moment."""
        steps = sorted([(end, -1) for end in self._ends] + [(start, 1) for start in self._starts])
        most = now = 0
        for _, step in steps:  # at one moment the ends come first
            now += step
            most = max(most, now)
        return most

    def share(self, seconds: float) -> float | None:
        """The share of ``seconds`` in which as many workers as ever ran at once were busy; None:
        no job has said when it ran."""
        places = self.most_at_once
        return min(1.0, self.busy / (seconds * places)) if places and seconds else None
