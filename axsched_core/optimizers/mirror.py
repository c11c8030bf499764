"""An optimizer that proposes nothing: it holds the trials that another loop has chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from axsched_core.best import Best
from axsched_core.jobs import Parameters
from axsched_core.optimizers.base import Asked, Optimizer, Outcome, TrialView


class Mirror(Optimizer):
    """The trials of another loop, under the same indices.

    Args:
        metrics: what each result must hold.
        name: the experiment's.
    """

    kind = "mirror"

    def __init__(self, metrics: Sequence[str] = (), name: str = "") -> None:
        self._metrics, self._name = tuple(metrics), name
        self._trials: dict[int, dict[str, Any]] = {}
        self.coming: list[int] = []
        """The indices of the trials that are attached next, in order."""

    @property
    def native(self) -> Mirror:
        return self

    @property
    def experiment(self) -> Mirror:
        return self

    @property
    def name(self) -> str:
        return self._name

    def check(self) -> None:
        """It is always ready."""

    @property
    def objective_names(self) -> tuple[str, ...]:
        return self._metrics

    @property
    def required_metrics(self) -> frozenset[str]:
        return frozenset(self._metrics)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(n for t in self._trials.values() for n in t["parameters"]))

    def ask(self, n: int, *, in_bulk: int = 0) -> Asked:
        return Asked(reason="another loop chooses the trials")

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            self._trials[outcome.index]["status"] = outcome.kind.value

    def annotate(self, metadata: Mapping[int, Mapping[str, Any]]) -> None:
        for index, data in metadata.items():
            self._trials[index]["metadata"].update(data)

    def attach(self, parameters: Parameters) -> int:
        index = self.coming.pop(0)
        self._make(index, parameters)
        return index

    def restore(self, index: int, parameters: Parameters, origin: Any) -> None:
        self._make(index, parameters)

    def _make(self, index: int, parameters: Parameters) -> None:
        plain = dict(parameters)
        self._trials[index] = {"parameters": plain, "status": "RUNNING", "metadata": {}}

    def validate(self, parameters: Parameters) -> None:
        """The other loop has checked them."""

    def trials(self, indices: Sequence[int] | None = None) -> dict[int, TrialView]:
        chosen = self._trials if indices is None else [i for i in indices if i in self._trials]
        return {index: self._view(index) for index in chosen}

    def _view(self, index: int) -> TrialView:
        trial = self._trials[index]
        return TrialView(
            index=index,
            parameters=trial["parameters"],
            status=trial["status"],
            open=trial["status"] == "RUNNING",
            metadata=trial["metadata"],
        )

    def initial_trials_left(self) -> int:
        return 0

    def best(self) -> Best:
        return Best(why_not_observed="The other loop knows which trial is best.")

    def save(self, path: Path) -> None:
        trials = [[index, trial] for index, trial in self._trials.items()]
        path.write_text(json.dumps([self._metrics, self._name, trials]))

    def load(self, path: Path) -> Mirror:
        metrics, name, trials = json.loads(path.read_text())
        loaded = Mirror(metrics, name)
        loaded._trials = dict(trials)
        return loaded
