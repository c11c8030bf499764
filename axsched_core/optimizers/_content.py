"""The content of an Ax experiment and its generation strategy, in milliseconds.

Ax's own JSON of a thousand trials takes seconds, nearly all for the generator runs, which never
change once they are made.
"""

from __future__ import annotations

import json
from typing import Any

from ax.core.experiment import Experiment
from ax.core.trial import Trial
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.storage.json_store.encoder import object_to_json
from ax.storage.json_store.registry import CORE_CLASS_ENCODER_REGISTRY, CORE_ENCODER_REGISTRY
from pandas.util import hash_pandas_object

from axsched_core.optimizers.content import Content, Part

STRATEGY = "generation strategy"
PROGRESS = "progress of the generation strategy"
EXPERIMENT = frozenset(
    {
        "optimization config",
        "search space",
        "metrics",
        "status quo",
        "properties",
        "runner",
        "description",
    }
)
"""The parts of an experiment that a database holds, in addition to its trials."""


def content_of(experiment: Experiment, strategy: GenerationStrategy | None) -> Content:
    """Everything that Ax saves of an experiment and its strategy."""
    config = experiment.optimization_config
    parts = {
        "optimization config": Part(_text(config), _config_in_words(config)),
        "search space": Part(_text(experiment.search_space)),
        "metrics": Part(_texts(experiment.metrics)),
        "status quo": Part(_text(experiment.status_quo)),
        "properties": Part(_texts(experiment._properties)),
        "runner": Part(_texts(experiment._trial_type_to_runner)),
        "description": Part(
            _texts(
                {
                    "name": experiment._name,
                    "description": experiment.description,
                    "type": experiment.experiment_type,
                    "is_test": experiment.is_test,
                }
            )
        ),
    }
    if strategy is not None:
        nodes = {"name": strategy.name, "nodes": [_plain(node) for node in strategy._nodes]}
        parts[STRATEGY] = Part(json.dumps(nodes))
        progress = {
            "node": strategy.current_node_name,
            "generator runs": len(strategy._generator_runs),
        }
        parts[PROGRESS] = Part(json.dumps(progress))
    data = _data(experiment)
    return Content(
        {
            index: (
                trial.status.name,
                _parameters(trial),
                data.get(index, 0),
                repr(
                    (
                        trial._run_metadata,
                        trial._stop_metadata,
                        trial._properties,
                        trial.status_reason,
                        trial.trial_type,
                        trial.ttl_seconds,
                    )
                ),
            )
            for index, trial in experiment.trials.items()
        },
        parts,
    )


def _plain(thing: Any) -> Any:
    try:
        return object_to_json(
            thing,
            encoder_registry=CORE_ENCODER_REGISTRY,
            class_encoder_registry=CORE_CLASS_ENCODER_REGISTRY,
        )
    except Exception:  # noqa: BLE001 - Ax cannot encode the class; its attributes are enough
        return repr(getattr(thing, "__dict__", thing))


def _text(thing: Any) -> str:
    return json.dumps(_plain(thing), default=repr)


def _texts(things: Any) -> str:
    """Each encoded separately, so that one which Ax cannot encode hides no other."""
    return json.dumps({str(key): _plain(thing) for key, thing in things.items()}, default=repr)


def _config_in_words(config: Any) -> dict[str, Any]:
    if config is None:
        return {"objective": None}
    return {
        "objective": str(config.objective.expression),
        "outcome constraints": [str(one) for one in config.all_constraints],
    }


def _parameters(trial: Any) -> str:
    if isinstance(trial, Trial):
        arm = trial.arm
        return "" if arm is None else repr((arm._name, arm._parameters))
    return repr([(arm._name, arm._parameters, weight) for arm, weight in trial.arm_weights.items()])


def _data(experiment: Experiment) -> dict[int, int]:
    """A number for the data of each trial; it does not depend on the order of the rows."""
    table = experiment.data.full_df
    if not len(table):
        return {}
    found: dict[int, int] = {}
    rows = zip(table["trial_index"].tolist(), hash_pandas_object(table, index=False), strict=True)
    for index, number in rows:
        found[index] = (found.get(index, 0) + int(number)) & 0xFFFFFFFFFFFFFFFF
    return found
