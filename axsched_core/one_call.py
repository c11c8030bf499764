"""A whole optimization in one call, as Ax's managed loop was: `axsched_core.optimize`."""

from __future__ import annotations

import functools
import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from axsched_core.best import Point
from axsched_core.config import SchedulerConfig
from axsched_core.jobs import Parameters
from axsched_core.run.by_hand import whole
from axsched_core.scheduler import AxScheduler

log = logging.getLogger("axsched")

Values = tuple[dict[str, float], dict[str, dict[str, float]]]
"""Metric -> mean, and metric -> metric -> covariance."""


def optimize(
    parameters: Sequence[Any],
    evaluation_function: Callable[..., Any],
    *,
    objective_name: str = "objective",
    minimize: bool = False,
    runner: str | object = "joblib",
    runner_options: Mapping[str, Any] | None = None,
    total_trials: int = 20,
    parameter_constraints: Sequence[str] | None = None,
    outcome_constraints: Sequence[str] | None = None,
    experiment_name: str | None = None,
    random_seed: int | None = None,
    generation_strategy: Any = None,
    config: SchedulerConfig | Mapping[str, Any] | None = None,
    plugins: Sequence[object] = (),
) -> tuple[Parameters | None, Values | None, Any, Any]:
    """Optimize a function in one call, in parallel. Imports Ax, which takes seconds.

    Takes what Ax's managed loop (``ax.service.managed_loop.optimize``) took, and returns the same.
    With an `AxScheduler` you can do more: continue, add trials by hand, several objectives.

    Args:
        parameters: each in the form of ``AxClient`` (``{"name": "x", "type": "range", "bounds":
            [0.0, 1.0]}``) or of ``ax.Client`` (a ``RangeParameterConfig`` and the like).
        evaluation_function: as for `AxScheduler.set_objective_function`. It may take a second
            argument called ``weight``, which is always None.
        objective_name: the metric to optimize; if there is no other, the function may return
            a bare number.
        minimize: False: maximize.
        runner: as for `AxScheduler`.
        runner_options: as for `AxScheduler`.
        total_trials: how many trials to run.
        parameter_constraints: linear ones, as ``"x1 + x2 <= 20"``.
        outcome_constraints: on metrics that the function returns, as ``"l2norm <= 1.25"``.
        experiment_name: the name of the experiment, and of the run directory.
        random_seed: for Ax.
        generation_strategy: an Ax ``GenerationStrategy``; None: Ax chooses one.
        config: settings of the scheduler.
        plugins: observers, and wrappers of the runner's hooks.

    Returns:
        ``(best_parameters, values, experiment, model)``. ``values`` is ``(means, covariances)`` of
        the best trial: metric -> mean, and metric -> metric -> variance (only the diagonal; NaN if
        it is unknown). Best trial and values are those of Ax's model, or as observed if there is no
        model. The first two are None, and the log says why, if no trial is feasible.
        ``experiment`` is the Ax ``Experiment``, ``model`` the Ax ``Adapter`` that made the last
        trial.

    Raises:
        InvalidInput: an argument is wrong; the message says which.
        AxschedError: the errors of `AxScheduler.run_optimization`. If the run directory is there,
            `AxScheduler.resume` continues from it.

    Example:
        >>> best_parameters, values, experiment, model = optimize(
        ...     parameters=[{"name": "x", "type": "range", "bounds": [-5.0, 10.0]}],
        ...     evaluation_function=lambda p: (p["x"] - 1) ** 2,
        ...     minimize=True,
        ... )
    """
    total_trials = whole(total_trials, "optimize: total_trials")
    from axsched_core.optimizers.new_client import model_of, new_client

    client = new_client(
        parameters,
        objective=f"-{objective_name}" if minimize else objective_name,
        parameter_constraints=parameter_constraints,
        outcome_constraints=outcome_constraints,
        experiment_name=experiment_name,
        random_seed=random_seed,
        generation_strategy=generation_strategy,
    )
    with AxScheduler(client, runner, config, runner_options, plugins=plugins) as scheduler:
        scheduler.set_objective_function(_without_weight(evaluation_function))
        best = scheduler.run_optimization(max_trials=total_trials)
        experiment = scheduler.experiment
    point = best.modelled or best.observed
    if point is None:
        return None, None, experiment, model_of(client)
    return dict(point.parameters), _values(point), experiment, model_of(client)


def _without_weight(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without the second argument that Ax's managed loop gave."""
    try:
        arguments = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # not a function, or a builtin: checked later
        return function
    # A parameter of this name is passed by name, and takes its place.
    if len(arguments) == 2 and arguments[1] == "weight":
        return functools.partial(function, weight=None)
    return function


def _values(point: Point) -> Values:
    variances = {
        name: math.nan if (sem := point.sems.get(name)) is None else sem**2 for name in point.values
    }
    return dict(point.values), {name: {name: one} for name, one in variances.items()}
