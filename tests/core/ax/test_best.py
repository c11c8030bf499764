"""The best trial as observed and by Ax's own model, on real Ax."""

from __future__ import annotations

import json

import pytest

from axsched_core.best import Best
from axsched_core.optimizers import Optimizer, Outcome, OutcomeKind, adapt

pytestmark = [pytest.mark.ax, pytest.mark.filterwarnings("ignore")]

KINDS = ("client", "ax_client", "experiment")


def make(kind: str, objective: str = "-loss", constraints=(), **generation) -> Optimizer:
    if kind == "ax_client":
        from ax.service.ax_client import AxClient, ObjectiveProperties

        ax_client = AxClient(random_seed=7, verbose_logging=False)
        names = [name.strip() for name in objective.split(",")]
        ax_client.create_experiment(
            name="e",
            parameters=[{"name": "x", "type": "range", "bounds": [0.0, 1.0]}],
            objectives={
                name.lstrip("-"): ObjectiveProperties(minimize=name.startswith("-"))
                for name in names
            },
            outcome_constraints=list(constraints),
        )
        return adapt(ax_client)
    from ax import Client, RangeParameterConfig

    client = Client(random_seed=7)
    client.configure_experiment(
        [RangeParameterConfig(name="x", bounds=(0, 1), parameter_type="float")], name="e"
    )
    client.configure_optimization(objective, outcome_constraints=list(constraints) or None)
    if generation:
        client.configure_generation_strategy(initialization_random_seed=7, **generation)
    return adapt(client if kind == "client" else client._experiment)


