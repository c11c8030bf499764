"""What the optimizer's trials hold about their jobs: `metadata["axsched"]`."""

from __future__ import annotations

import json
import threading

import pytest

from axsched_core import hookimpl
from axsched_core.errors import OptimizationInterrupted, OptimizerError, RunnerError
from support.ctrl_c import press_ctrl_c
from support.toy import ToyOptimizer, ToyRunner


def test_marks_that_the_optimizer_has_refused_come_again(make):
    optimizer, left = ToyOptimizer(), [ValueError("not now")]

    def tell(outcomes):
        if outcomes and left:
            raise left.pop()

    optimizer.on_tell = tell
    scheduler = make(optimizer, ToyRunner(lambda request: {"loss": 1.0, "notes": "hello"}))
    with pytest.raises(OptimizerError, match="could not take the results"):
        scheduler.run_optimization(1)
    scheduler.wait_for_completed_trials()
    assert optimizer.rows[0]["metadata"]["axsched"]["notes"] == "hello"


def test_a_call_that_could_not_begin_says_that_its_trials_wait(make, tmp_path):
    fails = [True]

    class Broken(ToyRunner):
        @hookimpl
        def axsched_open(self, context):
            if fails:
                raise OSError("no")

    scheduler = make(ToyOptimizer(), Broken())
    indices = [scheduler.get_next_trial() for _ in range(2)]
    with pytest.raises(RunnerError), scheduler.batch_trial_context() as batch:
        for index in indices:
            batch.add_trial(scheduler.trials[index].parameters)
    for index in indices:
        assert scheduler.client.rows[index]["metadata"]["axsched"]["interrupted"]
    fails.clear()
    other = ToyOptimizer()
    other.attach({"x": 0.1, "y": 0.1})
    other.save(tmp_path / "other.json")
    scheduler.load_experiment(tmp_path / "other.json")
    scheduler.run_optimization(1)
    assert scheduler.client.rows[0]["metadata"] == {}  # it is another trial 0


def test_a_trial_that_comes_after_ctrl_c_is_marked_in_the_saved_experiment(make):
    optimizer = ToyOptimizer()
    scheduler = make(optimizer)
    scheduler.get_next_trial()
    asking = threading.Event()

    def ask(n: int) -> None:
        asking.set()
        presser.join()

    optimizer.on_ask, presser = ask, press_ctrl_c(asking)
    with pytest.raises(OptimizationInterrupted):
        scheduler.get_next_trial()
    saved = json.loads((scheduler.run_directory / "experiment.json").read_text())
    assert saved[2][1]["metadata"]["axsched"]["interrupted"]
    scheduler.finish()
    assert optimizer.told == [(1, "COMPLETED")]
