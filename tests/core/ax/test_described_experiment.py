"""What an Ax experiment optimizes can be read without Ax."""

from __future__ import annotations

import json
from typing import Any

import pytest

from axsched_core import AxScheduler
from axsched_core.journal.optimized import Constraint, Objective, Optimized, Parameter
from axsched_core.journal.view import Run
from axsched_core.optimizers import adapt
from axsched_core.optimizers.base import Optimizer
from support.toy import ToyRunner

pytestmark = [pytest.mark.ax, pytest.mark.filterwarnings("ignore")]

X = Parameter("x", "float", "range", 0.0, 1.0)
K = Parameter("k", "int", "range", 1, 4)


def make_client(objective: str = "-loss", constraints: list[str] | None = None) -> Any:
    from ax import Client, RangeParameterConfig

    client = Client(random_seed=7)
    client.configure_experiment(
        name="e",
        parameters=[
            RangeParameterConfig(name="x", bounds=(0, 1), parameter_type="float"),
            RangeParameterConfig(name="k", bounds=(1, 4), parameter_type="int"),
        ],
    )
    client.configure_optimization(objective, outcome_constraints=constraints)
    return client


def make_ax_client() -> Any:
    from ax.service.ax_client import AxClient, ObjectiveProperties

    client = AxClient(random_seed=7)
    client.create_experiment(
        name="e",
        parameters=[
            {"name": "x", "type": "range", "bounds": [0.0, 1.0], "value_type": "float"},
            {"name": "k", "type": "range", "bounds": [1, 4], "value_type": "int"},
        ],
        objectives={"loss": ObjectiveProperties(minimize=True)},
    )
    return client


def make_tree() -> Any:
    from ax import ChoiceParameterConfig, Client, RangeParameterConfig

    values = ["linear", "ridge"]
    client = Client(random_seed=7)
    model = ChoiceParameterConfig(
        name="model",
        values=values,
        parameter_type="str",
        is_ordered=False,
        dependent_parameters={value: [f"of_{value}"] for value in values},
    )
    leaves = [
        RangeParameterConfig(name=f"of_{value}", bounds=(0, 1), parameter_type="float")
        for value in values
    ]
    client.configure_experiment(parameters=[model, *leaves])
    client.configure_optimization("-loss")
    return client


NATIVE = {
    "client": make_client,
    "ax_client": make_ax_client,
    "experiment": lambda **settings: make_client(**settings)._experiment,
}


def make(kind: str, **settings: Any) -> Optimizer:
    return adapt(NATIVE[kind](**settings))


def described(optimizer: Any) -> Optimized:
    """Through JSON, as a journal has it."""
    return Optimized.of(json.loads(json.dumps(optimizer.describe(), allow_nan=False)))


@pytest.mark.parametrize("kind", NATIVE)
def test_each_kind_says_what_it_optimizes(kind: str):
    assert described(make(kind)) == Optimized(
        (Objective("loss", True, {"loss": 1.0}),), (), (X, K), ()
    )


@pytest.mark.parametrize("kind", ["client", "experiment"])
def test_directions_thresholds_and_constraints_are_told(kind: str):
    settings = {"objective": "-loss, acc", "constraints": ["acc >= 0.1", "a + 2*b <= 3"]}
    found = described(make(kind, **settings))
    assert found.objectives == (
        Objective("loss", True, {"loss": 1.0}),
        Objective("acc", False, {"acc": 1.0}),
    )
    assert sorted(found.constraints, key=str) == [
        Constraint({"a": 1.0, "b": 2.0}, "<=", 3.0),
        Constraint({"acc": 1.0}, ">=", 0.1),
    ]
    assert sorted(map(str, found.constraints)) == ["a + 2*b <= 3", "acc >= 0.1"]
    assert found.why_not_ranked == "There are several objectives."


def test_a_weighted_sum_is_one_objective():
    (found,) = described(make("client", objective="2*acc - 0.5*loss")).objectives
    assert (found.minimize, found.weights) == (False, {"acc": 2.0, "loss": -0.5})
    assert found.name == "2*acc - 0.5*loss"
    assert found.value({"acc": 3.0, "loss": 2.0}) == 5.0
    (found,) = described(make("client", objective="-2*loss")).objectives
    assert (found.minimize, found.value({"loss": 2.0})) == (True, 4.0)


def test_a_bound_that_is_relative_says_so():
    from ax.service.ax_client import AxClient, ObjectiveProperties

    client = AxClient()
    client.create_experiment(
        name="e",
        parameters=[
            {"name": "x", "type": "range", "bounds": [1e-3, 1.0], "log_scale": True, "digits": 3},
            {"name": "c", "type": "choice", "values": ["a", "b"], "is_ordered": False},
            {"name": "n", "type": "choice", "values": [1, 2, 4], "is_ordered": True},
            {"name": "f", "type": "fixed", "value": True},
            {"name": "y", "type": "range", "bounds": [0.0, 1.0]},
            {"name": "z", "type": "range", "bounds": [0.0, 1.0]},
        ],
        objectives={"loss": ObjectiveProperties(minimize=True)},
        outcome_constraints=["time <= 5%"],
        parameter_constraints=["y + 2*z <= 1.5"],
        status_quo={"x": 1e-3, "c": "a", "n": 1, "f": True, "y": 0.0, "z": 0.0},
    )
    found = described(adapt(client))
    assert found.constraints == (Constraint({"time": 1.0}, "<=", 5.0, relative=True),)
    assert "relative to the status quo" in found.why_not_ranked
    x, c, n, f, *_ = found.parameters
    assert x == Parameter("x", "float", "range", 1e-3, 1.0, "log")
    assert c == Parameter("c", "str", "choice", values=("a", "b"), ordered=c.ordered)
    assert (n.kind, n.values, n.ordered) == ("choice", (1, 2, 4), True)
    assert f == Parameter("f", "bool", "fixed", values=(True,))
    assert found.parameter_constraints == (Constraint({"y": 1.0, "z": 2.0}, "<=", 1.5),)


def test_a_tree_of_parameters_says_which_go_together():
    tree = adapt(make_tree())
    model = tree.describe()["parameters"][0]
    assert model["dependents"] == [
        {"value": "linear", "parameters": ["of_linear"]},
        {"value": "ridge", "parameters": ["of_ridge"]},
    ]
    assert [one.name for one in described(tree).parameters] == ["model", "of_linear", "of_ridge"]


def test_what_has_no_objective_yet_has_parameters():
    experiment = make_client()._experiment
    experiment._optimization_config = None
    found = described(adapt(experiment))
    assert (found.objectives, found.parameters) == ((), (X, K))


def test_the_best_without_ax_is_the_one_that_ax_has_observed(tmp_path):
    client = make_client(constraints=["time <= 0.6"])
    runner = ToyRunner(lambda r: {"loss": r.parameters["x"] ** 2, "time": 1 - r.parameters["x"]})
    settings = {"job_output_dir": tmp_path, "progress": False, "monitoring_interval": 0.05}
    with AxScheduler(client, runner, settings) as scheduler:
        best = scheduler.run_optimization(max_trials=5)
        run = Run(scheduler.run_directory)
        run.look()
    assert run.best is not None
    assert (run.best.index, run.best.parameters) == (best.trial_index, best.parameters)
    assert run.name == "e"
