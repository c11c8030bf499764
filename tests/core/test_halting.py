"""What begins no more, and what is still cancelled, once a call is about to end."""

from __future__ import annotations

import threading

import pytest

from axsched_core import TrialState, hookimpl
from axsched_core.errors import OptimizationInterrupted, OptimizerError
from axsched_core.jobs import Cause, JobState, JobStatus
from support.ctrl_c import press_ctrl_c
from support.toy import Stubborn, ToyOptimizer, ToyRunner
from support.waiting import wait_until


class Cancelled(Stubborn):
    """Says when it was asked to cancel."""

    def __init__(self) -> None:
        super().__init__(lambda request: None)
        self.asked = threading.Event()

    @hookimpl
    def axsched_cancel(self, handles, reason):
        self.asked.set()
        return super().axsched_cancel(handles, reason)


def test_cancel_counts_while_ctrl_c_waits_for_a_job(make, in_thread):
    runner = Cancelled()
    scheduler = make(ToyOptimizer(), runner)

    def cancel() -> None:
        assert runner.asked.wait(10)
        scheduler.cancel()
        runner.end(runner.key_of(0), JobStatus(JobState.CANCELLED))

    presser, canceller = press_ctrl_c(runner.submitted), in_thread(cancel)
    with pytest.raises(OptimizationInterrupted):
        scheduler.run_optimization(1)
    presser.join()
    canceller.result()
    assert scheduler.trials[0].state is TrialState.CANCELLED
    assert scheduler.client.told == [(0, "ABANDONED")]


def test_a_job_that_was_told_to_end_is_looked_at_again_before_its_trial_fails(make, monkeypatch):
    runner = ToyRunner(lambda request: None)
    scheduler = make(runner=runner)
    scheduler.run_trial(scheduler.get_next_trial())
    runner.end(runner.key_of(0), JobStatus(JobState.FAILED, Cause.SIGNAL, signal=15))
    job = scheduler._run.engine.records[0].job
    wait_until(lambda: scheduler.monitor_trials() and job.signalled_at)
    assert not scheduler.trials[0].state.ended  # the same signal may be on its way to us
    trial = scheduler.wait_for_completed_trials()[0]
    assert (trial.state, trial.cause) == (TrialState.FAILED, Cause.SIGNAL)


def test_no_job_is_tried_again_once_the_call_has_failed(make):
    optimizer, runner = ToyOptimizer(), ToyRunner(free=lambda: 1)
    runner.finish = lambda request: {"loss": 1.0} if request.attempt > 1 else None
    scheduler = make(optimizer, runner, prefetch=0)
    lost = JobStatus(JobState.LOST, cause=Cause.LOST)

    def ask(n: int) -> None:
        if optimizer.rows:
            runner.end(runner.key_of(0), lost)
            raise ValueError("no model")

    optimizer.on_ask = ask
    with pytest.raises(OptimizerError, match="no model"):
        scheduler.run_optimization(2)
    assert len(runner.requests) == 1
    optimizer.on_ask, runner.finish = lambda n: None, lambda request: {"loss": 1.0}
    scheduler.finish()
    assert optimizer.count("COMPLETED") == len(optimizer.rows) == 2
    assert scheduler.trials[0].attempts == 2
