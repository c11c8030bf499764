"""The trials of a run as a table."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest

from axsched_core import AxScheduler, TrialState, table
from axsched_core.errors import InvalidInput
from axsched_core.jobs import Cause, JobState, JobStatus
from axsched_core.testing import RandomSearch
from support.toy import ToyOptimizer, ToyRunner

Make = Callable[..., AxScheduler]
TIMES = ("made", "queued", "started", "ended")


def finish(request):
    if request.trial_index == 1:
        return JobStatus(
            JobState.FAILED,
            cause=Cause.EXIT_CODE,
            message="exit code 3",
            exit_code=3,
            started_at=100.0,
            ended_at=102.5,
            host="node-7",
        )
    return {"loss": (request.parameters["x"], 0.5), "speed": 2.0}


def test_one_row_a_trial(make: Make):
    scheduler = make(RandomSearch({"x": (0.0, 1.0)}, seed=1), ToyRunner(finish))
    scheduler.run_optimization(3)
    first, second, third = found = table.rows(scheduler.run_directory)
    assert list(first) == [*table.COLUMNS, "x", "loss", "loss_sem", "speed", "speed_sem"]
    assert [row["trial_index"] for row in found] == [0, 1, 2]
    assert [row["state"] for row in found] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert first["x"] == scheduler.trials[0].parameters["x"]
    assert (first["loss"], first["loss_sem"]) == (first["x"], 0.5)
    assert (third["speed"], third["speed_sem"]) == (2.0, None)
    assert (second["cause"], second["message"]) == ("EXIT_CODE", "exit code 3")
    assert (second["loss"], second["loss_sem"]) == (None, None)
    assert (second["host"], second["runner"], second["attempts"]) == ("node-7", "toy", 1)
    assert second["duration"] == 2.5
    assert second["started"] == datetime.datetime(1970, 1, 1, 0, 1, 40, tzinfo=datetime.UTC)
    assert first["method"] == "random"
    assert all(first[name].tzinfo is datetime.UTC for name in ("made", "queued", "ended"))


def test_a_trial_of_the_users_and_one_that_has_not_begun(make: Make):
    scheduler = make(RandomSearch({"x": (0.0, 1.0)}), ToyRunner())
    with scheduler.batch_trial_context() as batch:
        batch.add_trial({"x": 0.25})
    scheduler.get_next_trial()
    by_hand, waits = table.rows(scheduler.run_directory)
    assert (by_hand["method"], by_hand["x"]) == ("manual", 0.25)
    assert (waits["state"], waits["attempts"], waits["host"]) == ("CANDIDATE", 0, "")
    assert [waits[name] for name in TIMES[1:]] == [None] * 3


def test_names_that_are_taken(make: Make):
    def values(request):
        return {"loss": 1.0, "state": 2.0, "x": 3.0}

    scheduler = make(RandomSearch({"x": (0.0, 1.0), "host": (0.0, 1.0)}), ToyRunner(values))
    scheduler.run_optimization(1)
    (row,) = table.rows(scheduler.run_directory)
    assert row["state"] == "SUCCEEDED"
    assert (row["metric_state"], row["metric_x"]) == (2.0, 3.0)
    assert row["parameter_host"] == scheduler.trials[0].parameters["host"]
    assert row["x"] == scheduler.trials[0].parameters["x"]


def test_the_scheduler_makes_the_same_table(make: Make):
    pandas = pytest.importorskip("pandas")
    scheduler = make(ToyOptimizer(), ToyRunner(finish))
    scheduler.run_optimization(3)
    of_scheduler = scheduler.to_df()
    of_folder = table.frame(table.rows(scheduler.run_directory))
    pandas.testing.assert_frame_equal(of_scheduler, of_folder)
    assert list(of_scheduler["trial_index"]) == [0, 1, 2]


def test_a_run_without_a_journal_has_no_times(make: Make):
    pytest.importorskip("pandas")
    scheduler = make(ToyOptimizer(), ToyRunner(finish), durable=False)
    scheduler.run_optimization(3)
    found = scheduler.to_df()
    assert list(found["state"]) == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert found["ended"].isna().all()
    assert list(found["loss"].isna()) == [False, True, False]


def test_the_best_trial(make: Make):
    scheduler = make(ToyOptimizer(), ToyRunner(finish))
    assert scheduler.best_trial() is None
    assert scheduler.pareto_frontier() == []
    scheduler.run_optimization(3)
    best = scheduler.best_trial()
    assert best is not None
    assert best.state is TrialState.SUCCEEDED
    values = [t.results["loss"][0] for t in scheduler.trials.values() if t.results]
    assert best.results is not None
    assert best.results["loss"][0] == min(values)
    assert [point.trial_index for point in scheduler.pareto_frontier()] == [best.index]
    assert scheduler.pareto_frontier(model=True) == []


def test_what_only_ax_has(make: Make):
    scheduler = make(ToyOptimizer())
    with pytest.raises(InvalidInput, match="to_df"):
        scheduler.summarize()
    with pytest.raises(InvalidInput, match="no plots"):
        scheduler.plots()


def test_a_folder_that_is_no_run(tmp_path: Path):
    with pytest.raises(InvalidInput, match="not a run directory"):
        table.rows(tmp_path)
