"""An Ax ``Experiment`` with a ``GenerationStrategy``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ax.api.utils.generation_strategy_dispatch import choose_generation_strategy
from ax.api.utils.structs import GenerationStrategyDispatchStruct
from ax.exceptions.core import UnsupportedError
from ax.storage.json_store.decoder import generation_strategy_from_json, object_from_json
from ax.storage.json_store.encoder import object_to_json
from ax.storage.json_store.registry import (
    CORE_CLASS_DECODER_REGISTRY,
    CORE_CLASS_ENCODER_REGISTRY,
    CORE_DECODER_REGISTRY,
    CORE_ENCODER_REGISTRY,
)

from axsched_core.errors import InvalidInput, OptimizerError
from axsched_core.optimizers._ax import AxOptimizer


class ExperimentOptimizer(AxOptimizer):
    """An `Optimizer` over an Ax ``Experiment`` and a ``GenerationStrategy``.

    Its file is ``{"kind": "axsched-experiment", "version": 1, "experiment": ...,
    "generation_strategy": ...}``, the last two in Ax's own JSON encoding.
    """

    kind = "Experiment"
    _remedy = "Set experiment.optimization_config = OptimizationConfig(objective=...) first."

    def __init__(self, native: Any, generation_strategy: Any = None) -> None:
        super().__init__(native)
        if generation_strategy is not None:
            try:
                generation_strategy.experiment = native
            except UnsupportedError as error:
                raise InvalidInput(
                    f"The generation strategy belongs to another experiment: {error}"
                ) from error
        self._strategy = generation_strategy

    @property
    def experiment(self) -> Any:
        return self.native

    @property
    def strategy(self) -> Any:
        if self._strategy is None:  # the same choice as Client's
            self._strategy = choose_generation_strategy(GenerationStrategyDispatchStruct())
        return self._strategy

    @property
    def _chosen(self) -> Any:
        return self._strategy

    @classmethod
    def of_stored(
        cls, settings: Any, experiment: Any, strategy: Any, seed: int | None
    ) -> ExperimentOptimizer:
        return cls(experiment, strategy)

    def _generate(self, n: int) -> bool:
        for runs in self.strategy.gen(experiment=self.experiment, n=1, num_trials=n):
            if len(runs) != 1 or len(runs[0].arms) != 1:
                raise OptimizerError(
                    f"The generation strategy {self.strategy.name!r} proposes several arms per "
                    "trial; only trials of one arm can be run."
                )
            trial = self.experiment.new_trial(generator_run=runs[0])
            trial.mark_running(no_runner_required=True, unsafe=True)
        return False

    def _attach(self, parameters: dict[str, Any]) -> int:
        trial = self.experiment.attach_trial(parameterizations=[parameters])
        return int(trial[1])

    def _write(self, path: Path) -> None:
        experiment, strategy = (
            object_to_json(
                part,
                encoder_registry=CORE_ENCODER_REGISTRY,
                class_encoder_registry=CORE_CLASS_ENCODER_REGISTRY,
            )
            for part in (self.experiment, self._placed_strategy())
        )
        strategy["experiment"] = None  # Ax would write the whole experiment a second time
        content = {
            "kind": "axsched-experiment",
            "version": 1,
            "experiment": experiment,
            "generation_strategy": strategy,
        }
        path.write_text(json.dumps(content), encoding="utf-8")

    def _read(self, path: Path, content: Any) -> ExperimentOptimizer:
        if content.get("version") != 1:
            raise ValueError(
                f"its version is {content.get('version')!r}, and this axsched reads version 1"
            )
        registries = {
            "decoder_registry": CORE_DECODER_REGISTRY,
            "class_decoder_registry": CORE_CLASS_DECODER_REGISTRY,
        }
        experiment = object_from_json(content["experiment"], **registries)
        strategy = generation_strategy_from_json(
            content["generation_strategy"], experiment=experiment, **registries
        )
        return type(self)(experiment, strategy)