def tell(optimizer: Optimizer, *results: dict) -> None:
    for result in results:
        (candidate,) = optimizer.ask(1).candidates
        metrics = {n: v if isinstance(v, tuple) else (v, None) for n, v in result.items()}
        optimizer.tell([Outcome(candidate.index, OutcomeKind.COMPLETED, metrics)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("objective", "index"), [("-loss", 1), ("loss", 2)])
def test_the_best_observed_follows_the_direction(kind, objective, index):
    optimizer = make(kind, objective)
    tell(optimizer, {"loss": (3.0, 0.1)}, {"loss": 1.0}, {"loss": 5.0}, {"loss": 2.0})
    best = optimizer.best()
    assert best.trial_index == index
    assert best.parameters == optimizer.trials()[index].parameters
    assert best.values == {"loss": 1.0 if index == 1 else 5.0}
    assert best.observed.sems == {"loss": None}
    assert best.modelled is None
    assert "initial phase" in best.why_not_modelled
    assert best.why_not_observed == ""


@pytest.mark.parametrize("kind", KINDS)
def test_without_data_there_is_none_in_words(kind):
    optimizer = make(kind)
    optimizer.ask(2)
    best = optimizer.best()
    assert (best.observed, best.parameters, best.values, best.trial_index) == (None,) * 4
    assert best.why_not_observed == best.why_not_modelled == "No trial has been completed."
    assert str(best).startswith("Best observed: none. No trial has been completed.")


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_that_breaks_a_constraint_is_not_the_best(kind):
    optimizer = make(kind, constraints=["c <= 3", "d >= 1"])
    tell(
        optimizer,
        {"loss": 1.0, "c": 4.0, "d": 1.0},
        {"loss": 2.0, "c": 3.0, "d": 0.5},
        {"loss": 3.0, "c": 3.0, "d": 1.0},
        {"loss": 4.0, "c": 0.0, "d": 9.0},
    )
    best = optimizer.best()
    assert best.trial_index == 2
    assert best.values == {"loss": 3.0, "c": 3.0, "d": 1.0}


@pytest.mark.parametrize("kind", KINDS)
def test_where_no_trial_is_feasible_the_constraint_is_named_and_by_how_much(kind):
    optimizer = make(kind, constraints=["c <= 3", "d >= 1"])
    tell(
        optimizer,
        {"loss": 1.0, "c": (4.0, 0.0), "d": (1.0, 0.0)},
        {"loss": 2.0, "c": (3.25, 0.0), "d": (0.5, 0.0)},
    )
    best = optimizer.best()
    assert best.observed is best.modelled is None
    assert "No trial is feasible" in best.why_not_observed
    assert "initial phase" in best.why_not_modelled
    assert "is broken by 2 of 2 trials, least by trial 1 (by 0.25)" in best.why_not_observed
    assert "is broken by 1 of 2 trials, least by trial 1 (by 0.5)" in best.why_not_observed
    assert "c <= 3" in best.why_not_observed
    assert "d >= 1" in best.why_not_observed


@pytest.mark.parametrize("kind", ["client", "experiment"])
def test_a_weighted_sum_is_one_objective(kind):
    optimizer = make(kind, "a + 2*b")
    tell(optimizer, {"a": 5.0, "b": 0.0}, {"a": 0.0, "b": 3.0}, {"a": 1.0, "b": 2.0})
    best = optimizer.best()
    assert best.trial_index == 1
    assert best.values == {"a": 0.0, "b": 3.0}
    assert best.pareto == ()


@pytest.mark.parametrize("kind", KINDS)
def test_the_pareto_set_as_observed_and_by_the_model(kind):
    optimizer = make(kind, "-a, -b")
    values = [(0.0, 1.0), (1.0, 0.0), (2.0, 2.0), (0.5, 0.5), (0.6, 0.5)]
    tell(optimizer, *({"a": (a, 0.0), "b": (b, 0.0)} for a, b in values))
    best = optimizer.best()
    assert [point.trial_index for point in best.pareto] == [0, 1, 3]
    assert best.pareto[0].values == {"a": 0.0, "b": 1.0}
    assert best.observed is None
    assert {point.trial_index for point in best.modelled_pareto} <= set(range(5))
    assert best.modelled_pareto or best.why_not_modelled
    assert "Pareto set observed, 3 trials:\n  trial 0: a = 0, b = 1 (x = " in str(best)


def test_both_pareto_sets_name_the_metrics_in_the_order_of_the_objectives():
    optimizer = make("client", "-loss, -cost")
    tell(optimizer, {"loss": 0.0, "cost": 1.0}, {"loss": 1.0, "cost": 0.0})
    best = optimizer.best()
    for points in (best.pareto, best.modelled_pareto):
        assert [list(point.values) for point in points] == [["loss", "cost"]] * 2


def test_an_empty_pareto_set_says_which_threshold_made_it_so():
    optimizer = make("client", "-a, -b", constraints=["a <= 2", "b <= 2"])
    tell(optimizer, {"a": (1.0, 0.0), "b": (5.0, 0.0)}, {"a": (2.5, 0.0), "b": (3.0, 0.0)})
    best = optimizer.best()
    assert best.pareto == ()
    assert "the threshold 'b <= 2" in best.why_not_observed
    assert "broken by 2 of 2 trials, least by trial 1 (by 1)" in best.why_not_observed
    assert "the threshold 'a <= 2" in best.why_not_observed
    assert best.why_not_modelled
    assert f"Best observed: none. {best.why_not_observed}" in str(best)


@pytest.mark.parametrize("kind", ["client", "experiment"])
def test_a_relative_constraint_is_measured_at_the_status_quo(kind):
    optimizer = make("client", constraints=["c <= 0.9 * baseline"])
    native = optimizer.native
    baseline = native.attach_baseline({"x": 0.5})
    optimizer = optimizer if kind == "client" else adapt(native._experiment)
    tell(optimizer, {"loss": 1.0, "c": 9.5}, {"loss": 2.0, "c": 8.5})
    best = optimizer.best()
    assert best.observed is None
    assert "is relative to the status quo, which has no result" in best.why_not_observed
    metrics = {"loss": (0.0, None), "c": (10.0, None)}
    optimizer.tell([Outcome(baseline, OutcomeKind.COMPLETED, metrics)])
    assert optimizer.best().trial_index == 2
    native.configure_optimization("-loss", outcome_constraints=["c <= 0.5 * baseline"])
    words = optimizer.best().why_not_observed
    assert "(here 5) is broken by 3 of 3 trials, least by trial 2 (by 3.5)" in words


def test_a_negative_status_quo_is_taken_as_ax_takes_it():
    optimizer = make("client", constraints=["c <= 1.5 * baseline"])
    from ax.service.utils.best_point import derelativize_opt_config

    baseline = optimizer.native.attach_baseline({"x": 0.5})
    metrics = {"loss": (0.0, 0.0), "c": (-10.0, 0.0)}
    optimizer.tell([Outcome(baseline, OutcomeKind.COMPLETED, metrics)])
    from axsched_core.optimizers._best import _limits

    (ours,), _ = _limits(optimizer.experiment)
    config = optimizer.experiment.optimization_config
    (axs,) = derelativize_opt_config(config, optimizer.experiment).outcome_constraints
    assert ours.bound == pytest.approx(axs.bound)


def test_trials_without_all_metrics_or_outside_of_the_space_do_not_count():
    optimizer = make("client", constraints=["c <= 3"])
    native = optimizer.native
    outside = native.attach_trial({"x": 7.0})
    native.complete_trial(outside, raw_data={"loss": -5.0, "c": 0.0})
    best = optimizer.best()
    assert best.observed is None
    assert "1 are outside the search space" in best.why_not_observed
    tell(optimizer, {"loss": -9.0}, {"loss": 1.0, "c": 1.0})
    assert optimizer.best().trial_index == 2


@pytest.mark.parametrize("kind", KINDS)
def test_observed_and_modelled_are_each_called_what_they_are(kind):
    """Noisy values around x: the best seen was lucky, and Ax's model says so."""
    optimizer = make(kind)
    while optimizer.initial_trials_left():
        for one in optimizer.ask(1).candidates:
            metrics = {"loss": (one.parameters["x"], 0.01)}
            optimizer.tell([Outcome(one.index, OutcomeKind.COMPLETED, metrics)])
    for x in (0.05, 0.2, 0.3, 0.45, 0.6, 0.7, 0.8, 0.95):
        index = optimizer.attach({"x": x})
        value = (-1.0, 3.0) if x == 0.95 else (x, 0.01)
        optimizer.tell([Outcome(index, OutcomeKind.COMPLETED, {"loss": value})])
    (one,) = optimizer.ask(1).candidates  # the model's own
    optimizer.tell(
        [Outcome(one.index, OutcomeKind.COMPLETED, {"loss": (one.parameters["x"], 0.01)})]
    )
    best = optimizer.best()
    assert best.parameters == {"x": 0.95}
    assert best.values == {"loss": -1.0}
    assert best.observed.sems == {"loss": 3.0}
    assert best.modelled is not None
    assert best.modelled.parameters["x"] < 0.2
    assert best.modelled.sems["loss"] > 0
    first, second = str(best).splitlines()
    assert first.startswith("Best observed: trial ")
    assert "loss = -1 ± 3 (x = 0.95)" in first
    assert second.startswith("Best predicted by the model: trial ")
    plain = json.loads(json.dumps(best.to_plain()))
    assert plain["observed"]["values"] == {"loss": -1.0}
    assert plain["modelled"]["trial_index"] == best.modelled.trial_index


@pytest.mark.parametrize("kind", KINDS)
def test_an_optimizer_that_was_loaded_asks_a_model_that_has_seen_all_results(kind, tmp_path):
    """Not what the model said when the last trial was made, which is all that Ax's files hold."""
    optimizer = make(kind)
    while optimizer.initial_trials_left():
        for one in optimizer.ask(1).candidates:
            metrics = {"loss": ((one.parameters["x"] - 0.9) ** 2, 0.01)}
            optimizer.tell([Outcome(one.index, OutcomeKind.COMPLETED, metrics)])
    (one,) = optimizer.ask(1).candidates  # the model's own
    metrics = {"loss": ((one.parameters["x"] - 0.9) ** 2, 0.01)}
    optimizer.tell([Outcome(one.index, OutcomeKind.COMPLETED, metrics)])
    for x in (0.1, 0.3, 0.5, 0.7, 0.9):
        index = optimizer.attach({"x": x})
        metrics = {"loss": ((x - 0.9) ** 2, 0.01)}
        optimizer.tell([Outcome(index, OutcomeKind.COMPLETED, metrics)])
    optimizer.save(tmp_path / "saved")
    best = optimizer.load(tmp_path / "saved").best()
    assert best.parameters == {"x": 0.9}
    assert best.modelled is not None, best.why_not_modelled
    assert best.modelled.parameters["x"] == pytest.approx(0.9, abs=0.1)
    assert best.modelled.sems["loss"] > 0


def test_what_ax_raises_does_not_take_the_observed_best_away(monkeypatch):
    optimizer = make("client", initialization_budget=1, initialize_with_center=False)
    tell(optimizer, {"loss": 1.0}, {"loss": 2.0})
    from ax.service.utils.best_point_mixin import BestPointMixin

    def broken(*_, **__):
        raise ValueError("the matrix is singular")

    monkeypatch.setattr(BestPointMixin, "_get_best_trial", broken)
    best = optimizer.best()
    assert isinstance(best, Best)
    assert best.trial_index == 0
    assert best.why_not_modelled == (
        "Ax cannot say which trial is best: ValueError: the matrix is singular"
    )
