"""What a driver leaves when it stops, and what the next one makes of it, fault by fault."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from axsched_core import AxScheduler, SchedulerConfig, hookimpl, jobfolder
from axsched_core.batch import Batch
from axsched_core.errors import (
    BackendUnavailable,
    InvalidInput,
    OptimizationInterrupted,
    RunnerError,
)
from axsched_core.jobs import CancelOutcome, Cause, JobHandle, JobState, JobStatus, RunnerInfo
from axsched_core.journal import lines
from axsched_core.run.records import Record
from axsched_core.trials import TrialState
from support.ctrl_c import press_ctrl_c
from support.resuming import died, resume
from support.toy import Stubborn, ToyOptimizer, ToyRunner

Make = Callable[..., AxScheduler]


def test_no_second_job_beside_one_that_a_second_ctrl_c_has_left(make: Make, tmp_path, monkeypatch):
    monkeypatch.setattr("axsched_core.run.timing.CANCEL_GRACE", 60)
    monkeypatch.setattr("axsched_core.run.timing.LEAVING_GRACE", 60)
    runner = Stubborn(lambda request: None)
    scheduler = make(ToyOptimizer(), runner, max_parallelism=2)
    presser = press_ctrl_c(runner.polled, times=2)
    with pytest.raises(OptimizationInterrupted, match="2 have jobs that may run on"):
        scheduler.run_optimization(max_trials=2)
    presser.join()
    left = died(scheduler, tmp_path)
    for key in runner.running():
        runner.end(key, {"loss": 1.0})
    with resume(left, runner) as again:
        again.finish()
        assert [trial.attempts for trial in again.trials.values()] == [1, 1]
        assert len(runner.requests) == 2


def test_who_stops_reopens_no_trial_whose_job_may_run(make: Make, tmp_path):
    """Its driver died while submitting it, and the next stops before anybody could say."""
    runner, copies = ToyRunner(lambda request: None), list[Path]()
    runner.on_submit = lambda request: copies.append(died(scheduler, tmp_path))
    scheduler = make(ToyOptimizer(), runner, on_unknown="fail")
    scheduler.run_trial(scheduler.get_next_trial())
    assert jobfolder.try_claim(scheduler.trials[0].folder, "the job, which has begun")
    shutil.copy(scheduler.trials[0].folder / jobfolder.CLAIM, copies[0] / "jobs" / "00000-1")
    for _ in range(2):
        with resume(copies[0], runner):
            pass
    with resume(copies[0], runner) as last:
        last.wait_for_completed_trials()
        assert (last.trials[0].state, last.trials[0].cause) == (TrialState.FAILED, Cause.LOST)
    assert len(runner.requests) == 1


def test_jobs_that_are_left_are_found_again(make: Make):
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner, on_exit="leave")
    scheduler.run_trial(scheduler.get_next_trial())
    scheduler.close()
    assert runner.cancels == []
    assert runner.closed == [False]
    runner.end(runner.running()[0], {"loss": 2.0})
    with resume(scheduler.run_directory, runner) as again:
        again.finish()
        assert again.trials[0].results == {"loss": (2.0, None)}
        assert len(runner.requests) == 1


def test_ctrl_c_leaves_what_runs_where_that_is_wished(make: Make):
    runner = ToyRunner(lambda request: None, free=lambda: 2 - len(runner.running()))
    optimizer = ToyOptimizer()
    scheduler = make(optimizer, runner, on_exit="leave")
    presser = press_ctrl_c(runner.submitted)
    with pytest.raises(OptimizationInterrupted, match="have jobs that may run on"):
        scheduler.run_optimization(max_trials=4)
    presser.join()
    assert runner.cancels == []
    runner.finish = lambda request: {"loss": 1.0}
    for key in runner.running():
        runner.end(key, {"loss": 2.0})
    scheduler.finish()
    assert optimizer.count("COMPLETED") == 4
    assert len(runner.requests) == 4


def test_a_candidate_that_comes_after_ctrl_c_counts_as_made(make: Make):
    asking, optimizer = threading.Event(), ToyOptimizer()

    def slowly(n: int) -> None:
        asking.set()
        deadline = time.monotonic() + 30
        while scheduler._run.engine.active.halted is None and len(optimizer.asks) == 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    optimizer.on_ask = slowly
    scheduler = make(optimizer, max_parallelism=2)
    presser = press_ctrl_c(asking)
    with pytest.raises(OptimizationInterrupted, match="0 were stopped and stay open, 5 have not"):
        scheduler.run_optimization(max_trials=5)
    presser.join()
    scheduler.finish()
    assert optimizer.count("COMPLETED") == len(optimizer.rows) == 5


def test_who_leaves_jobs_must_write_them_down(make: Make):
    with pytest.raises(InvalidInput, match="on_exit='leave' needs durable=True"):
        make(on_exit="leave", durable=False)


def test_what_a_batch_had_still_to_make_is_made_by_finish(make: Make, tmp_path):
    copies: list[Path] = []
    runner = ToyRunner()

    def submit(request):
        if request.trial_index == 2:
            copies.append(died(scheduler, tmp_path))

    runner.on_submit = submit
    scheduler = make(ToyOptimizer(), runner, max_parallelism=1)
    with scheduler.batch_trial_context() as batch:
        batch.add_generated(5)
    with resume(copies[0], runner) as again:
        again.finish()
        assert again.client.count("COMPLETED") == 5


def test_a_cancelled_run_has_nothing_left_to_make(make: Make, in_thread):
    runner = ToyRunner(lambda r: None if r.trial_index else {"loss": 1.0})
    scheduler = make(ToyOptimizer(), runner, max_parallelism=1, prefetch=0)
    running = in_thread(lambda: scheduler.run_optimization(max_trials=5))
    for _ in range(2):
        assert runner.submitted.acquire(timeout=30)
    scheduler.cancel()
    running.result()
    scheduler.close()
    with resume(scheduler.run_directory, runner) as again:
        again.finish()
        assert len(again.client.rows) == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, (7, 0.05)),
        ({"max_parallelism": 3}, (3, 0.05)),
        (SchedulerConfig(max_parallelism=3, progress=False), (3, 10.0)),
    ],
)
def test_settings_of_the_next_driver(make: Make, given, expected):
    scheduler = make(max_parallelism=7)
    scheduler.run_optimization(max_trials=1)
    scheduler.close()
    with resume(scheduler.run_directory, ToyRunner(), config=given) as again:
        assert (again.config.max_parallelism, again.config.monitoring_interval) == expected


def test_settings_that_are_none(make: Make):
    scheduler = make()
    scheduler.run_optimization(max_trials=1)
    scheduler.close()
    with pytest.raises(InvalidInput, match="config: expected a mapping .* got str"):
        resume(scheduler.run_directory, ToyRunner(), config="fast")


def test_the_runner_must_be_of_the_same_kind(make: Make):
    class Other(ToyRunner):
        @hookimpl
        def axsched_runner_info(self):
            return RunnerInfo("other", ["parameters"])

    scheduler = make()
    scheduler.run_optimization(max_trials=1)
    scheduler.close()
    for _ in range(2):  # the lock is given back
        with pytest.raises(InvalidInput, match="by the runner 'toy'; 'other' cannot find them"):
            resume(scheduler.run_directory, ToyRunner(), runner=Other())


def test_a_trial_that_the_user_ended_stays_ended(make: Make, tmp_path):
    runner = ToyRunner(lambda request: None)
    optimizer = ToyOptimizer()
    scheduler = make(optimizer, runner)
    first, second = scheduler.get_next_trial(), scheduler.get_next_trial()
    scheduler.run_trial(first)
    scheduler.run_trial(second)
    optimizer.rows[first]["status"] = "FAILED"
    scheduler.monitor_trials()
    assert scheduler.trials[first].state is TrialState.CLOSED
    killed = died(scheduler, tmp_path)
    with resume(killed, runner) as again:
        assert not again.client.trials()[first].open
        assert again.client.trials()[second].open
    scheduler.run_trial(scheduler.get_next_trial())
    killed = died(scheduler, tmp_path / "later")
    with resume(killed, runner) as again:
        assert again.client.rows[first]["status"] == "FAILED"  # a snapshot knows it exactly


def test_calls_go_on_after_the_run_directory_was_removed(make: Make, caplog):
    optimizer = ToyOptimizer()
    scheduler = make(optimizer)
    scheduler.run_optimization(max_trials=1)
    shutil.rmtree(scheduler.run_directory)
    for _ in range(2):
        scheduler.run_optimization(max_trials=1)
    assert optimizer.count("COMPLETED") == 3
    assert caplog.text.count("was removed") == 1


# ---- the objective ---------------------------------------------------------------------------


def scripted() -> ToyRunner:
    return ToyRunner(capabilities=("script", "function"))


def test_a_script_that_has_changed_is_said(make: Make, tmp_path, caplog):
    script = tmp_path / "simulate.sh"
    script.write_text("exit 0")
    runner = scripted()
    scheduler = make(runner=runner)
    scheduler.set_script_objective(script)
    scheduler.run_optimization(max_trials=1)
    scheduler.close()
    with resume(scheduler.run_directory, runner):
        assert "has changed" not in caplog.text
    script.write_text("exit 1")
    with resume(scheduler.run_directory, runner):
        assert f"The script {script} has changed" in caplog.text


@pytest.mark.parametrize("changed", ["code", "options", "nothing"])
def test_another_objective_than_before_is_said(make: Make, tmp_path, caplog, changed):
    script = tmp_path / "simulate.sh"
    script.write_text("exit 0")
    runner = scripted()
    scheduler = make(runner=runner)
    scheduler.set_script_objective(script, {"env": {"TOKEN": "1"}})
    scheduler.run_optimization(max_trials=2)
    scheduler.close()
    if changed == "code":
        script.write_text("exit 1")
    caplog.set_level(logging.WARNING)
    with resume(scheduler.run_directory, runner) as again:
        with pytest.raises(InvalidInput, match="needs TOKEN, whose values may be secrets"):
            again.finish()
        options = {"env": {"TOKEN": "2"}, **({"args": [1]} if changed == "options" else {})}
        again.set_script_objective(script, options)
    words = "The objective has changed, and 2 trials of this run have"
    assert (words in caplog.text) is (changed != "nothing")


def loss(x: float, y: float) -> float:
    return x + y


def other_loss(x: float, y: float) -> float:
    return x - y


@pytest.mark.parametrize("again", [loss, other_loss])
def test_a_function_is_known_by_its_source(make: Make, caplog, again):
    runner = scripted()
    scheduler = make(runner=runner)
    scheduler.set_objective_function(loss)
    scheduler.run_optimization(max_trials=1)
    scheduler.close()
    with resume(scheduler.run_directory, runner) as resumed:
        resumed.finish()  # it has come back from the run directory
        resumed.set_objective_function(again)
    assert ("The objective has changed" in caplog.text) is (again is other_loss)


def test_a_trial_given_up_whose_job_may_have_been_submitted(make: Make):
    class AnswerIsLost(ToyRunner):
        lost = False

        @hookimpl
        def axsched_submit(self, requests):
            answers = super().axsched_submit([r for r in requests if r.key not in self.requests])
            if not self.lost:
                self.lost = True
                raise ConnectionResetError("after they were taken")
            return answers or [JobHandle(request.key) for request in requests]

    runner = AnswerIsLost(lambda request: None)
    scheduler = make(ToyOptimizer(), runner)
    index = scheduler.get_next_trial()
    scheduler.run_trial(index)
    assert scheduler.abandon_trial(index).state is TrialState.CANCELLED
    scheduler.wait_for_completed_trials()
    assert [key for key, _ in runner.cancels] == list(runner.requests)


# ---- what a review has found, so that it stays found -------------------------------------------


def in_the_middle(make: Make, tmp_path: Path, **runner_settings: Any) -> tuple[Path, ToyRunner]:
    """The run directory of a driver that died while one job ran, and the runner."""
    runner = ToyRunner(lambda request: None, **runner_settings)
    scheduler = make(ToyOptimizer(), runner)
    scheduler.run_trial(scheduler.get_next_trial())
    return died(scheduler, tmp_path), runner


@pytest.mark.parametrize("call", ["wait_for_completed_trials", "monitor_trials", "cancel"])
def test_results_are_understood_whatever_is_called_first(make: Make, tmp_path, call):
    killed, runner = in_the_middle(make, tmp_path)
    runner.end(runner.key_of(0), 0.5)  # a bare number
    with resume(killed, runner) as again:
        getattr(again, call)()
        again.wait_for_completed_trials()
        assert again.trials[0].results == {"loss": (0.5, None)}


def test_no_job_is_submitted_without_its_secrets(make: Make, tmp_path):
    script = tmp_path / "simulate.sh"
    script.write_text("exit 0")
    runner = ToyRunner(lambda request: None, capabilities=("script",))
    scheduler = make(ToyOptimizer(), runner)
    scheduler.set_script_objective(script, {"env": {"TOKEN": "abc"}})
    scheduler.run_trial(scheduler.get_next_trial())
    killed = died(scheduler, tmp_path)
    runner.statuses[runner.key_of(0)] = JobStatus(JobState.LOST)
    with resume(killed, runner) as again:
        with pytest.raises(InvalidInput, match="needs TOKEN"):
            again.wait_for_completed_trials()
        assert len(runner.requests) == 1
        again.set_script_objective(script, {"env": {"TOKEN": "abc"}})
        again._run.lanes[0]._session._runner.finish = lambda request: 1.0
        again.finish()
    assert [dict(r.objective.env) for r in runner.requests.values()] == [{"TOKEN": "abc"}] * 2


def dropped(scheduler: AxScheduler) -> None:
    engine = scheduler._run.engine
    scheduler._run.guard._forgotten()  # what the garbage collector calls
    engine.loop.join(30)
    assert not engine.loop._thread.is_alive()


def test_a_dropped_scheduler_leaves_its_trials_open(make: Make):
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner)
    scheduler.run_trial(scheduler.get_next_trial())
    dropped(scheduler)
    assert len(runner.cancels) == 1
    runner.finish = lambda request: 1.0
    with resume(scheduler.run_directory, runner) as again:
        again.finish()
        assert again.trials[0].state is TrialState.SUCCEEDED


def test_a_dropped_scheduler_that_was_taken_over_cancels_nothing(make: Make):
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner)
    scheduler.run_trial(scheduler.get_next_trial())
    (scheduler.run_directory / "lock.json").unlink()
    with resume(scheduler.run_directory, runner, config={"on_exit": "leave"}):
        dropped(scheduler)
        assert runner.cancels == []


@pytest.mark.parametrize(
    "end",
    [JobStatus(JobState.CANCELLED), JobStatus(JobState.FAILED, Cause.SIGNAL)],
    ids=["cancelled", "killed"],
)
@pytest.mark.parametrize("same_session", [True, False])
def test_a_job_that_dies_late_of_ctrl_c_is_run_again(make: Make, tmp_path, end, same_session):
    class Slow(ToyRunner):
        @hookimpl
        def axsched_cancel(self, handles, reason):
            self.cancels += [(handle.key, reason) for handle in handles]
            return {handle.key: CancelOutcome.REQUESTED for handle in handles}

    runner = Slow(lambda request: None)
    scheduler = make(ToyOptimizer(), runner)
    presser = press_ctrl_c(runner.submitted, times=2, gap=1.0)
    with pytest.raises(OptimizationInterrupted, match="1 have jobs that may run on"):
        scheduler.run_optimization(max_trials=1)
    presser.join()
    killed = died(scheduler, tmp_path)
    ended = threading.Timer(0.3, lambda: runner.end(runner.key_of(0), end))
    runner.finish = lambda request: 1.0
    ended.start()
    if same_session:
        scheduler.finish()  # waits for the job that was left
        assert scheduler.trials[0].state is TrialState.SUCCEEDED
    else:
        with resume(killed, runner) as again:
            again.finish()
            assert again.trials[0].state is TrialState.SUCCEEDED
    assert len(runner.requests) == 2


def test_a_trial_of_a_loaded_experiment_in_a_batch(make: Make, tmp_path):
    optimizer = ToyOptimizer()
    optimizer.attach({"x": 0.1, "y": 0.2})
    optimizer.save(tmp_path / "saved.json")
    scheduler = make()
    scheduler.run_optimization(max_trials=1)
    scheduler.load_experiment(tmp_path / "saved.json")
    with scheduler.batch_trial_context() as batch:
        batch.add_trial({"x": 0.1, "y": 0.2}, trial_index=0)
    scheduler.close()
    with resume(scheduler.run_directory, ToyRunner()) as again:
        assert again.client.count("COMPLETED") == 1
        dispatch = again._run.engine.dispatch
        request = dispatch.attempts.next(Record(0, {}), dispatch.lane_called("toy"))
        assert request.attempt == 3  # a number is never used again


def test_a_batch_that_could_not_be_run_keeps_its_trials(make: Make):
    scheduler = make(runner=ToyRunner(capabilities=("function",)))
    batch = Batch(scheduler._run, True)
    batch.add_generated(2)
    with pytest.raises(InvalidInput, match="No objective is set"):
        batch.run()
    scheduler.set_objective_function(loss)
    batch.run()
    assert len(batch.trials) == 2


def test_a_batch_that_was_half_attached_goes_on_with_what_there_is(make: Make, monkeypatch):
    optimizer, runner = ToyOptimizer(), ToyRunner()
    scheduler = make(optimizer, runner)
    batch = Batch(scheduler._run, True)
    points = [{"x": x / 10, "y": 0.5} for x in range(3)]
    for point in points:
        batch.add_trial(point)
    attach = optimizer.attach

    def full(parameters):
        if optimizer.rows:
            raise OSError("no space left")
        return attach(parameters)

    monkeypatch.setattr(optimizer, "attach", full)
    with pytest.raises(OSError, match="no space left"):
        batch.run()
    assert not batch.empty
    monkeypatch.undo()
    batch.run()
    assert [trial.parameters for trial in batch.trials] == points
    assert optimizer.count("COMPLETED") == len(optimizer.rows) == len(runner.requests) == 3


def test_what_was_left_to_make_survives_a_call_that_fails(make: Make, monkeypatch):
    monkeypatch.setattr("axsched_core.runners.calls.FAULTS_BEFORE_GIVING_UP", 1)
    optimizer, runner = ToyOptimizer(), ToyRunner()
    scheduler = make(optimizer, runner, max_parallelism=1)
    for _ in range(2):
        runner.faults["axsched_submit"] = [RuntimeError("bug")]
        with pytest.raises(RunnerError, match="bug"):
            scheduler.finish() if optimizer.rows else scheduler.run_optimization(max_trials=4)
    scheduler.finish()
    assert optimizer.count("COMPLETED") == len(optimizer.rows) == 4
    scheduler.run_optimization(max_trials=1)
    scheduler.finish()  # nothing is left
    assert len(optimizer.rows) == 5


def test_a_runner_that_cannot_be_closed_keeps_no_lock(make: Make):
    class Stuck(ToyRunner):
        @hookimpl
        def axsched_close(self, wait):
            raise RuntimeError("stuck")

    scheduler = make(ToyOptimizer(), Stuck())
    scheduler.run_optimization(max_trials=1)
    with pytest.raises(RunnerError, match="stuck"):
        scheduler.close()
    with resume(scheduler.run_directory, ToyRunner()) as again:
        assert again.client.count("COMPLETED") == 1


def test_a_trial_that_was_handed_out_is_on_disk(make: Make, tmp_path):
    scheduler = make()
    index = scheduler.get_next_trial()
    with resume(died(scheduler, tmp_path), ToyRunner()) as again:
        again.complete_trial(index, {"loss": 1.0})
        assert again.client.count("COMPLETED") == 1


def test_a_keyboard_interrupt_of_the_runners_own_ends_the_call(make: Make, in_thread):
    class Interrupted(ToyRunner):
        interrupts = 1

        @hookimpl
        def axsched_submit(self, requests):
            if self.interrupts:
                self.interrupts -= 1
                raise KeyboardInterrupt("the backend's")
            return super().axsched_submit(requests)

    scheduler = make(ToyOptimizer(), Interrupted())
    with pytest.raises(KeyboardInterrupt, match="the backend's"):
        in_thread(lambda: scheduler.run_optimization(max_trials=1)).result()


def test_that_a_job_is_stopped_is_written_once(make: Make):
    runner = ToyRunner(lambda request: None)
    runner.faults["axsched_cancel"] = [BackendUnavailable("down") for _ in range(3)]
    scheduler = make(ToyOptimizer(), runner)
    scheduler.run_trial(scheduler.get_next_trial())
    scheduler.close()
    kinds = [line["k"] for _, _, line in lines.read_lines(scheduler.run_directory / lines.NAME)]
    assert kinds.count("stopping") == 1


def test_numbers_that_were_passed_over_are_no_attempts(make: Make, tmp_path):
    killed, runner = in_the_middle(make, tmp_path)
    for number in (2, 3):
        (killed / "jobs" / f"00000-{number}").mkdir(parents=True)
    runner.statuses[runner.key_of(0)] = JobStatus(JobState.LOST)
    with resume(killed, runner, config={"on_exit": "leave"}) as again:
        again.monitor_trials()
        again.monitor_trials()
    assert list(runner.requests)[-1].endswith("-0-4")
    runner.statuses[runner.key_of(0)] = JobStatus(JobState.LOST)
    with resume(killed, runner) as again:
        again._run.lanes[0]._session._runner.finish = lambda request: 1.0
        again.finish()
        assert again.trials[0].state is TrialState.SUCCEEDED
        assert again.trials[0].attempts == 3


def test_a_machine_that_dies_is_not_the_jobs_time_limit(make: Make, monkeypatch):
    monkeypatch.setattr("axsched_core.run.timing.TIME_LIMIT_SLACK", 0.0)

    class DeadNode(ToyRunner):
        @hookimpl
        def axsched_cancel(self, handles, reason):
            self.finish = lambda request: 1.0
            for handle in handles:  # the backend sees only now that the node is gone
                self.end(handle.key, JobStatus(JobState.FAILED, Cause.NODE_FAIL))
            return {handle.key: CancelOutcome.REQUESTED for handle in handles}

    optimizer = ToyOptimizer()
    scheduler = make(optimizer, DeadNode(lambda r: None), max_trial_monitoring_time=0.2)
    scheduler.run_optimization(max_trials=1)
    assert optimizer.count("COMPLETED") == 1
    assert scheduler.trials[0].attempts == 2


def test_nothing_is_loaded_while_a_job_that_could_not_be_stopped_may_run(make: Make, tmp_path):
    runner = ToyRunner(lambda request: None)
    runner.cannot_cancel = True
    scheduler = make(ToyOptimizer(), runner)
    scheduler.save_experiment(tmp_path / "saved.json")
    presser = press_ctrl_c(runner.submitted)
    with pytest.raises(OptimizationInterrupted):
        scheduler.run_optimization(max_trials=1)
    presser.join()
    with pytest.raises(InvalidInput, match="jobs are in progress"):
        scheduler.load_experiment(tmp_path / "saved.json")
    scheduler.cancel()
    scheduler.load_experiment(tmp_path / "saved.json")
    assert scheduler.trials == {}
