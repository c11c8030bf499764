"""Ax's ``AxClient``, which Ax 1.4 removes: nothing here imports it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from axsched_core.errors import OptimizerError
from axsched_core.optimizers._ax import AxOptimizer
from axsched_core.optimizers._stopping import EARLY, OVERALL


class AxClientOptimizer(AxOptimizer):
    """An `Optimizer` over ``ax.service.ax_client.AxClient``."""

    kind = "AxClient"
    _held: ClassVar[Mapping[str, str]] = {
        EARLY: "_early_stopping_strategy",
        OVERALL: "_global_stopping_strategy",
    }
    _remedy = (
        "Pass objectives={'loss': ObjectiveProperties(minimize=True)} to "
        "ax_client.create_experiment(...)."
    )

    @property
    def experiment(self) -> Any:
        if self.native._experiment is None:
            raise OptimizerError(
                "The AxClient has no experiment yet. Call ax_client.create_experiment("
                "parameters=[...], objectives={'loss': ObjectiveProperties(minimize=True)}) first."
            )
        return self.native._experiment

    @property
    def strategy(self) -> Any:
        return self.native.generation_strategy

    @property
    def _chosen(self) -> Any:
        return self.native._generation_strategy

    def _generate(self, n: int) -> bool:
        _, complete = self.native.get_next_trials(max_trials=n)
        return bool(complete)

    def _why_complete(self) -> str:
        # get_next_trials swallows the reason.
        return self.why_over() or "Ax says that no more trials can be generated"

    def _attach(self, parameters: dict[str, Any]) -> int:
        _, index = self.native.attach_trial(parameters=parameters)
        return int(index)

    def _track(self, names: list[str]) -> None:
        self.native.add_tracking_metrics(names)

    def _connect(self, settings: Any) -> None:
        self.native._db_settings = settings

    @classmethod
    def of_stored(
        cls, settings: Any, experiment: Any, strategy: Any, seed: int | None
    ) -> AxClientOptimizer:
        from ax.service.ax_client import AxClient

        client = AxClient(strategy, settings, random_seed=seed, verbose_logging=False)
        client._experiment = experiment
        if strategy is None:
            client._set_generation_strategy()  # Ax's own choice
        return cls(client)

    def _write(self, path: Path) -> None:
        self.native.save_to_json_file(str(path))

    def _read(self, path: Path, content: Any) -> AxClientOptimizer:
        native = self.native
        loaded = type(native).load_from_json_file(
            str(path),
            # Ax's file does not hold these.
            random_seed=native._random_seed,
            early_stopping_strategy=native._early_stopping_strategy,
            global_stopping_strategy=native._global_stopping_strategy,
        )
        return type(self)(loaded)
