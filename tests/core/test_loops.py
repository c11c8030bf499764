"""The loop of Ax's scheduler, under its names."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from axsched_core import AxScheduler, OptimizationResult, TrialState
from axsched_core.errors import AllTrialsFailed, FailureRateExceeded, InvalidInput
from axsched_core.jobs import Cause, JobState, JobStatus
from axsched_core.run.usage import Usage
from support.toy import ToyOptimizer, ToyRunner

Make = Callable[..., AxScheduler]


def fails(request: Any) -> JobStatus:
    return JobStatus(JobState.FAILED, cause=Cause.EXIT_CODE, message="exit code 1", exit_code=1)


@pytest.fixture
def of(make: Make, tmp_path):
    """Make a scheduler of a subclass."""
    made: list[AxScheduler] = []

    def build(kind: type[AxScheduler], optimizer: Any = None, runner: Any = None, **settings: Any):
        config = {"job_output_dir": tmp_path, "monitoring_interval": 0.05, "progress": False}
        made.append(kind(optimizer or ToyOptimizer(), runner or ToyRunner(), config | settings))
        return made[-1]

    yield build
    for one in made:
        one.close()


def test_n_trials_and_n_more(make: Make):
    scheduler = make()
    first = scheduler.run_n_trials(3)
    assert isinstance(first, OptimizationResult)
    assert first.counts == {"SUCCEEDED": 3}
    assert first.best is not None
    assert first.why_stopped == "All trials have ended."
    second = scheduler.run_n_trials(2)
    assert second.counts == {"SUCCEEDED": 5}
    assert second.wall_time > first.wall_time > 0
    assert "5 SUCCEEDED" in str(second)


def test_all_trials_up_to_the_setting(make: Make):
    scheduler = make(total_trials=4)
    scheduler.run_n_trials(3)
    assert scheduler.run_all_trials().counts == {"SUCCEEDED": 4}
    again = scheduler.run_all_trials()
    assert again.counts == {"SUCCEEDED": 4}
    assert "total_trials" in again.why_stopped


def test_all_trials_without_the_setting(make: Make):
    with pytest.raises(InvalidInput, match="total_trials"):
        make().run_all_trials()


@pytest.mark.parametrize("hours", [0, -1, True, "1"])
def test_hours_that_are_none(make: Make, hours):
    with pytest.raises(InvalidInput, match="timeout_hours"):
        make().run_n_trials(1, timeout_hours=hours)


def test_a_timeout_in_hours(make: Make):
    scheduler = make(ToyOptimizer(), ToyRunner(lambda request: None), max_parallelism=2)
    with pytest.raises(Exception, match="Everything was cancelled"):
        scheduler.run_n_trials(2, timeout_hours=0.2 / 3600)
    assert "timeout" in scheduler.summarize_final_result().why_stopped


def test_each_change_yields_a_report(of):
    class Reports(AxScheduler):
        def report_results(self) -> int:
            return sum(t.state is TrialState.SUCCEEDED for t in self.trials.values())

    scheduler = of(Reports, synchronous=True)
    assert list(scheduler.run_trials_and_yield_results(4)) == [1, 2, 3, 4]


def test_leaving_the_loop_cancels_nothing(make: Make):
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner, max_parallelism=2, prefetch=0)
    steps = scheduler.run_trials_and_yield_results(4)
    ender = threading.Thread(
        target=lambda: (
            [runner.submitted.acquire(timeout=30) for _ in range(2)],
            runner.end(runner.key_of(0), {"loss": 1.0}),
        )
    )
    ender.start()
    assert next(steps) == {}
    steps.close()
    ender.join(30)
    assert runner.cancels == []
    assert runner.running() == [runner.key_of(1)], "no job begins between two steps"
    assert 1 in {t.index for t in scheduler.pending_trials}
    assert scheduler.has_trials_in_flight
    runner.finish = lambda request: {"loss": 2.0}
    runner.end(runner.key_of(1), {"loss": 2.0})
    scheduler.wait_for_completed_trials()
    assert len(scheduler.trials) == 4
    assert not scheduler.has_trials_in_flight


def test_a_criterion_ends_the_loop_in_good_order(of):
    class Enough(AxScheduler):
        def completion_criterion(self) -> bool:
            return sum(t.state is TrialState.SUCCEEDED for t in self.trials.values()) == 3

    optimizer = ToyOptimizer()
    scheduler = of(Enough, optimizer, synchronous=True)
    found = scheduler.run_n_trials(10)
    assert found.counts["SUCCEEDED"] == 3
    assert len(scheduler.trials) <= 4, "one may have been made, and given back"
    assert "criterion" in found.why_stopped
    assert optimizer.count("RUNNING") == 0
    assert scheduler.run_optimization(2).trial_index is not None, "a later call makes more"


def test_what_was_made_in_advance_is_given_back(of):
    class Enough(AxScheduler):
        def completion_criterion(self) -> bool:
            return any(t.state is TrialState.SUCCEEDED for t in self.trials.values())

    optimizer = ToyOptimizer()
    runner = ToyRunner(free=lambda: 1 - len(runner.running()))
    scheduler = of(Enough, optimizer, runner, prefetch=3)
    found = scheduler.run_n_trials(10)
    assert optimizer.count("RUNNING") == 0
    assert found.counts["SUCCEEDED"] < 10
    assert sum(found.counts.values()) == len(optimizer.rows)


def test_aborting_cancels_what_runs(of):
    class Abort(AxScheduler):
        def should_abort_optimization(self) -> tuple[bool, str]:
            return True, "the budget is used up"

    ended: list[str] = []

    def one_ends(request: Any) -> Any:
        ended.append(request.key)
        return {"loss": 1.0} if len(ended) == 1 else None

    scheduler = of(Abort, ToyOptimizer(), ToyRunner(one_ends), max_parallelism=3)
    found = scheduler.run_n_trials(10)
    assert found.why_stopped == "the budget is used up"
    assert found.counts["SUCCEEDED"] == 1
    assert set(found.counts) == {"SUCCEEDED", "CANCELLED"}


def test_all_failed_and_too_many_failed(of):
    class Looks(AxScheduler):
        def report_results(self) -> None:
            return None

    few = of(Looks, runner=ToyRunner(fails))
    with pytest.raises(AllTrialsFailed):
        few.run_n_trials(2)
    assert few.summarize_final_result().causes == {"EXIT_CODE": 2}
    many = of(Looks, runner=ToyRunner(fails))
    with pytest.raises(FailureRateExceeded):
        many.run_n_trials(50)
    assert len(many.trials) < 50


def test_stopping_trials_by_hand(make: Make):
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner, max_parallelism=2)
    for _ in range(2):
        scheduler.run_trial(scheduler.get_next_trial())
    assert {t.index for t in scheduler.pending_trials} == {0, 1}
    with pytest.raises(InvalidInput, match="trial 5 is not in progress"):
        scheduler.stop_trial_runs([0, 5])
    with pytest.raises(InvalidInput, match="1 trials and 2 reasons"):
        scheduler.stop_trial_runs([0], ["a", "b"])
    scheduler.stop_trial_runs([scheduler.trials[0]], ["too hot"])
    scheduler.monitor_trials()
    assert scheduler.trials[0].state is TrialState.CANCELLED
    assert scheduler.trials[0].message == "too hot"
    assert scheduler.trials[1].state in (TrialState.QUEUED, TrialState.RUNNING)


def test_the_capacity_is_asked_for(make: Make):
    free = [5]
    scheduler = make(ToyOptimizer(), ToyRunner(free=lambda: free[0]))
    assert scheduler.poll_available_capacity() == 5
    free[0] = 2
    assert scheduler.poll_available_capacity() == 2


def test_use_of_the_workers():
    usage = Usage()
    assert usage.share(10.0) is None
    for start, end in ((0, 4), (1, 3), (4, 8)):
        usage.add(start, end)
    assert usage.most_at_once == 2
    assert usage.busy == 10
    assert usage.share(10.0) == 0.5
