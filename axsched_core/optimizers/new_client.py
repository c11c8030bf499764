"""A new ``ax.Client`` for `axsched_core.optimize`; this imports Ax."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ax import Client
from ax.api.configs import ChoiceParameterConfig, DerivedParameterConfig, RangeParameterConfig
from ax.api.utils.instantiation.from_config import parameter_from_config
from ax.core.experiment import Experiment
from ax.core.parameter import (
    ChoiceParameter,
    DerivedParameter,
    FixedParameter,
    ParameterType,
    RangeParameter,
)
from ax.core.parameter_constraint import ParameterConstraint
from ax.core.search_space import SearchSpace

from axsched_core.errors import InvalidInput, did_you_mean

_T = TypeVar("_T")

_CONFIGS = (RangeParameterConfig, ChoiceParameterConfig, DerivedParameterConfig)
_TYPES = {
    "bool": ParameterType.BOOL,
    "int": ParameterType.INT,
    "float": ParameterType.FLOAT,
    "str": ParameterType.STRING,
}
_ALWAYS = {"name", "type", "value_type"}
_KEYS = {
    "range": ("bounds", {"log_scale", "digits", "is_fidelity", "target_value"}),
    "choice": (
        "values",
        {"is_ordered", "sort_values", "is_task", "is_fidelity", "target_value", "dependents"},
    ),
    "fixed": ("value", {"is_fidelity", "target_value", "dependents"}),
    "derived": ("expression_str", set[str]()),
}
"""The kinds of parameters in ``AxClient``'s form: the key that each needs, and those that it may
have."""


def new_client(
    parameters: Sequence[Any],
    *,
    objective: str,
    parameter_constraints: Sequence[str] | None = None,
    outcome_constraints: Sequence[str] | None = None,
    experiment_name: str | None = None,
    random_seed: int | None = None,
    generation_strategy: Any = None,
) -> Client:
    """A client that is ready to be asked for trials.

    Args:
        parameters: each in the form of ``AxClient`` (a dict) or of ``Client`` (a config).
        objective: with a minus sign if it is minimized.
        parameter_constraints: as ``"x1 + x2 <= 2"``.
        outcome_constraints: as ``"time <= 3"``.
        experiment_name: the experiment's name.
        random_seed: for Ax.
        generation_strategy: an Ax ``GenerationStrategy``; None: Ax chooses.

    Raises:
        InvalidInput: says which of them is wrong.
    """
    space = _tried(
        "the search space",
        lambda: SearchSpace(
            [_parameter(one) for one in _listed(parameters, "parameters")],
            [_constraint(one) for one in _listed(parameter_constraints, "parameter_constraints")],
        ),
    )
    limits = _listed(outcome_constraints, "outcome_constraints")
    client = Client(random_seed=random_seed)
    client.set_experiment(Experiment(search_space=space, name=experiment_name))
    _tried(
        f"objective {objective!r} with outcome_constraints {limits!r}",
        lambda: client.configure_optimization(objective, limits or None),
    )
    if generation_strategy is not None:
        _tried("generation_strategy", lambda: client.set_generation_strategy(generation_strategy))
    return client


def model_of(client: Client) -> Any:
    """Ax's ``Adapter`` of the generation that the client made last; None if it made none."""
    return client._generation_strategy_or_choose().adapter


def _tried(what: str, work: Callable[[], _T]) -> _T:
    """Run ``work``; what Ax says is wrong, in our words."""
    try:
        return work()
    except InvalidInput:
        raise
    except Exception as error:
        raise InvalidInput(f"optimize: {what}: {error}") from error


def _listed(given: Any, name: str) -> list[Any]:
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence | None):
        raise InvalidInput(f"optimize: {name} must be a list, got {given!r:.80}.")
    return list(given or ())


def _constraint(given: Any) -> ParameterConstraint:
    return _tried(
        f"parameter_constraints: {given!r}", lambda: ParameterConstraint(inequality=given)
    )


def _parameter(given: Any) -> Any:
    if isinstance(given, _CONFIGS):
        return _tried(f"parameter {given.name!r}", lambda: parameter_from_config(given))
    if not isinstance(given, Mapping):
        raise InvalidInput(
            "optimize: a parameter is a dict ({'name': 'x', 'type': 'range', 'bounds': [0.0, 1.0]})"
            f", a RangeParameterConfig or a ChoiceParameterConfig, got {given!r:.80}."
        )
    what = f"parameter {given.get('name')!r}"
    _check_keys(given, what)
    return _tried(what, lambda: _from_dict(given))


def _check_keys(given: Mapping[str, Any], what: str) -> None:
    kind = given.get("type")
    if kind not in _KEYS:
        raise InvalidInput(f"optimize: {what}: 'type' must be {_one_of(_KEYS)}, got {kind!r}.")
    needed, more = _KEYS[kind]
    known = {*_ALWAYS, needed, *more}
    if unknown := [key for key in given if key not in known]:
        raise InvalidInput(
            f"optimize: {what}: unknown key {unknown[0]!r}.{did_you_mean(str(unknown[0]), known)} "
            f"The keys of a {kind} parameter are {', '.join(sorted(known))}."
        )
    if missing := [key for key in ("name", needed) if key not in given]:
        raise InvalidInput(f"optimize: {what}: {missing[0]!r} is missing.")


def _from_dict(given: Mapping[str, Any]) -> Any:
    kind, name = given["type"], given["name"]
    needed, keys = _KEYS[kind]
    more = {key: given[key] for key in keys if key in given}
    value = given[needed]
    if kind == "derived":
        return DerivedParameter(name, _type(given, [0.0]), expression_str=value)
    if kind == "fixed":
        return FixedParameter(name, _type(given, [value]), value, **more)
    values = list(value)
    if kind == "range":
        lower, upper = values
        return RangeParameter(name, _type(given, values), lower, upper, **more)
    if len(values) == 1:  # Ax has no choice of one
        kept = {key: more[key] for key in _KEYS["fixed"][1] if key in more}
        return FixedParameter(name, _type(given, values), values[0], **kept)
    return ChoiceParameter(name, _type(given, values), values, **more)


def _type(given: Mapping[str, Any], values: Sequence[Any]) -> ParameterType:
    """The type that is named, otherwise that of the values, as ``AxClient`` does it."""
    named = given.get("value_type")
    if named is None:
        found = sorted({type(value).__name__ for value in values})
        named = "float" if found == ["float", "int"] else " and ".join(found)
    if named not in _TYPES:
        raise ValueError(f"its values are of type {named}; give 'value_type', {_one_of(_TYPES)}")
    return _TYPES[named]


def _one_of(words: Iterable[str]) -> str:
    return f"one of {', '.join(map(repr, words))}"
