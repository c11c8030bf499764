"""Ax's ``Client``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from axsched_core.errors import OptimizerError
from axsched_core.optimizers._ax import AxOptimizer, warn_of_database


class ClientOptimizer(AxOptimizer):
    """An `Optimizer` over ``ax.Client``."""

    kind = "Client"
    _remedy = 'Call client.configure_optimization(objective="-loss") first.'
    _step = math.nan

    @property
    def experiment(self) -> Any:
        if self.native._maybe_experiment is None:
            raise OptimizerError(
                "The Client has no experiment yet. Call "
                "client.configure_experiment(parameters=[...]) first."
            )
        return self.native._maybe_experiment

    @property
    def strategy(self) -> Any:
        return self.native._generation_strategy_or_choose()

    def _generate(self, n: int) -> bool:
        self.native.get_next_trials(max_trials=n)
        return False

    def _attach(self, parameters: dict[str, Any]) -> int:
        return int(self.native.attach_trial(parameters=parameters))

    def _track(self, names: list[str]) -> None:
        self.native.configure_tracking_metrics(names)

    def _store(self, trials: list[Any]) -> None:
        self.native._save_or_update_trials_in_db_if_possible(
            experiment=self.experiment, trials=trials
        )

    def _best(self) -> Any:
        return self.native.get_best_parameterization()[0]

    def _pareto(self) -> Any:
        self.native._generation_strategy_or_choose()  # get_pareto_frontier does not choose one
        return self.native.get_pareto_frontier()

    def _write(self, path: Path) -> None:
        self.native.save_to_json_file(str(path))

    def _read(self, path: Path, content: Any) -> ClientOptimizer:
        if self.native.db_settings_set:
            warn_of_database(path)
        loaded = type(self.native).load_from_json_file(str(path))
        # Ax's file does not hold these.
        loaded._random_seed = self.native._random_seed
        loaded._maybe_early_stopping_strategy = self.native._maybe_early_stopping_strategy
        return type(self)(loaded)
