"""The three adapters, on real Ax."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest

from axsched_core.errors import InvalidInput, OptimizerError
from axsched_core.optimizers import (
    Asked,
    Candidate,
    Optimizer,
    Outcome,
    OutcomeKind,
    adapt,
)

pytestmark = [
    pytest.mark.ax,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

KINDS = ("client", "ax_client", "experiment")


def make_client(objective="-loss", *, small=False, constraints=None, strategy=None, **experiment):
    from ax import ChoiceParameterConfig, Client, RangeParameterConfig

    client = Client(random_seed=7)
    parameters = [
        RangeParameterConfig(name="x", bounds=(0, 1), parameter_type="float"),
        RangeParameterConfig(name="k", bounds=(1, 4), parameter_type="int"),
    ]
    if small:
        parameters = [
            ChoiceParameterConfig(name="a", values=[1, 2], parameter_type="int", is_ordered=True),
            ChoiceParameterConfig(
                name="b", values=["u", "v"], parameter_type="str", is_ordered=False
            ),
        ]
    client.configure_experiment(parameters=parameters, name="e", **experiment)
    client.configure_optimization(objective, outcome_constraints=constraints)
    if strategy is not None:
        client.configure_generation_strategy(initialization_random_seed=7, **strategy)
    return client


def make_ax_client(*, small=False, objectives=("loss",), **settings):
    from ax.service.ax_client import AxClient, ObjectiveProperties

    client = AxClient(random_seed=7, **settings)
    parameters = [
        {"name": "x", "type": "range", "bounds": [0.0, 1.0], "value_type": "float"},
        {"name": "k", "type": "range", "bounds": [1, 4], "value_type": "int"},
    ]
    if small:
        parameters = [
            {"name": "a", "type": "choice", "values": [1, 2], "value_type": "int"},
            {"name": "b", "type": "choice", "values": ["u", "v"], "value_type": "str"},
        ]
    client.create_experiment(
        name="e",
        parameters=parameters,
        objectives={name: ObjectiveProperties(minimize=True) for name in objectives},
    )
    return client


def make_experiment(**settings):
    return make_client(**settings)._experiment


def make(kind: str, **settings) -> Optimizer:
    return adapt(
        {"client": make_client, "ax_client": make_ax_client, "experiment": make_experiment}[kind](
            **settings
        )
    )


def make_hierarchical() -> Optimizer:
    from ax import ChoiceParameterConfig, Client, RangeParameterConfig

    values = ["linear", "ridge"]
    client = Client(random_seed=7)
    client.configure_experiment(
        parameters=[
            ChoiceParameterConfig(
                name="model",
                values=values,
                parameter_type="str",
                is_ordered=False,
                dependent_parameters={value: [f"of_{value}"] for value in values},
            ),
            *(
                RangeParameterConfig(name=f"of_{value}", bounds=(0, 1), parameter_type="float")
                for value in values
            ),
        ]
    )
    client.configure_optimization("-loss")
    return adapt(client)


def completed(index: int, **metrics) -> Outcome:
    pairs = {n: v if isinstance(v, tuple) else (v, None) for n, v in metrics.items()}
    return Outcome(index, OutcomeKind.COMPLETED, pairs)


def loss(candidate: Candidate) -> float:
    return candidate.parameters["x"] ** 2 + candidate.parameters["k"]


def statuses(optimizer: Optimizer) -> dict[int, str]:
    return {index: view.status for index, view in optimizer.trials().items()}


def run_initial(optimizer: Optimizer) -> Asked:
    asked = optimizer.ask(20)
    optimizer.tell([completed(c.index, loss=loss(c)) for c in asked.candidates])
    return asked


def node_of(optimizer: Optimizer, index: int) -> str:
    return optimizer.experiment.trials[index].generator_runs[0]._generation_node_name


def test_what_not_every_trial_has_is_known_beforehand():
    optimizer = make_hierarchical()
    assert optimizer.conditional == {"of_linear", "of_ridge"}
    seen = [set(candidate.parameters) for candidate in optimizer.ask(5).candidates]
    assert set.union(*seen) == set(optimizer.parameter_names)
    assert set.union(*seen) - set.intersection(*seen) == optimizer.conditional
    for kind in KINDS:
        assert make(kind).conditional == frozenset()


# ask


@pytest.mark.parametrize("kind", KINDS)
def test_the_initial_phase_is_not_exceeded_and_then_the_model_proposes(kind):
    optimizer = make(kind)
    assert optimizer.initial_trials_left() == 5
    first = optimizer.ask(2)
    assert [c.index for c in first.candidates] == [0, 1]
    assert first.reason == ""
    assert optimizer.initial_trials_left() == 3
    second = optimizer.ask(20)
    assert [c.index for c in second.candidates] == [2, 3, 4]
    assert not second.complete
    assert "not enough data" in second.reason
    assert optimizer.initial_trials_left() == 0
    assert set(statuses(optimizer).values()) == {"RUNNING"}
    nothing = optimizer.ask(1)
    assert nothing.candidates == ()
    assert not nothing.complete
    assert "not enough data" in nothing.reason

    both = first.candidates + second.candidates
    optimizer.tell([completed(c.index, loss=loss(c)) for c in both])
    third = optimizer.ask(2)
    assert [c.index for c in third.candidates] == [5, 6]
    assert {node_of(optimizer, c.index) for c in third.candidates} <= {
        "MBM",
        "GenerationStep_1_BoTorch",
    }
    assert optimizer.initial_trials_left() == 0
    points = {tuple(v.parameters.items()) for v in optimizer.trials().values()}
    assert len(points) == 7


def test_a_fresh_client_is_not_asked_beyond_its_initial_phase():
    asked = make("client").ask(20)
    assert [c.index for c in asked.candidates] == [0, 1, 2, 3, 4]
    assert not asked.complete
    assert "not enough data" in asked.reason


def test_a_fresh_client_itself_exceeds_its_initial_phase():
    # The reason for our cap; when this fails, Ax has mended it.
    assert len(make_client().get_next_trials(20)) == 20


def test_the_parallelism_limit_of_ax_client_is_kept():
    optimizer = make("ax_client")
    run_initial(optimizer)
    asked = optimizer.ask(8)
    assert len(asked.candidates) == 3
    assert not asked.complete
    assert "Maximum parallelism" in asked.reason
    assert optimizer.ask(1).candidates == ()


def test_random_search_has_no_initial_phase_and_no_limit():
    optimizer = make("client", strategy={"method": "random_search"})
    assert optimizer.initial_trials_left() == 0
    assert len(optimizer.ask(12).candidates) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_the_initial_phase_is_made_in_bulk_and_what_a_model_makes_is_not(kind):
    optimizer = make(kind)
    first = optimizer.ask(1, in_bulk=3)
    assert (len(first.candidates), first.in_bulk) == (3, True)
    rest = optimizer.ask(0, in_bulk=20)
    assert (len(rest.candidates), rest.in_bulk, rest.complete) == (2, False, False)
    assert optimizer.ask(0, in_bulk=20).candidates == ()
    both = first.candidates + rest.candidates
    optimizer.tell([completed(c.index, loss=loss(c)) for c in both])
    asked = optimizer.ask(1, in_bulk=20)
    assert (len(asked.candidates), asked.in_bulk) == (1, False)


@pytest.mark.parametrize("kind", KINDS)
def test_points_made_in_bulk_are_those_that_ax_makes_one_by_one(kind):
    def points(optimizer: Optimizer) -> list[dict]:
        return [dict(view.parameters) for view in optimizer.trials().values()]

    def runs(optimizer: Optimizer) -> list[tuple]:
        trials = optimizer.experiment.trials.values()
        found = [(*trial.generator_runs, trial.status) for trial in trials]
        return [(r._generation_node_name, r.generator_run_type, len(r.arms), s) for r, s in found]

    def seeded() -> Optimizer:
        if kind == "experiment":  # the seed is the strategy's
            return adapt(make_experiment(), custom_strategy(5))
        return make(kind)

    one_by_one, in_bulk = seeded(), seeded()
    for _ in range(5):
        one_by_one.ask(1)
    in_bulk.ask(5)
    assert points(in_bulk) == points(one_by_one)
    assert runs(in_bulk) == runs(one_by_one)
    assert len(in_bulk.strategy._generator_runs) == 5
    for optimizer in (one_by_one, in_bulk):
        optimizer.tell([completed(i, loss=float(i)) for i in range(5)])
    if kind != "experiment":  # whose model has no seed
        assert in_bulk.ask(1).candidates[0].parameters == one_by_one.ask(1).candidates[0].parameters


def test_random_search_is_made_in_bulk_to_its_end():
    optimizer = make("client", strategy={"method": "random_search"})
    asked = optimizer.ask(2, in_bulk=40)
    assert (len(asked.candidates), asked.in_bulk) == (40, True)


def test_what_never_ran_is_stale_and_not_pending():
    optimizer = make("client")
    asked = optimizer.ask(2)
    optimizer.tell([Outcome(asked.candidates[0].index, OutcomeKind.STALE, reason="timeout")])
    assert statuses(optimizer) == {0: "STALE", 1: "RUNNING"}


@pytest.mark.parametrize(
    ("strategy", "attached", "left"),
    [
        ({"initialization_budget": 8}, 0, 8),
        ({"initialization_budget": 8}, 3, 5),
        ({"initialization_budget": 8, "use_existing_trials_for_initialization": False}, 0, 8),
        ({"initialization_budget": 8, "initialize_with_center": False}, 0, 8),
        ({"initialization_budget": 1}, 0, 1),
        ({"initialization_budget": 8, "allow_exceeding_initialization_budget": True}, 0, 8),
    ],
)
def test_initial_trials_left_counts_what_ax_then_makes(strategy, attached, left):
    optimizer = make("client", strategy=strategy)
    for number in range(attached):
        optimizer.attach({"x": number / 10, "k": 1})
    assert optimizer.initial_trials_left() == left
    assert len(optimizer.ask(left).candidates) == left
    assert optimizer.initial_trials_left() == 0


def test_a_failed_initial_trial_is_made_up_for():
    optimizer = make("client")
    optimizer.ask(20)
    optimizer.tell([Outcome(1, OutcomeKind.FAILED), completed(0, loss=1.0)])
    assert optimizer.initial_trials_left() == 1
    assert [c.index for c in optimizer.ask(20).candidates] == [5]


def custom_strategy(*budgets, last=True):
    from ax.adapter.registry import Generators
    from ax.generation_strategy.generation_strategy import GenerationStep, GenerationStrategy

    nodes = [
        GenerationStep(
            generator=Generators.SOBOL, num_trials=n, generator_name=f"S{i}",
            generator_kwargs={"seed": i},
        )
        for i, n in enumerate(budgets)
    ]  # fmt: skip
    if last:
        nodes.append(GenerationStep(generator=Generators.BOTORCH_MODULAR, num_trials=-1))
    return GenerationStrategy(nodes=nodes)


def test_several_initial_nodes_are_gone_through_in_one_ask():
    optimizer = adapt(make_experiment(), custom_strategy(2, 3))
    assert optimizer.initial_trials_left() == 5
    asked = optimizer.ask(4)
    nodes = [node_of(optimizer, c.index) for c in asked.candidates]
    assert nodes == ["GenerationStep_0_S0"] * 2 + ["GenerationStep_1_S1"] * 2
    assert optimizer.initial_trials_left() == 1


def test_a_strategy_that_ends_is_complete():
    optimizer = adapt(make_experiment(), custom_strategy(3, last=False))
    assert optimizer.initial_trials_left() == 0  # there is no model to come
    asked = optimizer.ask(10)
    assert len(asked.candidates) == 3
    assert asked.complete
    assert asked.reason
    again = optimizer.ask(1)
    assert (again.candidates, again.complete) == ((), True)


def _shorten_the_search(monkeypatch):
    # Ax tries 10,000 times (15 s) before it believes that there is no new point.
    monkeypatch.setattr("ax.generators.random.base.DEFAULT_MAX_RS_DRAWS", 200)


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_space_that_is_used_up_is_complete_and_no_point_is_lost(kind, monkeypatch):
    optimizer = make(kind, small=True)
    optimizer.attach({"a": 1, "b": "v"})
    _shorten_the_search(monkeypatch)
    asked = optimizer.ask(20)
    assert asked.complete
    assert asked.reason
    points = [tuple(v.parameters.items()) for v in optimizer.trials().values()]
    assert sorted(points) == [
        (("a", a), ("b", b)) for a in (1, 2) for b in ("u", "v")
    ]  # fmt: skip


def test_points_are_not_lost_with_a_batch_that_is_larger_than_the_search_space(monkeypatch):
    from ax import Client, RangeParameterConfig

    client = Client()
    client.configure_experiment(
        [RangeParameterConfig(name=n, bounds=(1, 2), parameter_type="int") for n in "ab"],
        parameter_constraints=["a + b <= 3"],
    )
    client.configure_optimization("-loss")
    client.configure_generation_strategy(method="random_search", initialize_with_center=False)
    _shorten_the_search(monkeypatch)
    asked = adapt(client).ask(10)
    assert sorted(tuple(c.parameters.values()) for c in asked.candidates) == [
        (1, 1),
        (1, 2),
        (2, 1),
    ]
    assert asked.complete


def test_the_global_stopping_strategy_of_ax_client_completes():
    from ax.global_stopping.strategies.improvement import ImprovementGlobalStoppingStrategy

    stopping = ImprovementGlobalStoppingStrategy(
        min_trials=2, window_size=2, improvement_bar=0.5, inactive_when_pending_trials=False
    )
    optimizer = make("ax_client", global_stopping_strategy=stopping)
    asked = optimizer.ask(4)
    optimizer.tell([completed(c.index, loss=1.0 + c.index) for c in asked.candidates])
    stopped = optimizer.ask(1)
    assert stopped.candidates == ()
    assert stopped.complete
    assert "improvement" in stopped.reason.lower()


def test_candidates_are_kept_when_a_later_generation_fails(monkeypatch):
    client = make_client()
    optimizer = adapt(client)
    generate = type(client._generation_strategy_or_choose()).gen

    def fails_later(self, experiment, **arguments):
        if experiment.trials:
            raise RuntimeError("Cholesky")
        return generate(self, experiment, **arguments)

    monkeypatch.setattr(type(client._generation_strategy), "gen", fails_later)
    asked = optimizer.ask(3)
    assert [c.index for c in asked.candidates] == [0]
    assert "RuntimeError: Cholesky" in asked.reason
    with pytest.raises(OptimizerError, match="Cholesky"):
        optimizer.ask(3)


def test_trials_that_ax_client_made_before_it_failed_are_kept(monkeypatch):
    client = make_ax_client()
    optimizer = adapt(client)
    generate = type(client).get_next_trial

    def fails_later(self, *args, **kwargs):
        if len(self.experiment.trials) == 2:
            raise RuntimeError("Cholesky")
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(type(client), "get_next_trial", fails_later)
    monkeypatch.setattr("axsched_core.optimizers._generation.is_free", lambda *given: False)
    assert [c.index for c in optimizer.ask(4).candidates] == [0, 1]


# tell


OUTCOMES = ({"loss": (1.5, None), "extra": (2.0, 0.0)}, {"loss": (0.5, 0.1), "extra": (3, 0.2)})


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_is_the_one_that_ax_makes_itself(kind):
    import pandas as pd

    ours, ax = make(kind), make(kind)
    indices = [c.index for c in ours.ask(2).candidates]
    assert [c.index for c in ax.ask(2).candidates] == indices
    ours.tell([completed(i, **OUTCOMES[i]) for i in indices])
    for index in indices:
        if kind == "client":
            ax.native.complete_trial(index, raw_data=OUTCOMES[index])
        elif kind == "ax_client":
            if index == 0:
                ax.native.add_tracking_metrics(["extra"])  # it refuses an unknown metric
            ax.native.complete_trial(index, raw_data=OUTCOMES[index])
        else:
            if index == 0:
                from ax.core.metric import Metric

                ax.native.add_tracking_metric(Metric(name="extra"))
            ax.native.trials[index].update_trial_data(raw_data=OUTCOMES[index])
            ax.native.trials[index].mark_completed()

    def data(optimizer):
        table = optimizer.experiment.lookup_data().full_df
        return table.sort_values(["trial_index", "metric_name"]).reset_index(drop=True)

    assert len(data(ours)) == 4
    pd.testing.assert_frame_equal(data(ours), data(ax))
    frames = [o.experiment.to_df().drop(columns=["x", "k"]) for o in (ours, ax)]
    pd.testing.assert_frame_equal(frames[0], frames[1], check_like=True)
    assert set(ours.experiment.metrics) == {"loss", "extra"} == set(ax.experiment.metrics)
    assert statuses(ours) == {0: "COMPLETED", 1: "COMPLETED"} == statuses(ax)
    if kind == "client":
        pd.testing.assert_frame_equal(
            ours.native.summarize().drop(columns=["x", "k"]),
            ax.native.summarize().drop(columns=["x", "k"]),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_failed_and_abandoned_keep_their_reason(kind):
    optimizer = make(kind)
    optimizer.ask(2)
    optimizer.tell(
        [
            Outcome(0, OutcomeKind.FAILED, reason="exit code 1"),
            Outcome(1, OutcomeKind.ABANDONED, reason="cancelled"),
        ]
    )
    assert statuses(optimizer) == {0: "FAILED", 1: "ABANDONED"}
    reasons = [trial.status_reason for trial in optimizer.experiment.trials.values()]
    assert reasons == ["exit code 1", "cancelled"]


def test_candidate_and_staged_trials_are_completed_too():
    experiment = make_experiment()
    optimizer = adapt(experiment)
    for staged in (False, True):
        from ax.core.arm import Arm

        trial = experiment.new_trial().add_arm(Arm(parameters={"x": 0.5 + staged / 10, "k": 1}))
        if staged:
            trial.mark_staged(unsafe=True)
    assert statuses(optimizer) == {0: "CANDIDATE", 1: "STAGED"}
    optimizer.tell([completed(0, loss=1.0), Outcome(1, OutcomeKind.FAILED)])
    assert statuses(optimizer) == {0: "COMPLETED", 1: "FAILED"}


def test_what_the_user_has_ended_is_left_alone_and_the_rest_is_told():
    optimizer = make("client")
    optimizer.ask(3)
    optimizer.native.mark_trial_abandoned(0)
    optimizer.native.complete_trial(1, raw_data={"loss": 9.0})
    optimizer.tell([completed(i, loss=1.0) for i in range(3)])
    assert statuses(optimizer) == {0: "ABANDONED", 1: "COMPLETED", 2: "COMPLETED"}
    table = optimizer.experiment.lookup_data().full_df
    assert dict(zip(table["trial_index"], table["mean"], strict=True)) == {1: 9.0, 2: 1.0}


def test_telling_a_trial_that_does_not_exist_changes_nothing():
    optimizer = make("client")
    optimizer.ask(1)
    with pytest.raises(OptimizerError, match="no trial 7"):
        optimizer.tell([completed(0, loss=1.0), completed(7, loss=1.0)])
    assert statuses(optimizer) == {0: "RUNNING"}


# trials, annotate


@pytest.mark.parametrize("kind", KINDS)
def test_trials_are_open_until_they_end(kind):
    optimizer = make(kind)
    asked = optimizer.ask(4)
    experiment = optimizer.experiment
    experiment.trials[0].update_trial_data(raw_data={"loss": (1.0, 0.0)})
    experiment.trials[1].mark_failed()
    experiment.trials[2].update_trial_data(raw_data=[(3, {"loss": (1.0, 0.0)})])
    views = optimizer.trials()
    assert {i: v.open for i, v in views.items()} == {0: True, 1: False, 2: True, 3: True}
    assert {i: v.has_data for i, v in views.items()} == {0: True, 1: False, 2: True, 3: False}
    assert {i: v.parameters for i, v in views.items()} == {
        c.index: c.parameters for c in asked.candidates
    }
    assert list(optimizer.trials([3, 1, 99])) == [1, 3]
    assert optimizer.trials([]) == {}


def test_a_batch_trial_is_not_ours():
    from ax.core.arm import Arm

    experiment = make_experiment()
    arms = [Arm(parameters={"x": 0.1, "k": k}) for k in (1, 2)]
    experiment.new_batch_trial().add_arms_and_weights(arms=arms).mark_running(
        no_runner_required=True
    )
    optimizer = adapt(experiment)
    view = optimizer.trials()[0]
    assert (view.open, view.parameters, view.status) == (False, {}, "RUNNING")
    with pytest.raises(OptimizerError, match="one arm"):
        optimizer.tell([completed(0, loss=1.0)])


@pytest.mark.parametrize("kind", KINDS)
def test_annotations_are_added_to_what_is_there(kind):
    optimizer = make(kind)
    optimizer.ask(2)
    optimizer.annotate({0: {"key": "run-0-1", "job": "17"}, 1: {"key": "run-1-1"}})
    optimizer.annotate({0: {"job": "18"}})
    views = optimizer.trials()
    assert views[0].metadata == {"key": "run-0-1", "job": "18"}
    assert views[1].metadata == {"key": "run-1-1"}
    with pytest.raises(OptimizerError, match="no trial 5"):
        optimizer.annotate({5: {}})


# attach, validate


@pytest.mark.parametrize("kind", KINDS)
def test_attach_makes_a_running_trial_of_plain_values(kind):
    import numpy as np

    optimizer = make(kind)
    index = optimizer.attach({"k": np.int64(2), "x": 1})
    view = optimizer.trials()[index]
    assert view.parameters == {"x": 1.0, "k": 2}
    assert [type(v) for v in view.parameters.values()] == [float, int]
    assert (view.status, view.open) == ("RUNNING", True)
    optimizer.tell([completed(index, loss=1.0)])
    assert statuses(optimizer) == {index: "COMPLETED"}


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"x": 1.5, "k": 1}, ["'x'", "1.5", "a number from 0.0 to 1.0"]),
        ({"x": "0.5", "k": 1}, ["'x'", "'0.5' (str)", "a number from"]),
        ({"x": True, "k": 1}, ["'x'", "True (bool)"]),
        ({"x": None, "k": 1}, ["'x'", "None"]),
        ({"x": float("nan"), "k": 1}, ["'x'", "nan"]),
        ({"x": [0.5], "k": 1}, ["'x'", "[0.5] (list)"]),
        ({"x": 0.5, "k": 1.5}, ["'k'", "1.5", "a whole number from 1 to 4"]),
        ({"x": 0.5}, ["missing", "'k'", "a whole number from 1 to 4"]),
        ({"x": 0.5, "k": 1, "xx": 1}, ["no parameter 'xx'", "Did you mean 'x'?", "'x', 'k'"]),
    ],
)
@pytest.mark.parametrize("method", ["validate", "attach"])
def test_wrong_parameters_are_refused_in_words(parameters, words, method):
    optimizer = make("client")
    with pytest.raises(InvalidInput) as caught:
        getattr(optimizer, method)(parameters)
    for word in words:
        assert word in str(caught.value)
    assert optimizer.trials() == {}


def test_choices_fixed_and_derived_parameters_and_constraints():
    from ax import ChoiceParameterConfig, Client, RangeParameterConfig
    from ax.api.configs import DerivedParameterConfig
    from ax.core.parameter import FixedParameter, ParameterType

    client = Client()
    client.configure_experiment(
        parameters=[
            RangeParameterConfig(name="x", bounds=(0, 1), parameter_type="float"),
            RangeParameterConfig(name="y", bounds=(0, 1), parameter_type="float"),
            ChoiceParameterConfig(name="b", values=[True, False], parameter_type="bool"),
            DerivedParameterConfig(name="d", expression_str="2 * x", parameter_type="float"),
        ],
        parameter_constraints=["x + y <= 1.2"],
    )
    client.configure_optimization("-loss")
    client._experiment.search_space.add_parameter(FixedParameter("f", ParameterType.STRING, "z"))
    optimizer = adapt(client)
    assert optimizer.parameter_names == ("x", "y", "b", "d", "f")
    rest = {"x": 0.25, "y": 0.5, "b": True}
    assert optimizer.trials([optimizer.attach(rest)])[0].parameters == {
        "x": 0.25,
        "y": 0.5,
        "b": True,
        "d": 0.5,
        "f": "z",
    }
    optimizer.validate({**rest, "f": "z", "d": 0.5})
    for change, words in (
        ({"b": 1}, "one of"),
        ({"f": "q"}, "'z' only"),
        ({"d": 0.7}, "0.7"),
        ({"x": 0.9}, r"1\*x \+ 1\*y <= 1.2: with x=0.9, y=0.5 it is 1.4"),
    ):
        with pytest.raises(InvalidInput, match=words):
            optimizer.validate({**rest, **change})
    asked = optimizer.ask(1).candidates[0]
    assert set(asked.parameters) == set(optimizer.parameter_names)


# check, names, best


@pytest.mark.parametrize("kind", KINDS)
def test_names(kind):
    optimizer = make(kind)
    optimizer.check()
    assert optimizer.name == "e"
    assert optimizer.objective_names == ("loss",)
    assert optimizer.required_metrics == {"loss"}
    assert optimizer.parameter_names == ("x", "k")


@pytest.mark.parametrize(
    ("objective", "constraints", "names", "required"),
    [
        ("-b, a", None, ("b", "a"), {"a", "b"}),
        ("a + 2*b", None, ("a", "b"), {"a", "b"}),
        ("a", ["c <= 3"], ("a",), {"a", "c"}),
    ],
)
def test_objectives_and_constraints(objective, constraints, names, required):
    optimizer = make("client", objective=objective, constraints=constraints)
    assert optimizer.objective_names == names
    assert optimizer.required_metrics == required


def test_what_is_not_configured_yet_is_said_with_the_remedy():
    from ax import Client, RangeParameterConfig
    from ax.service.ax_client import AxClient

    client = Client()
    optimizer = adapt(client)
    with pytest.raises(OptimizerError, match="configure_experiment"):
        optimizer.check()
    client.configure_experiment(
        [RangeParameterConfig(name="x", bounds=(0, 1), parameter_type="float")]
    )
    for call in (optimizer.check, lambda: optimizer.ask(1)):
        with pytest.raises(OptimizerError, match="configure_optimization"):
            call()
    with pytest.raises(OptimizerError, match="optimization_config"):
        adapt(client._experiment).check()
    with pytest.raises(OptimizerError, match="create_experiment"):
        adapt(AxClient()).check()


# save, load


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load(kind, tmp_path):
    optimizer = make(kind)
    optimizer.ask(2)
    optimizer.tell([completed(0, **OUTCOMES[0])])
    optimizer.annotate({1: {"key": "run-1-1"}})
    path = tmp_path / "snapshot"  # no suffix needed
    path.write_text("old")
    optimizer.save(path)
    assert list(tmp_path.iterdir()) == [path]

    loaded = optimizer.load(path)
    assert type(loaded) is type(optimizer)
    assert loaded.native is not optimizer.native
    assert loaded.trials() == optimizer.trials()
    assert loaded.initial_trials_left() == 3
    assert loaded.experiment.lookup_data() == optimizer.experiment.lookup_data()
    after = [o.ask(3) for o in (optimizer, loaded)]
    assert after[0] == after[1]  # the next points are the same, too
    loaded.tell([completed(1, loss=1.0)])
    assert statuses(optimizer)[1] == "RUNNING"


@pytest.mark.parametrize("kind", KINDS)
def test_notes_that_look_like_an_object_of_ax_can_be_loaded_again(kind, tmp_path):
    optimizer = make(kind)
    optimizer.ask(1)
    optimizer.annotate({0: {"axsched": {"notes": [{"__type": "Nothing"}], "key": "k"}}})
    optimizer.save(tmp_path / "snapshot")
    mark = optimizer.load(tmp_path / "snapshot").trials()[0].metadata["axsched"]
    assert mark == {"notes": ['{"__type": "Nothing"}'], "key": "k"}


@pytest.mark.parametrize("kind", ["client", "ax_client"])
def test_ax_reads_what_was_saved(kind, tmp_path):
    optimizer = make(kind)
    optimizer.ask(2)
    optimizer.tell([completed(0, loss=1.0)])
    optimizer.save(tmp_path / "snapshot.json")
    client = type(optimizer.native).load_from_json_file(str(tmp_path / "snapshot.json"))
    assert adapt(client).trials() == optimizer.trials()


def test_the_documented_file_of_an_experiment_is_ax_json(tmp_path):
    from ax.storage.json_store.decoder import object_from_json

    optimizer = make("experiment")
    optimizer.ask(1)
    optimizer.save(tmp_path / "e")
    content = json.loads((tmp_path / "e").read_text())
    assert (content["kind"], content["version"]) == ("axsched-experiment", 1)
    assert set(content) == {"kind", "version", "experiment", "generation_strategy"}
    assert list(object_from_json(content["experiment"]).trials) == [0]


def test_settings_that_ax_does_not_save_are_carried_over(tmp_path):
    optimizer = make("client")
    optimizer.save(tmp_path / "c")
    assert optimizer.load(tmp_path / "c").native._random_seed == 7


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_cannot_be_loaded_is_refused_in_words(kind, tmp_path):
    optimizer = make(kind)
    optimizer.ask(1)
    path = tmp_path / "s"
    with pytest.raises(InvalidInput, match="No such file"):
        optimizer.load(path)
    for other in KINDS:
        make(other).save(tmp_path / other)
        if other != kind:
            with pytest.raises(InvalidInput, match="not the"):
                optimizer.load(tmp_path / other)
    whole = (tmp_path / kind).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match="torn"):
        optimizer.load(path)
    path.write_text("[1, 2]")
    with pytest.raises(InvalidInput, match="nothing of Ax"):
        optimizer.load(path)
    content = json.loads(whole)
    content["experiment"] = {"__type": "Nonsense"}
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match="Ax can load"):
        optimizer.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    optimizer = make("experiment")
    path = tmp_path / "s"
    path.write_text("old")
    from ax.core.runner import Runner

    class Mine(Runner):
        def run(self, trial):
            return {}

    optimizer.experiment.runner = Mine()
    with pytest.raises(OptimizerError, match="Mine"):
        optimizer.save(path)
    optimizer.experiment.runner = None

    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(InvalidInput, match="s cannot be written: No space left") as caught:
        optimizer.save(path)
    assert caught.value.__cause__.errno == 28
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["client", "ax_client", "experiment"])
def test_a_place_that_cannot_be_saved_to_is_told_in_words(kind, tmp_path):
    optimizer = make(kind)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for place, words in [
        (
            tmp_path / "missing" / "s.json",
            f"s.json cannot be written: there is no folder {tmp_path}",
        ),
        (tmp_path / "file" / "s.json", "s.json cannot be written: Not a directory."),
        (tmp_path / "folder", "folder cannot be written: Is a directory."),
    ]:
        with pytest.raises(InvalidInput, match=words) as caught:
            optimizer.save(place)
        assert ".tmp" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


# adapt, on real Ax


def test_a_generation_strategy_goes_with_an_experiment_only():
    strategy = custom_strategy(2)
    with pytest.raises(InvalidInput, match=r"as generation_strategy=\.\.\. too"):
        adapt(strategy)
    with pytest.raises(InvalidInput, match="set_generation_strategy"):
        adapt(make_client(), strategy)
    with pytest.raises(InvalidInput, match="must be an ax GenerationStrategy"):
        adapt(make_experiment(), 3)
    with pytest.raises(InvalidInput, match="Did you mean 'sobol'"):
        adapt(make_experiment(), "Sobol")
    optimizer = adapt(make_experiment(), strategy)
    assert optimizer.strategy is strategy
    other = make_client()
    other._experiment._name = "another"
    with pytest.raises(InvalidInput, match="another experiment"):
        adapt(other._experiment, strategy)


def test_a_class_in_place_of_an_instance():
    from ax import Client

    with pytest.raises(InvalidInput, match=r"Pass an instance of it: Client\(\.\.\.\)"):
        adapt(Client)


def test_a_subclass_is_recognised_and_kept_by_load(tmp_path):
    from ax import Client

    class Mine(Client):
        pass

    mine = Mine()
    mine.set_experiment(make_experiment())
    optimizer = adapt(mine)
    optimizer.save(tmp_path / "m")
    assert type(optimizer.load(tmp_path / "m").native) is Mine


# adapt, without Ax


PROGRAM = """
import sys
from axsched_core.errors import InvalidInput
from axsched_core.optimizers import Optimizer, adapt
Client = type("Client", (), {"__module__": "ax.api.client"})
words = []
for wrong in (object(), 0, "client", Client, print, type):
    try:
        adapt(wrong)
    except InvalidInput as error:
        words.append(str(error))
ours = type("Ours", (Optimizer,), {n: None for n in Optimizer.__abstractmethods__})()
assert adapt(ours) is ours
loaded = [name for name in sys.modules if name.split(".")[0] in ("ax", "torch", "pandas")]
assert not loaded, loaded
print("\\n".join(words))
"""


def test_importing_and_refusing_need_no_ax():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    assert all("Expected an ax.Client" in line for line in lines)
    assert "got builtins.int: 0" in lines[1]
    assert "the class Client. Pass an instance of it" in lines[3]
    assert "The objective is passed on its own" in lines[4]


def test_no_module_of_ours_imports_the_deprecated_client():
    program = (
        "import sys; import axsched_core.optimizers.ax_client, axsched_core.optimizers.client, "
        "axsched_core.optimizers.experiment; sys.exit('ax.service.ax_client' in sys.modules)"
    )
    with warnings.catch_warnings():
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=False)
    # Ax itself may import it one day; then this says so.
    assert done.returncode == 0
