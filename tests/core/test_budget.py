"""How many trials are still to be made: in a session, after Ctrl-C, and in the journal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from axsched_core import AxScheduler, hookimpl
from axsched_core.errors import OptimizationInterrupted
from axsched_core.jobs import JobHandle, JobStatus
from axsched_core.run.budget import IN_BULK, MOST_IN_BULK, Budget, Wish
from support.ctrl_c import press_ctrl_c
from support.resuming import died, resume
from support.toy import ToyOptimizer, ToyRunner

Make = Callable[..., AxScheduler]


def ask(budget: Budget, **now: int) -> Wish:
    return budget.to_ask(**{"ended": 0, "waiting": 0, "running": 0, "free_slots": 0, **now})


def test_it_asks_for_what_can_be_submitted_at_once():
    budget = Budget(to_make=10)
    assert ask(budget, free_slots=4) == Wish(4)
    assert ask(budget, waiting=3, free_slots=4) == Wish(1)
    assert not ask(budget, waiting=6, free_slots=4)
    assert ask(budget, free_slots=40) == Wish(10)


def test_trials_of_a_model_are_made_in_advance_one_by_one():
    budget = Budget(ahead=1, to_make=10)
    budget.asked(wish=Wish(1), made=1, in_bulk=False, ended=0)
    assert ask(budget, free_slots=4) == Wish(5)
    assert ask(budget, waiting=1, free_slots=1, running=3) == Wish(1)
    assert not ask(budget, waiting=1, running=4)
    assert not ask(Budget(), free_slots=4)


def test_trials_that_use_no_results_are_made_in_bulk_before_the_last_one_begins():
    budget = Budget(ahead=1, to_make=100)
    assert ask(budget, free_slots=4) == Wish(5, in_bulk=4 + 2 * IN_BULK)
    assert not ask(budget, waiting=IN_BULK, running=4)
    assert ask(budget, waiting=IN_BULK - 1, running=4) == Wish(0, in_bulk=IN_BULK + 1)
    many = Budget(ahead=1, to_make=10_000)
    assert ask(many, waiting=60, running=100) == Wish(0, in_bulk=100 + IN_BULK - 60)
    assert ask(many, ended=800, running=4) == Wish(1, in_bulk=IN_BULK + 100)
    assert ask(many, ended=80_000, running=4) == Wish(1, in_bulk=IN_BULK + MOST_IN_BULK)
    budget.to_make = 7
    assert ask(budget, waiting=3, running=4) == Wish(0, in_bulk=7)
    budget.to_make = 2 * IN_BULK + 30  # the call after this one would be for 30
    assert ask(budget, running=4) == Wish(1, in_bulk=2 * IN_BULK + 30)


def test_the_faster_trials_end_the_more_are_made_in_bulk():
    budget = Budget(ahead=1, to_make=10_000)
    budget.asked(wish=Wish(1, IN_BULK), made=IN_BULK, in_bulk=True, ended=0, meanwhile=20)
    assert not ask(budget, waiting=40, running=4)
    assert ask(budget, waiting=39, running=4) == Wish(0, in_bulk=1 + 80)
    budget.begin()
    assert not ask(budget, waiting=39, running=4)


def test_it_asks_for_nothing_where_nothing_is_to_be_made_or_the_optimizer_had_too_few():
    assert not ask(Budget(), free_slots=4)
    starved = Budget(to_make=3)
    starved.asked(wish=Wish(2), made=1, in_bulk=False, ended=2)
    assert not ask(starved, ended=2, free_slots=4)


def test_a_starved_optimizer_is_asked_again_when_a_trial_has_ended_or_a_call_begins():
    budget = Budget(to_make=3)
    budget.asked(wish=Wish(2), made=1, in_bulk=False, ended=2)
    assert ask(budget, ended=3, free_slots=2) == Wish(2)
    budget.begin()
    assert ask(budget, ended=2, free_slots=2) == Wish(2)


def test_what_a_stopped_call_has_not_made_is_left():
    budget = Budget()
    budget.want(5)
    budget.take(0)
    budget.stop()
    assert (budget.to_make, budget.left, budget.open) == (0, 4, 4)
    budget.take(1)  # the optimizer was making it
    assert (budget.left, budget.made) == (3, [0, 1])
    assert budget.take_left() == 3
    assert budget.open == 0


def test_nothing_is_left_where_all_is_dropped():
    budget = Budget(to_make=2, left=3)
    budget.drop()
    budget.take(0)  # the optimizer was making it
    assert budget.open == 0


def interrupted_run(make: Make, runner: ToyRunner, *, max_trials: int) -> AxScheduler:
    scheduler = make(ToyOptimizer(), runner, max_parallelism=1, prefetch=0)
    presser = press_ctrl_c(runner.submitted)
    with pytest.raises(OptimizationInterrupted, match=f"{max_trials - 1} have not begun"):
        scheduler.run_optimization(max_trials=max_trials)
    presser.join()
    return scheduler


@pytest.mark.parametrize("same_session", [True, False])
def test_a_batch_does_not_take_what_an_interrupted_run_has_left(
    make: Make, tmp_path, same_session: bool
):
    runner = ToyRunner(lambda request: None)
    scheduler = interrupted_run(make, runner, max_trials=4)
    runner.finish = lambda request: 1.0
    with scheduler.batch_trial_context() as batch:
        batch.add_generated(2)
    assert len(scheduler.trials) == 1 + 2
    if same_session:
        scheduler.finish()
        assert len(scheduler.trials) == 1 + 2 + 3
    else:
        with resume(died(scheduler, tmp_path), runner) as again:
            again.finish()
            assert len(again.trials) == 1 + 2 + 3


class Polled(ToyRunner):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.polled = threading.Event()

    @hookimpl
    def axsched_poll(self, handles: Sequence[JobHandle]) -> dict[str, JobStatus]:
        self.polled.set()
        return super().axsched_poll(handles)


def test_ctrl_c_in_another_call_does_not_lose_what_a_run_has_left(make: Make):
    runner = Polled(lambda request: None)
    scheduler = interrupted_run(make, runner, max_trials=4)
    scheduler.run_trial(0)
    runner.polled.clear()
    presser = press_ctrl_c(runner.polled)
    with pytest.raises(OptimizationInterrupted, match="3 have not begun"):
        scheduler.wait_for_completed_trials()
    presser.join()
    runner.finish = lambda request: 1.0
    scheduler.finish()
    assert len(scheduler.trials) == 4


def test_what_a_run_on_another_runner_has_left_is_in_the_new_journal(make: Make, tmp_path):
    runner = ToyRunner()
    scheduler = make(ToyOptimizer(), runner)
    scheduler._run.budget.left = 3  # as `from_stored_experiment` does
    scheduler.run_trial(scheduler.get_next_trial())
    scheduler.wait_for_completed_trials()
    with resume(died(scheduler, tmp_path), runner) as again:
        again.finish()
        assert again.client.count("COMPLETED") == 1 + 3
