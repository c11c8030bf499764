"""What a user may do to an Ax object between two calls, and how it looks afterwards.

As a script it is a driver that is killed in the call after the changes:
``ax_changes.py KIND OUT [CHANGE ...]``; with ``$AXSCHED_TEST_URL`` the experiment is stored there.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any

from support import sql_driver
from support.sql_driver import URL, settings

KINDS = sql_driver.KINDS


def make(kind: str) -> tuple[Any, Any]:
    """An optimizer and, for an experiment, its strategy; the search space may be changed."""
    optimizer, strategy = sql_driver.make(kind, init=20)
    if kind == "ax_client":  # as create_experiment(immutable_search_space_and_opt_config=False)
        optimizer.experiment._properties.clear()
    return optimizer, strategy


def strategy_of(scheduler: Any) -> Any:
    return scheduler._run.optimizer.strategy


def _direction(scheduler: Any) -> None:
    _configure(scheduler, "loss")


def _constraint(scheduler: Any) -> None:
    _configure(scheduler, "-loss", ["time <= 3"])


def _configure(scheduler: Any, objective: str, constraints: list[str] | None = None) -> None:
    if type(scheduler.client).__name__ == "Client":
        scheduler.client.configure_optimization(objective, constraints)
        return
    from ax.core.objective import Objective
    from ax.core.optimization_config import OptimizationConfig
    from ax.core.outcome_constraint import OutcomeConstraint

    experiment = scheduler.experiment
    names = {name: metric.signature for name, metric in experiment.metrics.items()}
    experiment.optimization_config = OptimizationConfig(
        Objective(expression=objective, metric_name_to_signature=names),
        [
            OutcomeConstraint(expression=one, metric_name_to_signature=names)
            for one in constraints or []
        ],
    )


def _space(scheduler: Any) -> None:
    scheduler.experiment.search_space.parameters["x"].update_range(0.25, 0.5)


def _new_space(scheduler: Any) -> None:
    from ax.core.search_space import SearchSpace

    old = scheduler.experiment.search_space.clone()
    old.parameters["x"].update_range(0.25, 0.5)
    scheduler.experiment.search_space = SearchSpace(list(old.parameters.values()))


def _strategy(scheduler: Any) -> None:
    """Change the existing one."""
    for node in strategy_of(scheduler)._nodes:
        for spec in node.generator_specs:
            if spec.generator_enum.name == "SOBOL":
                spec.generator_kwargs["seed"] = 77


def _new_strategy(scheduler: Any) -> None:
    """Replace it."""
    native, kind = scheduler.client, type(scheduler.client).__name__
    if kind == "Client":
        native.configure_generation_strategy(method="random_search", initialization_random_seed=77)
    else:
        from ax.api.utils.generation_strategy_dispatch import choose_generation_strategy
        from ax.api.utils.structs import GenerationStrategyDispatchStruct

        made = choose_generation_strategy(
            GenerationStrategyDispatchStruct(method="random_search", initialization_random_seed=77)
        )
        made.experiment = scheduler.experiment
        native._generation_strategy = made


def _value(scheduler: Any) -> None:
    from ax.core.data import Data, DataRow

    experiment = scheduler.experiment
    step = next(iter(experiment.data.full_df.get("step", [None])))
    row = DataRow(0, "0_0", "loss", experiment.metrics["loss"].signature, 999.0, 0.5, step)
    experiment.attach_data(Data(data_rows=[row]))


def _status_quo(scheduler: Any) -> None:
    from ax.core.arm import Arm

    scheduler.experiment.status_quo = Arm({"x": 0.125, "y": 0.625}, name="as it is")


def _properties(scheduler: Any) -> None:
    scheduler.experiment._properties["note"] = {"by": "the user"}


def _metric(scheduler: Any) -> None:
    from ax.core.metric import Metric

    scheduler.experiment.add_tracking_metrics([Metric("cost")])


def _same_metric(scheduler: Any) -> None:
    scheduler.experiment.metrics["time"].lower_is_better = True


def _run_metadata(scheduler: Any) -> None:
    scheduler.experiment.trials[0].update_run_metadata({"note": "mine"})


def _parameters(scheduler: Any) -> None:
    """The evaluated point was in fact another one."""
    scheduler.experiment.trials[1].arm._parameters["x"] = 0.375


def _added(scheduler: Any) -> None:
    scheduler.experiment.attach_trial([{"x": 0.125, "y": 0.125}])


def _ended(scheduler: Any) -> None:
    scheduler.experiment.trials[2].mark_abandoned(reason="a slip of mine", unsafe=True)


CHANGES: dict[str, Callable[[Any], None]] = {
    "direction": _direction,
    "constraint": _constraint,
    "space": _space,
    "new space": _new_space,
    "strategy": _strategy,
    "new strategy": _new_strategy,
    "value": _value,
    "status quo": _status_quo,
    "properties": _properties,
    "metric": _metric,
    "same metric": _same_metric,
    "run metadata": _run_metadata,
    "parameters": _parameters,
    "added": _added,
    "ended": _ended,
}
NOT_OF_AN_EXPERIMENT = {"new strategy"}  # the scheduler was given the one that goes with it


def held(experiment: Any, strategy: Any) -> dict[str, Any]:
    """What is optimized, with which strategy, and the data."""
    table = experiment.lookup_data().df
    config = experiment.optimization_config
    return {
        "objective": config.objective.expression,
        "constraints": [str(one) for one in config.outcome_constraints],
        "bounds": [(one.lower, one.upper) for one in experiment.search_space.parameters.values()],
        "seeds": [
            spec.generator_kwargs.get("seed")
            for node in strategy._nodes
            for spec in node.generator_specs
        ],
        "runs": len(strategy._generator_runs),
        "data": sorted(
            (row["trial_index"], row["metric_name"], round(row["mean"], 9), str(row["sem"]))
            for _, row in table.iterrows()
        ),
        "status quo": experiment.status_quo and experiment.status_quo.parameters,
        "note": experiment._properties.get("note"),
        "metrics": sorted((one.name, one.lower_is_better) for one in experiment.metrics.values()),
        "trials": [
            (
                index,
                trial.status.name,
                {name: round(value, 9) for name, value in trial.arm.parameters.items()},
                trial.run_metadata.get("note"),
            )
            for index, trial in experiment.trials.items()
        ],
    }


def main(kind: str, out: str, changes: list[str]) -> None:
    from axsched_core import AxScheduler, hookimpl
    from axsched_core.events import TrialEnded
    from support.toy import ToyRunner

    class Killer:
        armed = False

        @hookimpl
        def axsched_on_event(self, event: Any) -> None:
            if self.armed and isinstance(event, TrialEnded):
                os.kill(os.getpid(), signal.SIGKILL)

    optimizer, strategy = make(kind)
    killer, url = Killer(), os.environ.get(URL)
    scheduler = AxScheduler(
        optimizer,
        ToyRunner(lambda request: {"loss": request.parameters["x"], "time": 2.0}),
        {"job_output_dir": out, "progress": False},
        generation_strategy=strategy,
        plugins=[killer],
        db_settings=settings(url) if url else None,
    )
    scheduler.run_optimization(max_trials=3)
    for name in changes:
        CHANGES[name](scheduler)
    killer.armed = True
    scheduler.run_optimization(max_trials=3)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
