"""Results of which some have a standard error and some none, on real Ax with its model."""

from __future__ import annotations

import logging
import math

import pytest

from axsched_core.optimizers import Optimizer, Outcome, OutcomeKind, adapt

pytestmark = [pytest.mark.ax, pytest.mark.filterwarnings("ignore")]

KINDS = ("client", "ax_client", "experiment")


def make(kind: str) -> Optimizer:
    if kind == "ax_client":
        from ax.service.ax_client import AxClient, ObjectiveProperties

        ax_client = AxClient(random_seed=7, verbose_logging=False)
        ax_client.create_experiment(
            name="e",
            parameters=[
                {"name": n, "type": "range", "bounds": [0.0, 1.0], "value_type": "float"}
                for n in ("x", "y")
            ],
            objectives={"loss": ObjectiveProperties(minimize=True)},
            outcome_constraints=["cost <= 1.5"],
        )
        return adapt(ax_client)
    from ax import Client, RangeParameterConfig

    client = Client(random_seed=7)
    client.configure_experiment(
        [RangeParameterConfig(name=n, bounds=(0, 1), parameter_type="float") for n in ("x", "y")],
        name="e",
    )
    client.configure_optimization("-loss", outcome_constraints=["cost <= 1.5"])
    return adapt(client if kind == "client" else client._experiment)


def run(optimizer: Optimizer, trials: int, loss_sem, cost_sem) -> list[int]:
    made = []
    for _ in range(trials):
        (one,) = optimizer.ask(1).candidates
        x, y = one.parameters["x"], one.parameters["y"]
        metrics = {
            "loss": ((x - 0.3) ** 2 + y**2, loss_sem(one.index)),
            "cost": (x + y, cost_sem(one.index)),
            "tracked": (x, loss_sem(one.index + 1)),
        }
        optimizer.tell([Outcome(one.index, OutcomeKind.COMPLETED, metrics)])
        made.append(one.index)
    return made


def node(optimizer: Optimizer, index: int) -> str:
    return optimizer.experiment.trials[index].generator_runs[0]._generation_node_name


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_proposes_although_some_results_have_no_sem(kind, caplog):
    optimizer = make(kind)
    with caplog.at_level(logging.WARNING, "axsched"):
        made = run(
            optimizer,
            6,
            loss_sem=lambda i: None if i in (2, 4) else 0.01,
            cost_sem=lambda _: 0.05,
        )
    assert node(optimizer, made[0]) != node(optimizer, made[-1])  # Sobol, then the model
    datasets = {
        name: dataset
        for dataset in optimizer.strategy.adapter.generator.surrogate.training_data
        for name in dataset.outcome_names
    }
    assert datasets["loss"].Yvar is None  # unknown of all, where it is unknown of some
    assert datasets["cost"].Yvar is not None
    best = optimizer.best()
    assert best.observed is not None
    assert "NaN" not in best.why_not_modelled
    # What was told is what the user's object holds.
    data = optimizer.experiment.lookup_data().df
    sems = {(row.trial_index, row.metric_name): row.sem for row in data.itertuples()}
    for index in made:
        if index in (2, 4):
            assert math.isnan(sems[index, "loss"])
        else:
            assert sems[index, "loss"] == 0.01
        assert sems[index, "cost"] == 0.05
    said = [r.getMessage() for r in caplog.records if "standard error" in r.getMessage()]
    assert len(said) == 2
    assert any("'loss'" in one and "trial 2 has none, trial 0 has one" in one for one in said)
    assert any("'tracked'" in one for one in said)
    assert not any("'cost'" in one for one in said)


def test_where_all_sems_are_there_or_none_is_the_data_are_left_as_they_are():
    from axsched_core.optimizers._noise import even_sems

    optimizer = make("client")
    run(optimizer, 3, lambda _: None, lambda _: 0.05)
    before = optimizer.experiment.data
    with even_sems(optimizer.experiment, set()):
        assert optimizer.experiment.data is before
