"""Odd moments: what a reviewer's hunt has found, so that it stays found."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import time
import weakref

import pytest

from axsched_core import TrialState, hookimpl
from axsched_core.errors import (
    BackendUnavailable,
    InvalidInput,
    OptimizationInterrupted,
    OptimizerError,
    RunnerError,
    SchedulerBusy,
)
from axsched_core.jobs import Cause, JobState, JobStatus, NotReady, SubmitError
from axsched_core.run import loop
from support.ctrl_c import press_ctrl_c
from support.resuming import resume
from support.toy import Stubborn, ToyOptimizer, ToyRunner


@pytest.fixture(autouse=True)
def short_graces(monkeypatch):
    monkeypatch.setattr("axsched_core.run.timing.CANCEL_GRACE", 0.5)
    monkeypatch.setattr("axsched_core.run.timing.LEAVING_GRACE", 0.3)


def down(runner: ToyRunner, *hooks: str) -> None:
    for hook in hooks:
        runner.faults[hook] = [BackendUnavailable("down") for _ in range(1000)]


# ---- halting -----------------------------------------------------------------------------------


@pytest.mark.parametrize("hooks", [("axsched_cancel", "axsched_poll"), ("axsched_fetch_results",)])
def test_a_timeout_ends_a_run_in_an_outage(make, hooks):
    finish = {"axsched_cancel": lambda r: None}.get(hooks[0], lambda r: {"loss": 1})
    optimizer, runner = ToyOptimizer(), ToyRunner(finish)
    down(runner, *hooks)
    scheduler = make(optimizer, runner)
    with pytest.raises(OptimizerError, match=r"cancelled \(the run's timeout\) before any trial"):
        scheduler.run_optimization(max_trials=2, timeout=0.3)
    assert optimizer.count("ABANDONED") == 2
    runner.faults.clear()


def test_close_ends_in_an_outage(make):
    runner = ToyRunner(lambda r: None)
    scheduler = make(ToyOptimizer(), runner)
    scheduler.run_trial(scheduler.get_next_trial())
    down(runner, "axsched_cancel", "axsched_poll")
    scheduler.close()
    assert runner.closed == [True]


def test_a_job_that_is_to_be_tried_again_holds_no_halt_up(make, monkeypatch):
    """It ran over its limit, and its machine fails just when all is cancelled."""
    monkeypatch.setattr("axsched_core.run.timing.TIME_LIMIT_SLACK", 0.0)

    class FailsThen(Stubborn):
        polls_since = None

        @hookimpl
        def axsched_cancel(self, handles, reason):
            self.polls_since = 0
            return super().axsched_cancel(handles, reason)

        @hookimpl
        def axsched_poll(self, handles):
            if self.polls_since is not None:
                self.polls_since += 1
                if self.polls_since == 1:
                    scheduler.cancel()
                else:
                    for key in self.running():
                        self.end(key, JobStatus(JobState.FAILED, Cause.NODE_FAIL))
            return super().axsched_poll(handles)

    optimizer = ToyOptimizer()
    scheduler = make(optimizer, FailsThen(lambda r: None), max_trial_monitoring_time=0.1)
    with pytest.raises(OptimizerError, match="cancelled by the user"):
        scheduler.run_optimization(max_trials=1)
    assert optimizer.count("ABANDONED") == 1


@pytest.mark.parametrize(("way", "status"), [("ctrl-c", "RUNNING"), ("cancel", "ABANDONED")])
def test_a_result_that_is_not_ready_holds_no_halt_up(make, way, status):
    optimizer = ToyOptimizer()
    runner = ToyRunner(lambda r: NotReady("on its way"), result_grace=60)
    scheduler = make(optimizer, runner)
    presser = None
    if way == "ctrl-c":
        presser = press_ctrl_c(runner.submitted)
    else:
        presser = threading.Thread(target=lambda: (runner.submitted.acquire(), scheduler.cancel()))
        presser.start()
    with pytest.raises((OptimizationInterrupted, OptimizerError)):
        scheduler.run_optimization(max_trials=1)
    presser.join()
    assert optimizer.rows[0]["status"] == status


def test_a_job_in_doubt_is_found_again_and_cancelled(make):
    class LosesAnswers(ToyRunner):
        lost = 0

        @hookimpl
        def axsched_submit(self, requests):
            new = [r for r in requests if r.key not in self.requests]
            handles = super().axsched_submit(new)
            if new:
                raise BackendUnavailable("the answer is lost")
            from axsched_core.jobs import JobHandle

            return handles or [JobHandle(r.key, "found") for r in requests]

    runner, optimizer = LosesAnswers(lambda r: None), ToyOptimizer()
    scheduler = make(optimizer, runner, monitoring_interval=0.3)
    scheduler.run_trial(scheduler.get_next_trial())
    scheduler.close()
    assert runner.running() == []
    assert [key for key, _ in runner.cancels] == list(runner.requests)


def test_a_job_in_doubt_that_is_refused_holds_no_halt_up(make):
    class Full(ToyRunner):
        @hookimpl
        def axsched_submit(self, requests):
            if self.calls.count(("axsched_submit", 1)) == 0:
                self._called("axsched_submit", 1)
                raise BackendUnavailable("before it was taken")
            return [SubmitError("full", transient=True) for _ in requests]

    optimizer = ToyOptimizer()
    scheduler = make(optimizer, Full())
    scheduler.run_trial(scheduler.get_next_trial())
    scheduler.cancel()
    assert optimizer.count("ABANDONED") == 1


def test_a_trial_that_is_cancelled_and_refused_is_not_tried_again(make, monkeypatch):
    monkeypatch.setattr("axsched_core.runners.calls.pause_after_trouble", lambda *_: 0.0)
    answers = iter([BackendUnavailable("before it was taken"), SubmitError("full", transient=True)])

    def refuse(request):
        answer = next(answers, None) if request.trial_index == 0 else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    runner, optimizer = ToyRunner(), ToyOptimizer()
    runner.on_submit = refuse
    scheduler = make(optimizer, runner)
    scheduler.run_trial(scheduler.get_next_trial())
    scheduler.abandon_trial(0)
    scheduler.run_optimization(max_trials=2)
    statuses = [row["status"] for row in optimizer.rows.values()]
    assert statuses == ["ABANDONED", "COMPLETED", "COMPLETED"]
    assert {request.trial_index for request in runner.requests.values()} == {1, 2}


@pytest.mark.parametrize("fault", ["outage", "not ready"])
def test_ctrl_c_loses_no_result_that_cannot_be_fetched_now(make, tmp_path, fault):
    """The job has ended well: it is not run again."""
    runner = ToyRunner(lambda r: None, result_grace=60)
    scheduler = make(ToyOptimizer(), runner)
    scheduler.run_trial(scheduler.get_next_trial())
    runner.end(runner.key_of(0), {"loss": 3.0} if fault == "outage" else NotReady("on its way"))
    if fault == "outage":
        down(runner, "axsched_fetch_results")
    scheduler.close()
    runner.results[runner.key_of(0)] = {"loss": 3.0}
    with resume(scheduler.run_directory, runner) as again:
        again.finish()
        assert again.trials[0].results == {"loss": (3.0, None)}
    assert len(runner.requests) == 1


def test_the_only_place_may_be_taken_by_the_job_in_doubt(make):
    class OnePlace(ToyRunner):
        @hookimpl
        def axsched_submit(self, requests):
            again = [r for r in requests if r.key in self.requests]
            if again:
                self.end(again[0].key, {"loss": 1.0})
                from axsched_core.jobs import JobHandle

                return [JobHandle(again[0].key)]
            super().axsched_submit(requests)
            raise ConnectionResetError("after it was taken")

    runner, optimizer = OnePlace(lambda r: None), ToyOptimizer()
    runner.free = lambda: 1 - len(runner.running())
    make(optimizer, runner).run_optimization(max_trials=2)
    assert optimizer.count("COMPLETED") == 2


def test_a_second_ctrl_c_leaves_a_runner_that_does_not_return(make):
    released, blocked = threading.Event(), threading.Event()

    class Blocks(ToyRunner):
        @hookimpl
        def axsched_poll(self, handles):
            blocked.set()
            released.wait(30)
            return {}

    optimizer = ToyOptimizer()
    scheduler = make(optimizer, Blocks(lambda r: None))
    presser = press_ctrl_c(blocked, times=2)
    try:
        with pytest.raises(OptimizationInterrupted, match="1 have jobs that may run on"):
            scheduler.run_optimization(max_trials=1)
    finally:
        released.set()
        presser.join()


def test_an_optimizer_that_is_just_done_is_not_held_against_the_runner(make, monkeypatch):
    monkeypatch.setattr("axsched_core.run.timing.LEAVING_GRACE", 30)
    monkeypatch.setattr("axsched_core.run.timing.CTRL_C_LAG", 0.01)
    asked, told, leaving = threading.Event(), threading.Event(), threading.Event()
    wait = loop.wait

    def recorded(futures, timeout):
        if timeout == 30:
            leaving.set()
        return wait(futures, timeout)

    class Slow:
        @hookimpl
        def axsched_on_event(self, event):
            if told.is_set():  # the optimizer is done, and the call is not
                leaving.wait(10)

    def ask(n):
        asked.set()
        presser.join(10)
        told.set()

    monkeypatch.setattr(loop, "wait", recorded)
    optimizer = ToyOptimizer()
    optimizer.on_ask = ask
    scheduler = make(optimizer, plugins=[Slow()])
    presser = press_ctrl_c(asked, times=2)
    with pytest.raises(OptimizationInterrupted):
        scheduler.run_optimization(max_trials=1)
    assert leaving.is_set()
    assert not scheduler._run.engine.loop.left_behind


def test_jobs_are_cancelled_at_close_whatever_the_optimizer_says(make, caplog):
    class Broken(ToyOptimizer):
        def content(self):
            if broken:
                raise RuntimeError("no content")
            return super().content()

    broken = False
    runner = ToyRunner(lambda r: None)
    scheduler = make(Broken(), runner)
    scheduler.run_trial(scheduler.get_next_trial())
    broken = True
    scheduler.close()
    assert runner.running() == []
    assert runner.closed == [True]
    assert "close: what has changed since the last call is not written: no content" in caplog.text


def test_ctrl_c_is_told_although_the_experiment_cannot_be_saved(make, caplog):
    class Broken(ToyOptimizer):
        def save(self, path):
            if path.name == "experiment.json":
                raise RuntimeError("no such encoder")
            super().save(path)

    runner = Stubborn(lambda r: None)
    scheduler = make(Broken(), runner)
    presser = press_ctrl_c(runner.polled)
    with pytest.raises(OptimizationInterrupted, match=r"To go on: scheduler.finish\(\)"):
        scheduler.run_optimization(max_trials=1)
    presser.join()
    assert "could not be saved" in caplog.text
    assert "no such encoder" in caplog.text


def test_two_ctrl_c_at_once_have_the_jobs_told_to_stop_all_the_same(make, monkeypatch):
    monkeypatch.setattr("axsched_core.run.timing.LEAVING_GRACE", 30)
    polled = threading.Event()

    class Slow(ToyRunner):
        @hookimpl
        def axsched_poll(self, handles):
            polled.set()
            presser.join(10)
            return super().axsched_poll(handles)

    runner = Slow(lambda r: None)
    scheduler = make(runner=runner)
    presser = press_ctrl_c(polled, times=2)
    with pytest.raises(OptimizationInterrupted):
        scheduler.run_optimization(max_trials=1)
    assert runner.running() == []


def test_ctrl_c_twice_loses_no_trial(make, monkeypatch):
    monkeypatch.setattr("axsched_core.run.timing.CANCEL_GRACE", 60)
    optimizer, runner = ToyOptimizer(), Stubborn(lambda r: None)
    scheduler = make(optimizer, runner, max_parallelism=2)
    presser = press_ctrl_c(runner.polled, times=2)
    with pytest.raises(OptimizationInterrupted, match="2 have jobs that may run on, 3 have not"):
        scheduler.run_optimization(max_trials=5)
    presser.join()
    runner.finish = lambda r: {"loss": 1}
    for key in runner.running():
        runner.end(key, {"loss": 2})
    scheduler.finish()
    assert optimizer.count("COMPLETED") == 5


def test_a_cancel_that_comes_while_a_run_is_prepared_is_obeyed(make):
    optimizer = ToyOptimizer()
    scheduler = make(optimizer)
    optimizer.initial_trials_left = lambda: scheduler.cancel() or 0
    with pytest.raises(OptimizerError, match="cancelled by the user"):
        scheduler.run_optimization(max_trials=3)
    assert optimizer.rows == {}


def test_ctrl_c_does_not_use_up_attempts(make):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda r: None)
    scheduler = make(optimizer, runner)
    for _ in range(3):
        presser = press_ctrl_c(runner.submitted)
        with pytest.raises(OptimizationInterrupted):
            scheduler.run_optimization(1) if not optimizer.rows else scheduler.finish()
        presser.join()
    answers = iter([JobStatus(JobState.LOST), {"loss": 1.0}])
    runner.finish = lambda r: next(answers)
    scheduler.finish()
    assert scheduler.trials[0].state is TrialState.SUCCEEDED
    assert len(optimizer.rows) == 1


# ---- after a failure ---------------------------------------------------------------------------


def test_trials_of_a_failed_run_are_taken_up_by_the_next(make, monkeypatch):
    monkeypatch.setattr("axsched_core.runners.calls.FAULTS_BEFORE_GIVING_UP", 1)
    optimizer, runner = ToyOptimizer(limit=2), ToyRunner()
    runner.faults["axsched_capacity"] = []
    runner.faults["axsched_submit"] = [RuntimeError("bug")]
    scheduler = make(optimizer, runner)
    with pytest.raises(RunnerError, match="bug"):
        scheduler.run_optimization(max_trials=2)
    scheduler.run_optimization(max_trials=1)
    assert optimizer.count("COMPLETED") == 3


def test_one_look_does_not_wait_for_other_jobs(make):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda r: None)
    scheduler = make(optimizer, runner)
    scheduler.run_trial(scheduler.get_next_trial())

    def fail(n):
        raise ValueError("cannot fit")

    optimizer.on_ask = fail
    with (
        pytest.raises(OptimizerError, match="cannot fit"),
        scheduler.batch_trial_context(synchronous=False) as batch,
    ):
        batch.add_generated(1)
    assert not scheduler.trials[0].state.ended


def test_a_removed_run_directory_does_not_stop_a_run(make, caplog):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda r: None)
    scheduler = make(optimizer, runner)
    scheduler.run_trial(scheduler.get_next_trial())
    shutil.rmtree(scheduler.run_directory)
    runner.end(runner.key_of(0), {"loss": 1.0})
    assert scheduler.wait_for_completed_trials()[0].results == {"loss": (1.0, None)}
    assert "was removed" in caplog.text
    scheduler.close()
    assert runner.closed == [True]


def test_a_job_that_was_never_sent_gets_the_new_objective(make):
    runner = ToyRunner(lambda r: None)
    sent = []
    runner.on_submit = lambda request: sent.append(request.attempt)
    scheduler = make(ToyOptimizer(), runner)
    index = scheduler.get_next_trial()
    flush = scheduler._run.writer.flush
    scheduler._run.write_down()
    scheduler._run.writer.flush = lambda: (_ for _ in ()).throw(InvalidInput("the disk is full"))
    with pytest.raises(InvalidInput, match="the disk is full"):
        scheduler.run_trial(index)
    scheduler._run.writer.flush = flush
    scheduler.run_trial(index)
    assert sent == [1]


# ---- observers, threads, memory ----------------------------------------------------------------


def test_an_observer_that_exits_ends_nothing(make):
    class Exits:
        @hookimpl
        def axsched_on_event(self, event):
            raise SystemExit("stop")

    optimizer = ToyOptimizer()
    make(optimizer, plugins=[Exits()]).run_optimization(max_trials=2)
    assert optimizer.count("COMPLETED") == 2


def test_a_dropped_scheduler_leaves_no_thread(make):
    from axsched_core import AxScheduler

    before = threading.active_count()
    scheduler = AxScheduler(ToyOptimizer(), ToyRunner(), {"progress": False})
    scheduler.preview()
    dropped, engine = weakref.ref(scheduler), scheduler._run.engine.loop._thread
    del scheduler
    gc.collect()
    assert dropped() is None
    engine.join(10)
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before  # one of an earlier test may have ended, too


def test_two_schedulers_of_one_optimizer_take_turns(make, in_thread):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda r: None)
    first, second = make(optimizer, runner), make(optimizer)
    run = in_thread(lambda: first.run_optimization(max_trials=1))
    assert runner.submitted.acquire(timeout=10)
    with pytest.raises(SchedulerBusy):
        second.run_optimization(max_trials=1)
    runner.end(runner.running()[0], {"loss": 1.0})
    run.result()
    second.run_optimization(max_trials=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_ends(make):
    make().run_optimization(max_trials=1)
    pid = os.fork()
    if pid == 0:
        import atexit

        atexit._run_exitfuncs()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


# ---- batches -----------------------------------------------------------------------------------


def test_a_run_also_makes_what_a_batch_has_still_to_make(make):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda r: None)
    scheduler = make(optimizer, runner, max_parallelism=1)
    with scheduler.batch_trial_context(synchronous=False) as batch:
        batch.add_generated(5)
    runner.finish = lambda r: {"loss": 1.0}
    runner.end(runner.running()[0], {"loss": 1.0})
    scheduler.run_optimization(max_trials=2)
    assert optimizer.count("COMPLETED") == 7


def test_a_trial_that_went_its_way_meanwhile_is_not_run_twice(make):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda r: None)
    scheduler = make(optimizer, runner)
    index = scheduler.get_next_trial()
    parameters = optimizer.rows[index]["parameters"]
    with (
        pytest.raises(InvalidInput, match="Trial 0 is in progress already"),
        scheduler.batch_trial_context() as batch,
    ):
        batch.add_trial(parameters, trial_index=index)
        scheduler.run_trial(index)
    assert len(runner.requests) == 1


def test_parameters_that_json_cannot_hold_fail_alone(make):
    optimizer = ToyOptimizer()
    optimizer.attach({"x": 0.5, "y": 0.5})
    optimizer.rows[0]["parameters"]["x"] = {1, 2}
    scheduler = make(optimizer, durable=False)
    scheduler.run_trial(0)
    scheduler.run_optimization(max_trials=1)
    assert scheduler.trials[0].cause is Cause.SUBMIT_REFUSED
    assert "cannot be written as JSON" in scheduler.trials[0].message


def test_an_objective_is_not_changed_under_trials_that_wait(make):
    runner = ToyRunner(lambda r: None, capabilities=["function"])
    scheduler = make(ToyOptimizer(), runner, max_parallelism=1)
    scheduler.set_objective_function(lambda x, y: x)
    for _ in range(2):
        scheduler.run_trial(scheduler.get_next_trial())
    with pytest.raises(InvalidInput, match="waiting to be run with the objective that was set"):
        scheduler.set_objective_function(lambda x, y: y)


def test_the_same_scheduler_goes_on_with_a_loaded_experiment(make, tmp_path):
    scheduler = make()
    scheduler.run_optimization(max_trials=2)
    scheduler.save_experiment(tmp_path / "saved.json")
    scheduler.run_optimization(max_trials=1)
    scheduler.load_experiment(tmp_path / "saved.json")
    scheduler.run_optimization(max_trials=2)
    assert scheduler.client.count("COMPLETED") == 4
    keys = [row["metadata"]["axsched"]["key"] for row in scheduler.client.rows.values()]
    assert len(set(keys)) == 4
    assert keys[2].endswith("-2-2")  # trial 2 had a job before, of an experiment that is gone
