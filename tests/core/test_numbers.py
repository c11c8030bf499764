"""Numbers of NumPy and pandas, and floats that are whole, are what they mean; a bool is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from axsched_core import AxScheduler, TrialState, options
from axsched_core.config import Needs, RetryPolicy, SchedulerConfig
from axsched_core.errors import InvalidInput
from axsched_core.runners import discovery
from support.toy import ToyOptimizer, ToyRunner

np = pytest.importorskip("numpy")
THREE = [np.int64(3), np.uint8(3), 3.0, np.float32(3), np.array(3)]
NOT_WHOLE = [True, np.bool_(True), 3.5, float("nan"), float("inf"), "3", None, [3], np.array([3])]
Make = Callable[..., AxScheduler]


@pytest.mark.parametrize("three", THREE, ids=repr)
def test_a_number_of_trials(make: Make, three: Any):
    optimizer = ToyOptimizer()
    make(optimizer, ToyRunner(finish=lambda request: {"loss": 1.0})).run_optimization(three)
    assert optimizer.count("COMPLETED") == 3


@pytest.mark.parametrize("wrong", NOT_WHOLE, ids=repr)
def test_what_is_no_whole_number(make: Make, wrong: Any):
    with pytest.raises(InvalidInput, match="max_trials must be a whole number"):
        make().run_optimization(wrong)


@pytest.mark.parametrize("kind", [np.int64, float], ids=["np.int64", "float"])
def test_the_index_of_a_trial(make: Make, kind: Callable[[int], Any]):
    scheduler = make(ToyOptimizer(), ToyRunner(finish=lambda request: {"loss": 1.0}))
    first, second, third = (scheduler.get_next_trial() for _ in range(3))
    trial = scheduler.run_trial(kind(first))
    assert (trial.index, type(trial.index)) == (first, int)
    scheduler.wait_for_completed_trials()
    assert scheduler.complete_trial(kind(first)).state is TrialState.SUCCEEDED
    assert scheduler.complete_trial(kind(second), 0.5).index == second
    assert scheduler.abandon_trial(kind(third)).state is TrialState.CANCELLED
    assert all(type(index) is int for index in scheduler.trials)


def test_the_trials_of_a_batch(make: Make):
    scheduler = make(ToyOptimizer(), ToyRunner(finish=lambda request: {"loss": 1.0}))
    index = scheduler.get_next_trial()
    assert index is not None
    with scheduler.batch_trial_context() as batch:
        batch.add_generated(np.int64(2))
        batch.add_trial(scheduler.trials[index].parameters, np.int64(index))
    assert len(batch.trials) == 3


@pytest.mark.parametrize("timeout", [np.int64(60), np.float32(60), np.array(60)], ids=repr)
def test_a_timeout(make: Make, timeout: Any):
    optimizer = ToyOptimizer()
    make(optimizer, ToyRunner(finish=lambda request: {"loss": 1.0})).run_optimization(1, timeout)
    assert optimizer.count("COMPLETED") == 1


@pytest.mark.parametrize(
    "result", [np.float32(0.5), np.array(0.5), {"loss": (np.float32(0.5), np.array(0.25))}]
)
def test_a_result_by_hand(make: Make, result: Any):
    scheduler = make(ToyOptimizer())
    index = scheduler.get_next_trial()
    assert index is not None
    results = scheduler.complete_trial(index, result).results
    assert results is not None
    assert results["loss"][0] == 0.5


@pytest.mark.parametrize("three", THREE, ids=repr)
def test_settings(three: Any):
    given = {"max_parallelism": three, "monitoring_interval": three, "retry": {"max_memory": three}}
    built = options.build(SchedulerConfig, given, "config")
    assert (built.max_parallelism, built.monitoring_interval, built.retry.max_memory) == (3, 3, 3)
    assert type(built.max_parallelism) is int
    assert type(built.monitoring_interval) is float
    assert options.build(Needs, {"cpus": three, "memory": three}, "it") == Needs(3, 3)
    assert 3 in RetryPolicy(attempts={"EXCEPTION": three}).attempts.values()


@pytest.mark.parametrize("three", THREE, ids=repr)
def test_options_of_the_joblib_runner(three: Any):
    given = {"n_jobs": three, "threads_per_job": three, "stop_grace": three}
    made = discovery.load("joblib").options(given)
    assert made == type(made)(**given)
    assert repr(made).startswith("JobLibOptions(n_jobs=3, ")


@pytest.mark.parametrize("wrong", [one for one in NOT_WHOLE if one is not None], ids=repr)
def test_wrong_settings(wrong: Any):
    with pytest.raises(InvalidInput, match="'max_parallelism' must be int, not"):
        options.build(SchedulerConfig, {"max_parallelism": wrong}, "config")
    with pytest.raises(InvalidInput, match="must be a whole number from 1"):
        options.build(RetryPolicy, {"attempts": {"EXCEPTION": wrong}}, "retry")
