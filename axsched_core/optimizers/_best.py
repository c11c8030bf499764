"""The best trial of an Ax experiment: as observed, and by Ax's own model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen
from ax.adapter.torch import TorchAdapter
from ax.core.outcome_constraint import ComparisonOp
from ax.core.trial import Trial
from ax.core.trial_status import TrialStatus
from ax.service.utils.best_point_mixin import BestPointMixin

from axsched_core.best import Point

Weights = Sequence[tuple[str, float]]


@frozen
class _Limit:
    """An outcome constraint, or the threshold of an objective: sum of weights * metrics <= bound.

    (Ax's >= is stored with opposite signs.)
    """

    words: str
    weights: Weights
    bound: float

    def excess(self, values: Mapping[str, float]) -> float:
        """By how much it is broken; 0 or less: it is satisfied."""
        return _sum(self.weights, values) - self.bound


def observed(experiment: Any) -> tuple[list[Point], str]:
    """The best trials by their observed means, or the reason why there are none.

    A trial counts if it is completed, has one arm, which is in the search space, and has a value
    of each optimized or constrained metric. It is feasible if its means satisfy all outcome
    constraints (and thresholds of objectives); standard errors are not used.

    Returns:
        One objective (also a weighted sum): only the best trial. Several: all trials that no other
        is better than, by trial index.
    """
    config = experiment.optimization_config
    points, lacking = _points(experiment)
    limits, unjudged = _limits(experiment)
    feasible = [p for p in points if all(one.excess(p.values) <= 0 for one in limits)]
    objectives: Sequence[Weights] = config.objective._parsed[1]
    best = _best(feasible, objectives) if not unjudged else []
    if best:
        return best, ""
    if not points:
        return [], lacking
    if unjudged:
        return [], unjudged
    return [], f"No trial is feasible: {_what_breaks(limits, points)}."


def modelled(experiment: Any, strategy: Any) -> tuple[list[Point], str]:
    """The best trials by Ax's own model, or the reason why there are none.

    Raises:
        Exception: any error that Ax raises.
    """
    if experiment.optimization_config.is_moo_problem:
        found = BestPointMixin._get_pareto_optimal_parameters(experiment, strategy)
        points = [_predicted(experiment, index, *one) for index, one in found.items()]
        return points, "" if points else (
            "Ax's model predicts no trial that satisfies all outcome constraints and the "
            "objectives' thresholds (Ax infers those that are not given)."
        )
    last = strategy.last_generator_run
    if last is not None and last._generation_node_name != strategy.current_node_name:
        strategy.current_generator_run_limit()  # a resumed one moves to its last node
    if _knows_too_little(strategy.adapter, experiment):
        strategy.current_node._fit(experiment)
    if not isinstance(strategy.adapter, TorchAdapter):
        # Ax would return an old prediction, made with the last trial from the results until then.
        return [], "Ax has no model yet: the generation strategy is in its initial phase."
    best = BestPointMixin._get_best_trial(experiment, strategy)
    if best is None:
        return [], "Ax finds no trial that satisfies all outcome constraints."
    index, parameters, prediction = best
    if prediction is None or _as_observed(experiment, index, prediction[0]):
        return [], "Ax's model fits the results too badly to be asked."
    return [_predicted(experiment, index, parameters, prediction)], ""


def _knows_too_little(adapter: Any, experiment: Any) -> bool:
    """True if the model was made without some of the results. Ax's files hold no model, so it must
    not depend on when the last candidate was made."""
    if adapter is None:
        return True
    if not isinstance(adapter, TorchAdapter):
        return False
    used = adapter.get_training_data().observation_data.index.get_level_values("trial_index")
    return not set(used) >= experiment.trial_indices_by_status[TrialStatus.COMPLETED]


def _as_observed(experiment: Any, index: int, means: Mapping[str, float]) -> bool:
    # Ax does not say whether it used the data instead. A model's prediction is never exactly the
    # observed number for each metric.
    values = _values(experiment).get(index, {})
    return all(values.get(name, (None,))[0] == mean for name, mean in means.items())


def _predicted(experiment: Any, index: int, parameters: Any, prediction: Any) -> Point:
    means, covariances = prediction
    names = {metric.signature: name for name, metric in experiment.metrics.items()}
    keys = {names.get(key, key): key for key in means}
    known = {name: keys[name] for name in _metric_names(experiment) if name in keys}
    return Point(
        int(index),
        dict(parameters),
        {name: float(means[key]) for name, key in known.items()},
        {name: math.sqrt(max(0.0, covariances[key][key])) for name, key in known.items()},
    )


def _metric_names(experiment: Any) -> list[str]:
    """The metrics of the objectives, in their order, and then those of the constraints."""
    config = experiment.optimization_config
    names = [*config.objective.metric_names]
    return names + sorted(config.metric_names.difference(names))


def _points(experiment: Any) -> tuple[list[Point], str]:
    """The trials that count, and the reason why there are none."""
    completed = sorted(experiment.trial_indices_by_status[TrialStatus.COMPLETED])
    if not completed:
        return [], "No trial has been completed."
    values, names = _values(experiment), _metric_names(experiment)
    points, outside, missing = [], 0, set[str]()
    for index in completed:
        trial, of_trial = experiment.trials[index], values.get(index, {})
        if not isinstance(trial, Trial) or trial.arm is None:
            continue
        if lacks := {name for name in names if name not in of_trial}:
            missing |= lacks
        elif not experiment.search_space.check_membership(trial.arm.parameters):
            outside += 1
        else:
            means = {name: of_trial[name][0] for name in names}
            sems = {name: of_trial[name][1] for name in names}
            points.append(Point(index, dict(trial.arm.parameters), means, sems))
    why = [f"{len(completed)} trials are completed, and none of them counts"]
    if missing:
        why.append(f"some have no value of {', '.join(sorted(missing))}")
    if outside:
        why.append(f"{outside} are outside the search space")
    return points, "; ".join(why) + "."


def _values(experiment: Any) -> dict[int, dict[str, tuple[float, float | None]]]:
    """Trial -> metric -> (mean, sem), the last value of each."""
    data = experiment.lookup_data().df
    found: dict[int, dict[str, tuple[float, float | None]]] = {}
    for index, name, mean, sem in zip(
        data["trial_index"], data["metric_name"], data["mean"], data["sem"], strict=True
    ):
        if math.isfinite(mean):
            known = None if math.isnan(sem) else float(sem)
            found.setdefault(int(index), {})[name] = (float(mean), known)
    return found


def _limits(experiment: Any) -> tuple[list[_Limit], str]:
    """The constraints, and a message if one is relative to a status quo without data."""
    config, limits = experiment.optimization_config, []
    objectives = set(config.objective.metric_names)
    baseline = _status_quo(experiment) if any(c.relative for c in config.all_constraints) else {}
    for one in config.all_constraints:
        weights = [(n, w) for n, (_, w) in zip(one.metric_names, one.metric_weights, strict=True)]
        kind = "the threshold " if objectives.issuperset(one.metric_names) else ""
        bound, words = one.bound, f"{kind}{one.expression!r}"
        if one.relative:
            if not baseline.keys() >= set(one.metric_names):
                return [], (
                    f"{words} is relative to the status quo, which has no result of it, so no "
                    "trial can be called feasible."
                )
            # As in Ax: per cent of the status quo's value.
            value = _sum(weights, baseline)
            bound = value + abs(value) * bound / 100
            words += f" (here {bound:.4g})"
        if one.op == ComparisonOp.GEQ:
            weights, bound = [(name, -weight) for name, weight in weights], -bound
        limits.append(_Limit(words, weights, bound))
    return limits, ""


def _status_quo(experiment: Any) -> dict[str, float]:
    """Metric -> the mean of its observed values in the status quo's trials."""
    if experiment.status_quo is None:
        return {}
    data = experiment.lookup_data().df
    data = data[data["arm_name"] == experiment.status_quo.name]
    return {
        str(name): float(mean) for name, mean in data.groupby("metric_name")["mean"].mean().items()
    }


def _best(points: Iterable[Point], objectives: Sequence[Weights]) -> list[Point]:
    """The points that no other is better than; with one objective only the first."""
    scored = [(p, [_sum(weights, p.values) for weights in objectives]) for p in points]
    if len(objectives) == 1:
        return [max(scored, key=lambda one: one[1])[0]] if scored else []
    return [
        point
        for point, mine in scored
        if not any(
            other != mine and all(a >= b for a, b in zip(other, mine, strict=True))
            for _, other in scored
        )
    ]


def _what_breaks(limits: Sequence[_Limit], points: Sequence[Point]) -> str:
    words = []
    for limit in limits:
        broken = [(limit.excess(p.values), p.trial_index) for p in points]
        broken = [one for one in broken if one[0] > 0]
        if broken:
            least, index = min(broken)
            words.append(
                f"{limit.words} is broken by {len(broken)} of {len(points)} trials, least by trial "
                f"{index} (by {least:.4g})"
            )
    return "; ".join(words)


def _sum(weights: Weights, values: Mapping[str, float]) -> float:
    return sum(weight * values[name] for name, weight in weights)
