"""The objects that propose trials, behind one small protocol.

`adapt` finds the adapter for an Ax ``Client``, ``AxClient`` or ``Experiment``. Importing this
package does not import Ax, which takes seconds; an adapter's module is imported when it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from axsched_core.errors import InvalidInput
from axsched_core.optimizers.base import (
    Asked,
    Candidate,
    Optimizer,
    Outcome,
    OutcomeKind,
    TrialView,
)
from axsched_core.optimizers.database import from_database, keep_in_database
from axsched_core.optimizers.last_run import LastRun
from axsched_core.optimizers.not_loaded import NotLoadedOptimizer

__all__ = [
    "Asked",
    "Candidate",
    "LastRun",
    "Optimizer",
    "Outcome",
    "OutcomeKind",
    "TrialView",
    "adapt",
    "from_database",
    "from_file",
    "keep_in_database",
]

CLIENT = "ax.api.client.Client"
AX_CLIENT = "ax.service.ax_client.AxClient"
EXPERIMENT = "ax.core.experiment.Experiment"
STRATEGY = "ax.generation_strategy.generation_strategy.GenerationStrategy"

_ACCEPTED = (
    "an ax.Client, an AxClient, an ax Experiment (with or without generation_strategy=...) "
    "or an axsched Optimizer"
)


def adapt(obj: Any, generation_strategy: Any = None) -> Optimizer:
    """Return the `Optimizer` for ``obj``; an `Optimizer` is returned unchanged.

    Args:
        obj: an Ax ``Client``, ``AxClient`` or ``Experiment``, an `Optimizer`, or None for one
            that will be loaded later.
        generation_strategy: the name of one (`AxScheduler`), or for an ``Experiment`` an Ax
            ``GenerationStrategy``. None: the client's own, or the one that Ax would choose.

    Raises:
        InvalidInput: for anything else.
    """
    kinds = _kinds(obj)
    if generation_strategy is not None:
        if obj is None:
            raise InvalidInput(
                "generation_strategy does not go with None: what load_experiment reads has its own."
            )
        if isinstance(generation_strategy, str) and kinds & {CLIENT, AX_CLIENT, EXPERIMENT}:
            generation_strategy = _strategy_named(obj, kinds, generation_strategy)
        elif EXPERIMENT not in kinds:
            raise InvalidInput(
                "generation_strategy goes with an ax Experiment only; a client has its own "
                "(client.set_generation_strategy(...), or "
                f"AxClient(generation_strategy=...)). Got {_in_words(obj)}."
            )
        elif STRATEGY not in _kinds(generation_strategy):
            raise InvalidInput(
                "generation_strategy must be an ax GenerationStrategy, "
                f"got {_in_words(generation_strategy)}."
            )
    if obj is None:
        return NotLoadedOptimizer()
    if isinstance(obj, Optimizer):
        return obj
    if CLIENT in kinds:
        from axsched_core.optimizers.client import ClientOptimizer

        return ClientOptimizer(obj)
    if AX_CLIENT in kinds:
        from axsched_core.optimizers.ax_client import AxClientOptimizer

        return AxClientOptimizer(obj)
    if EXPERIMENT in kinds:
        from axsched_core.optimizers.experiment import ExperimentOptimizer

        return ExperimentOptimizer(obj, generation_strategy)
    raise InvalidInput(f"Expected {_ACCEPTED}, got {_in_words(obj)}.{_hint(obj, kinds)}")


def _strategy_named(obj: Any, kinds: set[str], name: str) -> Any:
    """The strategy of this name, for an ``Experiment``; a client has it afterwards."""
    from axsched_core.optimizers import _by_name as by_name

    if EXPERIMENT in kinds:
        return by_name.strategy_of(name)
    by_name.give(obj, name, is_client=CLIENT in kinds)
    return None


def _kinds(obj: Any) -> set[str]:
    """Name the classes of ``obj``, without importing Ax or a class that Ax dropped."""
    return _names(type(obj))


def _names(cls: type) -> set[str]:
    return {f"{base.__module__}.{base.__qualname__}" for base in type.mro(cls)}


def _in_words(obj: Any) -> str:
    if isinstance(obj, type):
        return f"the class {obj.__qualname__}"
    return f"{type(obj).__module__}.{type(obj).__qualname__}: {obj!r:.80}"


def _hint(obj: Any, kinds: set[str]) -> str:
    if STRATEGY in kinds:
        return " Pass the Experiment, and this one as generation_strategy=... too."
    if isinstance(obj, type) and _names(obj) & {CLIENT, AX_CLIENT, EXPERIMENT}:
        return f" Pass an instance of it: {obj.__name__}(...)."
    if callable(obj):
        return " The objective is passed on its own, after the optimizer."
    return ""


def from_file(kind: str, path: Path, seed: int | None = None) -> Optimizer:
    """Read a file that `Optimizer.save` of an Ax optimizer has written.

    Args:
        kind: `Optimizer.kind` of the optimizer that wrote it.
        path: the file.
        seed: the client's random seed, which Ax's file does not hold.

    Raises:
        InvalidInput: the kind is not one of Ax's, or the file cannot be read.
    """
    if kind == "Client":
        from ax import Client

        from axsched_core.optimizers.client import ClientOptimizer

        return ClientOptimizer(Client(random_seed=seed)).load(path)
    if kind == "AxClient":
        from ax.service.ax_client import AxClient

        from axsched_core.optimizers.ax_client import AxClientOptimizer

        return AxClientOptimizer(AxClient(random_seed=seed, verbose_logging=False)).load(path)
    if kind == "Experiment":
        from axsched_core.optimizers.experiment import ExperimentOptimizer

        return ExperimentOptimizer(None).load(path)
    raise InvalidInput(
        f"{path}: a {kind!r} cannot be read here; pass an optimizer of that kind to resume()."
    )
