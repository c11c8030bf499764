"""What a run returns: the best observed trial, and the best by the optimizer's model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from attrs import field, frozen

from axsched_core.jobs import Parameters


@frozen
class Point:
    """One trial with the values of optimized or constrained metrics."""

    trial_index: int
    parameters: Parameters
    values: Mapping[str, float]
    """Metric -> the observed value, or the model's prediction."""
    sems: Mapping[str, float | None] = field(factory=dict)
    """Metric -> its standard error; None, or absent, if it is unknown."""

    def __str__(self) -> str:
        values = ", ".join(f"{name} = {self._value(name)}" for name in self.values)
        parameters = ", ".join(f"{name} = {_short(v)}" for name, v in self.parameters.items())
        return f"trial {self.trial_index}: {values} ({parameters})"

    def _value(self, name: str) -> str:
        sem = self.sems.get(name)
        return _short(self.values[name]) + (f" ± {_short(sem)}" if sem else "")


@frozen
class Best:
    """The best trial as observed, and by the optimizer's model.

    The two differ if results are noisy: the best observed value is then often a lucky one, and
    the model knows better; or if the model knows too little, and the observed value is right.
    `parameters`, `values` and `trial_index` are those of `observed`.
    """

    observed: Point | None = None
    """One objective: the feasible trial with the best observed value."""
    modelled: Point | None = None
    """One objective: the best trial by the optimizer's own model, with the values that it
    predicts there."""
    pareto: tuple[Point, ...] = ()
    """Several objectives: the feasible trials that no other is better than, as observed."""
    modelled_pareto: tuple[Point, ...] = ()
    """Several objectives: the same by the model, with the values that it predicts."""
    why_not_observed: str = ""
    """Why there is no observed best: no data, or which constraint is broken."""
    why_not_modelled: str = ""
    """Why there is none by the model."""

    @property
    def parameters(self) -> Parameters | None:
        """The parameters of the best observed trial; None if there is none."""
        return self.observed.parameters if self.observed else None

    @property
    def values(self) -> Mapping[str, float] | None:
        """Metric -> value of the best observed trial; None if there is none."""
        return self.observed.values if self.observed else None

    @property
    def trial_index(self) -> int | None:
        """The index of the best observed trial; None if there is none."""
        return self.observed.trial_index if self.observed else None

    def to_plain(self) -> dict[str, Any]:
        """The same as JSON values."""
        return attrs.asdict(self)

    def __str__(self) -> str:
        return "\n".join(
            (
                _words("observed", self.observed, self.pareto, self.why_not_observed),
                _words(
                    "predicted by the model",
                    self.modelled,
                    self.modelled_pareto,
                    self.why_not_modelled,
                ),
            )
        )


def _words(which: str, one: Point | None, several: tuple[Point, ...], why_not: str) -> str:
    if several:
        lines = "".join(f"\n  {point}" for point in several)
        return f"Pareto set {which}, {len(several)} trials:{lines}"
    if one is None:
        return f"Best {which}: none. {why_not}".rstrip()
    return f"Best {which}: {one}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
