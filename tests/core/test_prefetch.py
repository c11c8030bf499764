"""Trials that are made in advance: a worker never waits for a candidate that could be there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from axsched_core import AxScheduler, TrialState
from axsched_core.errors import OptimizationInterrupted, OptimizerError
from axsched_core.run.budget import IN_BULK
from axsched_core.testing import RandomSearch
from support.ctrl_c import press_ctrl_c
from support.resuming import died, resume
from support.toy import ToyOptimizer, ToyRunner

Make = Callable[..., AxScheduler]


@pytest.fixture
def runner() -> ToyRunner:
    return ToyRunner(lambda request: None)


def started(runner: ToyRunner, n: int) -> None:
    for _ in range(n):
        assert runner.submitted.acquire(timeout=30)


def test_a_job_that_ends_makes_room_for_a_trial_that_is_there_already(
    make: Make, runner: ToyRunner, in_thread
):
    optimizer, held = ToyOptimizer(), threading.Event()
    scheduler = make(optimizer, runner, max_parallelism=2)

    def slow(n: int) -> None:
        if len(optimizer.rows) >= 3:
            assert held.wait(30)

    optimizer.on_ask = slow
    running = in_thread(lambda: scheduler.run_optimization(max_trials=5))
    started(runner, 2)
    runner.end(runner.key_of(0), {"loss": 1.0})
    started(runner, 1)  # while the optimizer makes the fourth
    assert len(optimizer.rows) == 3
    runner.finish = lambda request: {"loss": 1.0}
    held.set()
    for index in (1, 2):
        runner.end(runner.key_of(index), {"loss": 1.0})
    running.result()
    assert optimizer.count("COMPLETED") == len(optimizer.rows) == 5
    assert optimizer.asks[0] == 3


@pytest.mark.parametrize(("settings", "asks"), [({"prefetch": 0}, [2]), ({"prefetch": 3}, [5])])
def test_how_many_are_made_in_advance_is_a_setting(make: Make, settings, asks):
    optimizer = ToyOptimizer()
    make(optimizer, max_parallelism=2, **settings).run_optimization(max_trials=7)
    assert optimizer.asks[:1] == asks
    assert sum(optimizer.asks) == len(optimizer.rows) == 7


def test_none_is_made_in_advance_if_trials_run_one_at_a_time(make: Make):
    optimizer = ToyOptimizer()
    make(optimizer).run_optimization(max_trials=3, synchronous=True)
    assert optimizer.asks == [1, 1, 1]


class Counting(RandomSearch):
    def __init__(self) -> None:
        super().__init__({"x": (0, 1)})
        self.sizes: list[int] = []

    def ask(self, n: int, *, in_bulk: int = 0):
        asked = super().ask(n, in_bulk=in_bulk)
        self.sizes.append(len(asked.candidates))
        return asked


def test_what_uses_no_results_is_made_in_bulk(make: Make):
    optimizer = Counting()
    make(optimizer, max_parallelism=4).run_optimization(max_trials=200)
    assert sum(optimizer.sizes) == 200
    assert all(size >= IN_BULK for size in optimizer.sizes[:-1])


def test_what_is_ready_when_the_time_is_over_is_stale(make: Make, runner: ToyRunner):
    optimizer = ToyOptimizer()
    scheduler = make(optimizer, runner, max_parallelism=2)
    with pytest.raises(OptimizerError, match="timeout"):
        scheduler.run_optimization(max_trials=5, timeout=0.5)
    assert [row["status"] for row in optimizer.rows.values()] == ["ABANDONED"] * 2 + ["STALE"]
    assert scheduler.trials[2].state is TrialState.CANCELLED
    assert scheduler.trials[2].attempts == 0
    runner.finish = lambda request: {"loss": 1.0}
    scheduler.finish()
    assert len(optimizer.rows) == 3


def test_what_is_ready_at_ctrl_c_is_run_by_finish(make: Make, runner: ToyRunner):
    optimizer = ToyOptimizer()
    scheduler = make(optimizer, runner, max_parallelism=2)
    presser = press_ctrl_c(runner.submitted)
    with pytest.raises(OptimizationInterrupted, match="2 were stopped and stay open, 3 have not"):
        scheduler.run_optimization(max_trials=5)
    presser.join()
    assert len(optimizer.rows) == 3
    runner.finish = lambda request: {"loss": 1.0}
    scheduler.finish()
    assert optimizer.count("COMPLETED") == len(optimizer.rows) == 5


def test_what_was_ready_when_the_driver_died_is_run_and_not_made_again(make: Make, tmp_path: Path):
    optimizer, runner, copies = ToyOptimizer(), ToyRunner(), list[Path]()

    def submit(request):
        if request.trial_index == 2:
            copies.append(died(scheduler, tmp_path))

    runner.on_submit = submit
    scheduler = make(optimizer, runner, max_parallelism=1, prefetch=2)
    scheduler.run_optimization(max_trials=6)
    with resume(copies[0], runner) as again:
        ready = [r for r in again._run.engine.records.values() if not r.attempts]
        assert [r.index for r in ready] == [3]
        again.finish()
        rows = again.client.rows
        assert again.client.count("COMPLETED") == len(rows) == 6
        assert rows[3]["parameters"] == optimizer.rows[3]["parameters"]
