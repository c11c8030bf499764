"""The optimizer of a scheduler that was made with None, before one is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from axsched_core.errors import InvalidInput
from axsched_core.optimizers.base import Optimizer, TrialView
from axsched_core.optimizers.files import kind_of_file


def _refuse(*_: object, **__: object) -> NoReturn:
    raise InvalidInput(
        "There is no optimizer yet: this AxScheduler was made with None. Call "
        "scheduler.load_experiment(path) first, or pass an ax.Client, an AxClient or an Ax "
        "Experiment."
    )


class NotLoadedOptimizer(Optimizer):
    """Can load a file of any kind; every other method says that one must be loaded first."""

    @property
    def name(self) -> str:
        return ""

    def load(self, path: Path) -> Optimizer:
        from axsched_core.optimizers import from_file

        return from_file(kind_of_file(path), path)

    @property
    def native(self) -> Any:
        _refuse()

    @property
    def experiment(self) -> Any:
        _refuse()

    @property
    def objective_names(self) -> tuple[str, ...]:
        _refuse()

    @property
    def required_metrics(self) -> frozenset[str]:
        _refuse()

    @property
    def parameter_names(self) -> tuple[str, ...]:
        _refuse()

    def trials(self, indices: Sequence[int] | None = None) -> dict[int, TrialView]:
        return {}

    check = describe = ask = tell = annotate = attach = validate = _refuse
    initial_trials_left = best = save = _refuse
