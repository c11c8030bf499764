"""Ax's ``Client``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from axsched_core.errors import OptimizerError
from axsched_core.optimizers._ax import AxOptimizer
from axsched_core.optimizers._stopping import EARLY


class ClientOptimizer(AxOptimizer):
    """An `Optimizer` over ``ax.Client``."""

    kind = "Client"
    _remedy = 'Call client.configure_optimization(objective="-loss") first.'
    _step = math.nan
    _held: ClassVar[Mapping[str, str]] = {EARLY: "_maybe_early_stopping_strategy"}

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

    @property
    def _chosen(self) -> Any:
        return self.native._maybe_generation_strategy

    def _generate(self, n: int) -> bool:
        self.native.get_next_trials(max_trials=n)
        return False

    def _attach(self, parameters: dict[str, Any]) -> int:
        return int(self.native.attach_trial(parameters=parameters))

    def _track(self, names: list[str]) -> None:
        self.native.configure_tracking_metrics(names)

    def _connect(self, settings: Any) -> None:
        self.native._db_settings = settings

    @classmethod
    def of_stored(
        cls, settings: Any, experiment: Any, strategy: Any, seed: int | None
    ) -> ClientOptimizer:
        from ax import Client
        from ax.api.configs import StorageConfig

        storage = StorageConfig(creator=settings.creator, url=settings.url)
        client = Client(storage_config=storage, random_seed=seed)
        client._db_settings = settings  # they may have their own decoder
        client._maybe_experiment, client._maybe_generation_strategy = experiment, strategy
        return cls(client)

    def _write(self, path: Path) -> None:
        self.native.save_to_json_file(str(path))

    def _read(self, path: Path, content: Any) -> ClientOptimizer:
        loaded = type(self.native).load_from_json_file(str(path))
        # Ax's file does not hold these.
        loaded._random_seed = self.native._random_seed
        loaded._maybe_early_stopping_strategy = self.native._maybe_early_stopping_strategy
        return type(self)(loaded)
