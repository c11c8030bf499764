"""Intermediate results and stopping strategies on real Ax: its own, and a user's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from axsched_core import AxScheduler, TrialState
from axsched_core.errors import InvalidInput
from axsched_core.jobs import Report
from axsched_core.optimizers import Optimizer, Outcome, OutcomeKind, adapt
from support.toy import ToyRunner

pytestmark = [pytest.mark.ax, pytest.mark.filterwarnings("ignore")]

KINDS = ("client", "ax_client", "experiment")


def make(kind: str) -> Any:
    """The user's object."""
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
        )
        return ax_client
    from ax import Client, RangeParameterConfig

    client = Client(random_seed=7)
    client.configure_experiment(
        [RangeParameterConfig(name=n, bounds=(0, 1), parameter_type="float") for n in ("x", "y")],
        name="e",
    )
    client.configure_optimization("-loss")
    return client if kind == "client" else client._experiment


def threshold() -> Any:
    from ax.early_stopping.strategies import ThresholdEarlyStoppingStrategy

    return ThresholdEarlyStoppingStrategy(
        metric_signatures=["loss"], metric_threshold=1.0, min_progression=1, min_curves=0
    )


def curve(level: float, steps: int = 3) -> list[Report]:
    return [Report(step, {"loss": (level + 1 / (step + 1), None)}) for step in range(steps)]


def ask(optimizer: Optimizer, n: int) -> list[int]:
    return [one.index for one in optimizer.ask(n).candidates]


@pytest.mark.parametrize("kind", KINDS)
def test_the_progression_is_kept_and_the_final_result_is_its_end(kind: str) -> None:
    optimizer = adapt(make(kind))
    (index,) = ask(optimizer, 1)
    optimizer.tell_intermediate({index: curve(0.0)})
    assert optimizer.trials([index])[index].open
    optimizer.tell(
        [Outcome(index, OutcomeKind.COMPLETED, {"loss": (0.3, None), "new": (1.0, None)})]
    )
    data = optimizer.experiment.lookup_data()
    loss = data.full_df[data.full_df["metric_name"] == "loss"]
    assert dict(zip(loss["step"], loss["mean"], strict=True)) == {0: 1.0, 1: 0.5, 2: 0.3}
    last = data.df.set_index("metric_name")["mean"]
    assert dict(last) == {"loss": 0.3, "new": 1.0}


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_over_the_threshold_is_stopped_early(kind: str) -> None:
    optimizer = adapt(make(kind))
    optimizer.stop_with(threshold())
    good, bad = ask(optimizer, 2)
    optimizer.tell_intermediate({good: curve(0.0), bad: curve(5.0)})
    stops = optimizer.to_stop([good, bad])
    assert list(stops) == [bad]
    assert "threshold" in stops[bad]
    optimizer.tell([Outcome(bad, OutcomeKind.EARLY_STOPPED, reason=stops[bad])])
    trial = optimizer.experiment.trials[bad]
    assert trial.status.name == "EARLY_STOPPED"
    assert trial.status_reason == stops[bad]
    assert not trial.lookup_data().df.empty


def test_a_clients_own_strategy_is_used() -> None:
    client = make("client")
    client.set_early_stopping_strategy(threshold())
    optimizer = adapt(client)
    (bad,) = ask(optimizer, 1)
    optimizer.tell_intermediate({bad: curve(5.0)})
    assert list(optimizer.to_stop([bad])) == [bad]


def test_percentile_and_logical_strategies() -> None:
    from ax.early_stopping.strategies import (
        OrEarlyStoppingStrategy,
        PercentileEarlyStoppingStrategy,
    )

    optimizer = adapt(make("client"))
    percentile = PercentileEarlyStoppingStrategy(
        metric_signatures=["loss"], percentile_threshold=50, min_progression=1, min_curves=2
    )
    optimizer.stop_with(OrEarlyStoppingStrategy(percentile, threshold()))
    done = ask(optimizer, 3)
    for index in done:
        optimizer.tell_intermediate({index: curve(0.0)})
        outcome = Outcome(index, OutcomeKind.COMPLETED, {"loss": (0.3 + index / 100, None)})
        optimizer.tell([outcome])
    better, worse = ask(optimizer, 2)
    optimizer.tell_intermediate({better: curve(-0.2), worse: curve(0.3)})
    assert list(optimizer.to_stop([better, worse])) == [worse]


class Mine:
    """A user's own, without Ax's base class."""

    def should_stop_trials_early(
        self, trial_indices: set[int], experiment: Any, current_node: Any = None
    ) -> dict[int, str | None]:
        return {index: None for index in trial_indices if index == 1}


def test_a_strategy_of_the_users_own_and_one_that_is_none() -> None:
    optimizer = adapt(make("experiment"))
    optimizer.stop_with(Mine())
    assert optimizer.to_stop([0, 1]) == {1: "Mine"}
    for wrong in (Mine, 3, object()):
        with pytest.raises(InvalidInput, match="should_stop_trials_early"):
            optimizer.stop_with(wrong)


# ---- the whole optimization ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_optimization_that_does_not_improve_ends_with_the_reason(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ax.global_stopping.strategies.improvement import ImprovementGlobalStoppingStrategy

    strategy = ImprovementGlobalStoppingStrategy(min_trials=4, window_size=2, improvement_bar=0.1)
    scheduler = AxScheduler(
        make(kind),
        ToyRunner(lambda request: {"loss": 1.0 + request.trial_index}),
        {"job_output_dir": tmp_path, "monitoring_interval": 0.05, "prefetch": 0},
        global_stopping_strategy=strategy,
    )
    with scheduler:
        scheduler.run_optimization(20, synchronous=True)
        assert 4 <= len(scheduler.trials) < 20
        assert all(t.state is TrialState.SUCCEEDED for t in scheduler.trials.values())
    said = capsys.readouterr().err.replace("\n", " ")
    assert "The optimization is complete" in said
    assert "improve" in said


# ---- a resumed run ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_has_its_strategies_and_progressions(kind: str, tmp_path: Path) -> None:
    def runner() -> ToyRunner:
        return ToyRunner(lambda request: {"loss": request.parameters["x"]})

    settings = {"job_output_dir": tmp_path, "monitoring_interval": 0.05, "progress": False}
    first = AxScheduler(make(kind), runner(), settings, early_stopping_strategy=threshold())
    with first:
        first.run_optimization(3)
    with AxScheduler.resume(first.run_directory, runner=runner()) as second:
        optimizer = second._run.optimizer
        (bad,) = ask(optimizer, 1)
        optimizer.tell_intermediate({bad: curve(5.0)})
        assert list(optimizer.to_stop([bad])) == [bad]


def test_a_strategy_that_cannot_be_written_is_missed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"job_output_dir": tmp_path, "monitoring_interval": 0.05, "progress": False}
    first = AxScheduler(make("client"), ToyRunner(), settings, early_stopping_strategy=Mine())
    with first:
        first.run_optimization(2)
    AxScheduler.resume(first.run_directory, runner=ToyRunner()).close()
    assert "goes on without its early_stopping_strategy: a Mine cannot" in caplog.text
    caplog.clear()
    AxScheduler.resume(
        first.run_directory, runner=ToyRunner(), early_stopping_strategy=Mine()
    ).close()
    assert "goes on without" not in caplog.text
