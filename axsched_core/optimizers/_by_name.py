"""Generation strategies by name, for each kind of Ax's objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ax.api.utils.generation_strategy_dispatch import choose_generation_strategy
from ax.api.utils.structs import GenerationStrategyDispatchStruct

from axsched_core.errors import InvalidInput, did_you_mean

METHODS: Mapping[str, Any] = {
    "fast": "fast",
    "quality": "quality",
    "sobol": "random_search",
    "random": "random_search",
}
"""Name -> Ax's method."""


def method_of(name: str) -> Any:
    """Ax's method of this name.

    Raises:
        InvalidInput: there is none.
    """
    if name not in METHODS:
        raise InvalidInput(
            f"generation_strategy={name!r} is no strategy.{did_you_mean(name, METHODS)} "
            f"There are {', '.join(map(repr, METHODS))}, or an ax GenerationStrategy."
        )
    return METHODS[name]


def strategy_of(name: str) -> Any:
    """A new strategy, as Ax's ``Client`` makes it with ``configure_generation_strategy``."""
    return choose_generation_strategy(GenerationStrategyDispatchStruct(method=method_of(name)))


def give(native: Any, name: str, *, is_client: bool) -> None:
    """Let a ``Client`` or an ``AxClient`` use the strategy of this name.

    Raises:
        InvalidInput: there is none of this name, or the client has made trials with another one.
    """
    method = method_of(name)
    before = native._maybe_generation_strategy if is_client else native._generation_strategy
    if before is not None and before._generator_runs:
        raise InvalidInput(
            f"generation_strategy={name!r}: the client has made {len(before._generator_runs)} "
            "trials with its own strategy already. Leave it out to go on with that one."
        )
    if is_client:
        native.configure_generation_strategy(method=method)
        return
    strategy = strategy_of(name)
    if native._experiment is not None:
        strategy.experiment = native._experiment
    native._generation_strategy = strategy
