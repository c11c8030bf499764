"""What a run optimizes, from `Optimizer.describe`: readable without the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

Weights = Mapping[str, float]


@frozen
class Objective:
    """One number that is optimized."""

    name: str
    """The metric; for a weighted sum, the sum as text."""
    minimize: bool | None = None
    """None: not known."""
    weights: Weights = field(factory=dict)
    """Metric -> factor in the sum."""

    def value(self, means: Mapping[str, float]) -> float | None:
        """The value for these means; None if one is missing."""
        return _sum(self.weights, means)


@frozen
class Constraint:
    """A limit: the weighted sum of metrics, or of parameters, against a bound."""

    weights: Weights
    op: str
    """``"<="``, ``">="`` or ``"=="``."""
    bound: float
    relative: bool = False
    """True: the bound is per cent of the status quo's value."""

    def holds(self, values: Mapping[str, float]) -> bool:
        """True if these values satisfy it; False also if one is missing."""
        found = _sum(self.weights, values)
        if found is None:
            return False
        if self.op == "==":
            return found == self.bound
        return found <= self.bound if self.op == "<=" else found >= self.bound

    def __str__(self) -> str:
        terms = " + ".join(n if w == 1 else f"{w:g}*{n}" for n, w in self.weights.items())
        percent = "%" if self.relative else ""
        return f"{terms.replace('+ -', '- ')} {self.op} {self.bound:g}{percent}"


@frozen
class Parameter:
    """One parameter of the search space."""

    name: str
    type: str = ""
    """``"float"``, ``"int"``, ``"str"`` or ``"bool"``; "" if not known."""
    kind: str = ""
    """``"range"``, ``"choice"``, ``"fixed"``, ``"derived"``, or "" if not known."""
    lower: float | None = None
    """Of a range."""
    upper: float | None = None
    scale: str = "linear"
    """``"linear"``, ``"log"`` or ``"logit"``."""
    values: tuple[Any, ...] = ()
    """All values of a choice; the one value of a fixed parameter."""
    ordered: bool = False
    expression: str = ""
    """Of a derived parameter."""


@frozen
class Optimized:
    """What is optimized. Empty if the journal, of an early version, does not say it."""

    objectives: tuple[Objective, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    """On results, including thresholds of objectives."""
    parameters: tuple[Parameter, ...] = ()
    parameter_constraints: tuple[Constraint, ...] = ()

    @classmethod
    def of(cls, described: Mapping[str, Any] | None) -> Optimized:
        """Read what `Optimizer.describe` has returned; unknown fields are ignored.

        Raises:
            LookupError, TypeError, ValueError: it has another form.
        """
        given = described or {}
        return cls(
            tuple(
                Objective(one["name"], one.get("minimize"), one.get("weights", {}))
                for one in given.get("objectives", ())
            ),
            tuple(map(_constraint, given.get("constraints", ()))),
            tuple(map(_parameter, given.get("parameters", ()))),
            tuple(map(_constraint, given.get("parameter_constraints", ()))),
        )

    @property
    def why_not_ranked(self) -> str:
        """Why no trial can be called the best; "" if one can."""
        if not self.objectives:
            return "The journal does not say what is optimized."
        if len(self.objectives) > 1:
            return "There are several objectives."
        if self.objectives[0].minimize is None:
            return f"The journal does not say whether {self.objectives[0].name!r} is minimized."
        if relative := [str(one) for one in self.constraints if one.relative]:
            return f"{relative[0]} is relative to the status quo, which is not in the journal."
        return ""

    def score(self, means: Mapping[str, float]) -> float | None:
        """A number that is greater for a better result; None if the result does not count.

        Args:
            means: metric -> mean.
        """
        if len(self.objectives) != 1 or not all(one.holds(means) for one in self.constraints):
            return None
        value = self.objectives[0].value(means)
        return value if value is None or not self.objectives[0].minimize else -value


def _constraint(one: Mapping[str, Any]) -> Constraint:
    return Constraint(one["weights"], one["op"], one["bound"], bool(one.get("relative")))


def _parameter(one: Mapping[str, Any]) -> Parameter:
    return Parameter(
        one["name"],
        one.get("type", ""),
        one.get("kind", ""),
        one.get("lower"),
        one.get("upper"),
        one.get("scale", "linear"),
        tuple(one.get("values", ())),
        bool(one.get("ordered")),
        one.get("expression", ""),
    )


def _sum(weights: Weights, values: Mapping[str, float]) -> float | None:
    try:
        return sum(weight * values[name] for name, weight in weights.items())
    except KeyError:
        return None
