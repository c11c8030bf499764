"""What an Ax experiment optimizes, as plain JSON that can be read without Ax."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ax.core.outcome_constraint import ComparisonOp
from ax.core.parameter import (
    ChoiceParameter,
    DerivedParameter,
    FixedParameter,
    ParameterType,
    RangeParameter,
)

_TYPES = {
    ParameterType.BOOL: "bool",
    ParameterType.INT: "int",
    ParameterType.FLOAT: "float",
    ParameterType.STRING: "str",
}


def described(experiment: Any) -> dict[str, Any]:
    """As `Optimizer.describe`; without objectives if none are set."""
    space, config = experiment.search_space, experiment.optimization_config
    limits: dict[str, list[Any]] = {"objectives": [], "constraints": []}
    if config is not None:
        limits["objectives"] = [_objective(one) for one in config.objective._parsed[1]]
        limits["constraints"] = [_outcome(one) for one in config.all_constraints]
    return {
        **limits,
        "parameters": [_parameter(one) for one in space.parameters.values()],
        "parameter_constraints": [_constraint(one) for one in space.parameter_constraints],
    }


def _objective(weights: Iterable[tuple[str, float]]) -> dict[str, Any]:
    # Ax maximizes each sum; a single metric with a negative weight is minimized.
    summands = {name: float(weight) for name, weight in weights}
    if len(summands) == 1:
        ((name, weight),) = summands.items()
        return {"name": name, "minimize": weight < 0, "weights": {name: abs(weight)}}
    name = " + ".join(f"{weight:g}*{name}" for name, weight in summands.items())
    return {"name": name.replace("+ -", "- "), "minimize": False, "weights": summands}


def _outcome(one: Any) -> dict[str, Any]:
    weights = zip(one.metric_names, one.metric_weights, strict=True)
    return {
        "weights": {name: float(weight) for name, (_, weight) in weights},
        "op": ">=" if one.op == ComparisonOp.GEQ else "<=",
        "bound": float(one.bound),
        "relative": bool(one.relative),
    }


def _constraint(one: Any) -> dict[str, Any]:
    return {
        "weights": {name: float(weight) for name, weight in one.constraint_dict.items()},
        "op": "==" if one.is_equality else "<=",
        "bound": float(one.bound),
    }


def _parameter(one: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": one.name, "type": _TYPES[one.parameter_type]}
    if isinstance(one, RangeParameter):
        found |= {"kind": "range", "lower": one.lower, "upper": one.upper}
        found |= {"scale": "log" if one.log_scale else "logit" if one.logit_scale else "linear"}
        if one.digits is not None:
            found["digits"] = one.digits
    elif isinstance(one, ChoiceParameter):
        found |= {"kind": "choice", "values": list(one.values), "ordered": bool(one.is_ordered)}
        found |= {"scale": "log" if one.log_scale else "linear"}
    elif isinstance(one, FixedParameter):
        found |= {"kind": "fixed", "values": [one.value]}
    elif isinstance(one, DerivedParameter):
        found |= {"kind": "derived", "expression": one.expression_str}
    else:
        found["kind"] = type(one).__name__
    if one.is_hierarchical:
        found["dependents"] = _dependents(one.dependents)
    return found


def _dependents(dependents: Mapping[Any, Iterable[str]]) -> list[dict[str, Any]]:
    # A list, because the values may be other types than strings.
    return [{"value": value, "parameters": list(names)} for value, names in dependents.items()]
