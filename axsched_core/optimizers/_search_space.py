"""Check a user's parameters against an Ax search space, with readable errors."""

from __future__ import annotations

import math
from typing import Any

from ax.core.parameter import (
    ChoiceParameter,
    DerivedParameter,
    FixedParameter,
    ParameterType,
    RangeParameter,
)

from axsched_core.errors import InvalidInput, did_you_mean
from axsched_core.jobs import Parameters


def checked(search_space: Any, parameters: Parameters) -> dict[str, Any]:
    """Return ``parameters`` complete, in the search space's order and with its types.

    Fixed and derived parameters may be left out: they have only one possible value.

    Raises:
        InvalidInput: names the parameter, its value and what is allowed.
    """
    known = search_space.parameters
    for name in parameters:
        if name not in known:
            raise InvalidInput(
                f"There is no parameter {name!r} in the search space."
                f"{did_you_mean(str(name), known)} Its parameters are {_listed(known)}."
            )
    values = {name: _value(known[name], value) for name, value in parameters.items()}
    _fill_in(search_space, values)
    values = {name: values[name] for name in known if name in values}
    for constraint in search_space.parameter_constraints:
        _check_constraint(constraint, values)
    try:
        # What is left: derived values, and which parameters a hierarchical space allows together.
        search_space.check_membership(values, raise_error=True)
    except (ValueError, RuntimeError) as error:
        raise InvalidInput(f"The parameters do not fit the search space: {error}") from error
    return values


def conditional(search_space: Any) -> frozenset[str]:
    """The parameters that not every arm has: in a hierarchical space, some depend on others."""
    known = search_space.parameters
    if not search_space.is_hierarchical:
        return frozenset()
    beside = {n: p.dependents if p.is_hierarchical else {} for n, p in known.items()}
    dependent = {
        name for choices in beside.values() for names in choices.values() for name in names
    }
    always = [name for name in known if name not in dependent]
    for name in always:  # grows while it is walked
        # Each has one parent; only if the parent has a single value, the child always exists too.
        if len(getattr(known[name], "values", [None])) == 1:
            always += [one for names in beside[name].values() for one in names]
    return frozenset(known).difference(always)


def _fill_in(search_space: Any, values: dict[str, Any]) -> None:
    known = search_space.parameters
    if not search_space.is_hierarchical:  # in one, some parameters exist only with others
        for name, parameter in known.items():
            if isinstance(parameter, FixedParameter):
                values.setdefault(name, parameter.value)
        missing = [
            name
            for name, parameter in known.items()
            if name not in values
            and not isinstance(parameter, DerivedParameter)
            and parameter.backfill_value is None
        ]
        if missing:
            each = "; ".join(f"{name!r} ({_allowed(known[name])})" for name in missing)
            raise InvalidInput(f"Parameters are missing: {each}.")
    for name, parameter in known.items():
        if (
            isinstance(parameter, DerivedParameter)
            and name not in values
            and parameter.parameter_names_to_weights.keys() <= values.keys()
        ):
            values[name] = parameter.compute(values)


def _value(parameter: Any, given: Any) -> Any:
    """Return ``given`` as a plain value of the parameter's type."""
    value = given
    if not isinstance(value, str | bool | int | float) and hasattr(value, "item"):
        try:
            value = value.item()  # a NumPy scalar
        except (TypeError, ValueError, RuntimeError):
            raise _refused(parameter, given) from None
    if isinstance(parameter, ChoiceParameter):
        return _one_of(parameter, parameter.values, value, given)
    if isinstance(parameter, FixedParameter):
        return _one_of(parameter, [parameter.value], value, given)
    kind = parameter.parameter_type
    if not kind.is_numeric:  # derived from a choice
        return value
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise _refused(parameter, given)
    if kind is ParameterType.INT and value != int(value):
        raise _refused(parameter, given)
    if isinstance(parameter, RangeParameter) and not parameter.validate(value):
        raise _refused(parameter, given)
    return parameter.cast(value)


def _one_of(parameter: Any, values: list[Any], value: Any, given: Any) -> Any:
    for allowed in values:
        # In Python, True == 1.
        if isinstance(allowed, bool) == isinstance(value, bool) and allowed == value:
            return allowed
    raise _refused(parameter, given)


def _check_constraint(constraint: Any, values: dict[str, Any]) -> None:
    weights = constraint.constraint_dict
    if not weights.keys() <= values.keys():
        return
    if not constraint.check({name: values[name] for name in weights}):
        terms = " + ".join(f"{weight:g}*{name}" for name, weight in weights.items())
        total = sum(weight * values[name] for name, weight in weights.items())
        sign = "==" if constraint.is_equality else "<="
        raise InvalidInput(
            f"The parameters break the constraint {terms} {sign} {constraint.bound:g}: "
            f"with {', '.join(f'{name}={values[name]!r}' for name in weights)} it is {total:g}."
        )


def _refused(parameter: Any, given: Any) -> InvalidInput:
    return InvalidInput(
        f"Parameter {parameter.name!r} cannot be {given!r} ({type(given).__name__}): "
        f"allowed is {_allowed(parameter)}."
    )


def _allowed(parameter: Any) -> str:
    if isinstance(parameter, RangeParameter):
        whole = parameter.parameter_type is ParameterType.INT
        number = "a whole number" if whole else "a number"
        return f"{number} from {parameter.lower!r} to {parameter.upper!r}"
    if isinstance(parameter, ChoiceParameter):
        return f"one of {_listed(parameter.values)}"
    if isinstance(parameter, FixedParameter):
        return f"{parameter.value!r} only"
    if isinstance(parameter, DerivedParameter):
        return f"{parameter.expression_str} only"
    return f"a {parameter.parameter_type.name.lower()}"


def _listed(words: Any) -> str:
    return ", ".join(map(repr, words))
