"""The smallest useful optimizer: for an author's own tests that should not wait for Ax."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from axsched_core.best import Best, Point
from axsched_core.errors import InvalidInput
from axsched_core.jobs import Parameters
from axsched_core.optimizers.base import (
    Asked,
    Candidate,
    Optimizer,
    Outcome,
    OutcomeKind,
    TrialView,
)
from axsched_core.optimizers.content import Content, Part


class RandomSearch(Optimizer):
    """Draws uniformly from intervals, and minimizes one objective.

    Args:
        bounds: parameter -> (lowest, highest).
        objective: the metric.
        seed: for the random numbers.

    Example:
        >>> scheduler = AxScheduler(RandomSearch({"x": (0.0, 1.0)}), "mine")
    """

    def __init__(
        self,
        bounds: Mapping[str, tuple[float, float]],
        objective: str = "loss",
        seed: int | None = None,
    ) -> None:
        self.bounds, self.objective = dict(bounds), objective
        self._random = random.Random(seed)
        self._trials: dict[int, dict[str, Any]] = {}

    @property
    def native(self) -> RandomSearch:
        return self

    @property
    def experiment(self) -> RandomSearch:
        return self

    @property
    def name(self) -> str:
        return "random-search"

    def describe(self) -> dict[str, Any]:
        ranges = [
            {"name": name, "type": "float", "kind": "range", "lower": low, "upper": high}
            for name, (low, high) in self.bounds.items()
        ]
        name = self.objective
        return {
            "objectives": [{"name": name, "minimize": True, "weights": {name: 1.0}}],
            "constraints": [],
            "parameters": [{**one, "scale": "linear"} for one in ranges],
            "parameter_constraints": [],
        }

    def check(self) -> None:
        """It is always ready."""

    @property
    def objective_names(self) -> tuple[str, ...]:
        return (self.objective,)

    @property
    def required_metrics(self) -> frozenset[str]:
        return frozenset({self.objective})

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return tuple(self.bounds)

    def ask(self, n: int, *, in_bulk: int = 0) -> Asked:
        made = []
        for _ in range(max(n, in_bulk)):
            drawn = {name: self._random.uniform(*bounds) for name, bounds in self.bounds.items()}
            made.append(Candidate(self.attach(drawn), drawn, "random"))
        return Asked(tuple(made), in_bulk=True)

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            trial = self._trials[outcome.index]
            trial["status"] = outcome.kind.value
            if outcome.kind is OutcomeKind.COMPLETED:
                trial["metrics"] = dict(outcome.metrics)

    def annotate(self, metadata: Mapping[int, Mapping[str, Any]]) -> None:
        for index, data in metadata.items():
            self._trials[index]["metadata"].update(data)

    def attach(self, parameters: Parameters) -> int:
        self.validate(parameters)
        index = len(self._trials)
        self._trials[index] = {
            "parameters": dict(parameters),
            "status": "RUNNING",
            "metrics": None,
            "metadata": {},
        }
        return index

    def validate(self, parameters: Parameters) -> None:
        missing, more = set(self.bounds) - set(parameters), set(parameters) - set(self.bounds)
        if missing or more:
            words = f"there is no {min(more)!r}" if more else f"{min(missing)!r} is missing"
            raise InvalidInput(f"The parameters are {sorted(self.bounds)}: {words}.")
        for name, (low, high) in self.bounds.items():
            value = parameters[name]
            if isinstance(value, str) or not low <= value <= high:
                raise InvalidInput(f"{name!r} is {value!r}, not in [{low}, {high}].")

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
            has_data=trial["metrics"] is not None,
            metadata=trial["metadata"],
        )

    def content(self) -> Content:
        metrics = {str(index): trial["metrics"] for index, trial in self._trials.items()}
        held = super().content()
        more = {"bounds": self.bounds, "metrics": metrics}
        parts = {name: Part(json.dumps(value)) for name, value in more.items()}
        return Content(held.trials, {**held.parts, **parts})

    def initial_trials_left(self) -> int:
        return 0

    def best(self) -> Best:
        no_model = "There is no model."
        done = {i: trial for i, trial in self._trials.items() if trial["metrics"]}
        if not done:
            words = "No trial has been completed."
            return Best(why_not_observed=words, why_not_modelled=no_model)
        index = min(done, key=lambda i: done[i]["metrics"][self.objective][0])
        mean, sem = done[index]["metrics"][self.objective]
        parameters = dict(done[index]["parameters"])
        point = Point(index, parameters, {self.objective: mean}, {self.objective: sem})
        return Best(point, why_not_modelled=no_model)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps([self.bounds, self.objective, list(self._trials.values())]))

    def load(self, path: Path) -> RandomSearch:
        bounds, objective, trials = json.loads(path.read_text())
        loaded = RandomSearch(bounds, objective)
        loaded._trials = dict(enumerate(trials))
        return loaded
