"""How often a point that fails each time is proposed: real Ax, a toy backend."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from axsched_core.errors import AllTrialsFailed
from axsched_core.jobs import Cause, JobRequest, JobState, JobStatus
from axsched_core.optimizers import Optimizer, Outcome, OutcomeKind, adapt
from axsched_core.trials import TrialState
from support.toy import ToyRunner

pytestmark = [
    pytest.mark.ax,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

KINDS = ("client", "ax_client", "experiment")
LETTERS = ["u", "v"]


def native(kind: str, discrete: bool, highest: int = 4) -> Any:
    if kind == "ax_client":
        return _ax_client(discrete, highest)
    from ax import ChoiceParameterConfig, Client, RangeParameterConfig

    client = Client(random_seed=7)
    client.configure_experiment(
        name="e",
        parameters=[
            ChoiceParameterConfig(name="b", values=LETTERS, parameter_type="str", is_ordered=False),
            RangeParameterConfig(name="k", bounds=(1, highest), parameter_type="int"),
        ]
        if discrete
        else [RangeParameterConfig(name="x", bounds=(0, 1), parameter_type="float")],
    )
    client.configure_optimization("-loss")
    return client._experiment if kind == "experiment" else client


def _ax_client(discrete: bool, highest: int) -> Any:
    from ax.service.ax_client import AxClient, ObjectiveProperties

    client = AxClient(random_seed=7, verbose_logging=False)
    client.create_experiment(
        name="e",
        parameters=[
            {"name": "b", "type": "choice", "values": LETTERS, "is_ordered": False},
            {"name": "k", "type": "range", "bounds": [1, highest], "value_type": "int"},
        ]
        if discrete
        else [{"name": "x", "type": "range", "bounds": [0.0, 1.0]}],
        objectives={"loss": ObjectiveProperties(minimize=True)},
    )
    return client


def ending(cause: Cause) -> JobStatus:
    return JobStatus(JobState.FAILED, cause, "no")


class Backend(ToyRunner):
    """Fails where the loss would be least."""

    def __init__(self, cause: Cause = Cause.EXCEPTION, worst: float = 0.3) -> None:
        super().__init__(self.evaluate)
        self.cause, self.worst = cause, worst
        self.failed: Counter[tuple[Any, ...]] = Counter()

    def evaluate(self, request: JobRequest) -> Any:
        point = tuple(request.parameters.values())
        value = request.parameters.get("x", request.parameters.get("k", 0) / 10)
        if value > self.worst:
            return {"loss": value}
        self.failed[point] += 1
        return ending(self.cause)


@pytest.fixture(autouse=True)
def short_search(monkeypatch):
    # Ax draws 10,000 times before it says that there is nothing left.
    monkeypatch.setattr("ax.generators.random.base.DEFAULT_MAX_RS_DRAWS", 300)


@pytest.mark.parametrize("kind", KINDS)
def test_where_all_points_have_failed_the_run_ends_in_words(make, kind):
    runner = Backend(worst=9)
    scheduler = make(
        native(kind, True, 2), runner, max_parallelism=2, tolerated_trial_failure_rate=1
    )
    with pytest.raises(AllTrialsFailed, match="All 4 trials failed"):
        scheduler.run_optimization(max_trials=12)
    assert sorted(runner.failed.values()) == [1, 1, 1, 1]
    assert {t.state for t in scheduler.trials.values()} == {TrialState.FAILED}


@pytest.mark.parametrize("discrete", [True, False], ids=["discrete", "continuous"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_point_that_failed_is_proposed_again(make, kind, discrete):
    runner = Backend(worst=0.1 if discrete else 0.3)
    scheduler = make(native(kind, discrete), runner, max_parallelism=1)
    scheduler.run_optimization(max_trials=9)
    assert runner.failed
    assert set(runner.failed.values()) == {1}
    points = [tuple(round(v, 6) if type(v) is float else v for v in p) for p in runner.failed]
    assert len(set(points)) == len(points)
    names = {t.index: t.status.name for t in scheduler.experiment.trials.values()}
    for trial in scheduler.trials.values():
        assert names[trial.index] == (
            "COMPLETED" if trial.state is TrialState.SUCCEEDED else "ABANDONED"
        )


def test_the_setting_lets_failed_points_return(make):
    runner = Backend(worst=9)
    scheduler = make(
        native("client", True, 2),
        runner,
        max_parallelism=1,
        failed_points="may_return",
        tolerated_trial_failure_rate=1,
    )
    with pytest.raises(AllTrialsFailed):
        scheduler.run_optimization(max_trials=8)
    assert sum(runner.failed.values()) == 8


def optimizer_of(kind: str) -> Optimizer:
    return adapt(native(kind, True, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_a_point_that_the_machines_failed_first_is_not_proposed_for_ever(kind):
    """Ax leaves it out of its list of arms that are not to be repeated, but it is pending."""
    optimizer = optimizer_of(kind)
    point = {"b": "u", "k": 1}
    first, second = optimizer.attach(point), optimizer.attach(point)
    optimizer.tell([Outcome(first, OutcomeKind.FAILED, reason="LOST")])
    assert not optimizer.experiment.arms_by_signature_for_deduplication
    optimizer.tell([Outcome(second, OutcomeKind.ABANDONED, reason="EXCEPTION")])
    asked = optimizer.ask(4)
    assert point not in [dict(c.parameters) for c in asked.candidates]
    optimizer.tell([Outcome(c.index, OutcomeKind.ABANDONED) for c in asked.candidates])
    assert optimizer.ask(1).complete


@pytest.mark.parametrize("kind", KINDS)
def test_points_that_may_return_do(kind):
    optimizer = optimizer_of(kind)
    asked = optimizer.ask(4)
    while not asked.complete:
        optimizer.tell([Outcome(c.index, OutcomeKind.ABANDONED) for c in asked.candidates])
        asked = optimizer.ask(4)
    optimizer.may_return([0, 1, 99])
    again = optimizer.ask(1)
    assert len(again.candidates) == 1
    views = optimizer.trials()
    returned = dict(again.candidates[0].parameters)
    assert returned in [dict(views[0].parameters), dict(views[1].parameters)]
