"""The loop, driven through the scheduler with the tests' own optimizer and runner."""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path

import pytest

from axsched_core import TrialState, hookimpl
from axsched_core.errors import (
    AllTrialsFailed,
    BackendUnavailable,
    OptimizationStuck,
    OptimizerError,
    RunnerError,
    SchedulerBusy,
)
from axsched_core.events import Event, JobRequeued, JobStarted, TrialEnded
from axsched_core.jobs import Cause, JobState, JobStatus, NotReady, SubmitError
from support.toy import ToyOptimizer, ToyRunner
from support.waiting import wait_until


def test_runs_the_budget_and_returns_the_best(make):
    optimizer = ToyOptimizer()
    best = make(optimizer).run_optimization(max_trials=20)
    assert optimizer.count("COMPLETED") == 20
    assert best.parameters["x"] == min(row["parameters"]["x"] for row in optimizer.rows.values())
    assert sorted(optimizer.told) == [(i, "COMPLETED") for i in range(20)]


def test_a_second_run_adds_to_the_first(make):
    optimizer = ToyOptimizer()
    scheduler = make(optimizer)
    scheduler.run_optimization(max_trials=3)
    scheduler.run_optimization(max_trials=2)
    assert len(optimizer.rows) == 5


def test_trials_made_by_hand_are_not_counted(make):
    optimizer = ToyOptimizer()
    scheduler = make(optimizer)
    with scheduler.batch_trial_context() as batch:
        batch.add_trial({"x": 0.5, "y": 0.5})
    scheduler.run_optimization(max_trials=4)
    assert optimizer.count("COMPLETED") == 5


def test_what_a_trial_shows(make):
    scheduler = make(ToyOptimizer(), ToyRunner(lambda r: {"loss": (0.5, 0.1), "time": 3}))
    scheduler.run_optimization(max_trials=1)
    trial = scheduler.trials[0]
    assert trial.state is TrialState.SUCCEEDED
    assert trial.results == {"loss": (0.5, 0.1), "time": (3.0, None)}
    assert trial.attempts == 1
    assert trial.cause is None
    assert json.loads((trial.folder / "params.json").read_text()) == trial.parameters
    assert json.loads((trial.folder / "result.json").read_text()) == {
        "loss": [0.5, 0.1],
        "time": [3.0, None],
    }


def test_the_optimizers_trial_knows_its_job(make):
    optimizer = ToyOptimizer()
    scheduler = make(optimizer)
    scheduler.run_optimization(max_trials=1)
    mark = optimizer.rows[0]["metadata"]["axsched"]
    assert mark["runner"] == "toy"
    assert mark["backend_id"] == "toy-1"
    assert mark["folder"] == str(scheduler.trials[0].folder)
    assert mark["key"].endswith("-0-1")


# ---- parallelism -----------------------------------------------------------------------------


def test_eight_at_once_where_nobody_knows_the_capacity(make, in_thread):
    runner = ToyRunner(lambda r: None)
    scheduler = make(ToyOptimizer(), runner)
    run = in_thread(lambda: scheduler.run_optimization(max_trials=20))
    for n in range(20):
        assert runner.submitted.acquire(timeout=10)
        if n >= 7:  # eight are running: one ends, and its place is taken at once
            assert len(runner.running()) == 8
            runner.end(runner.running()[0], {"loss": 1.0})
    for key in runner.running():
        runner.end(key, {"loss": 1.0})
    run.result()
    assert runner.most_at_once == 8


@pytest.mark.parametrize(
    ("config", "free", "most"),
    [
        ({"max_parallelism": 3}, lambda r: None, 3),
        ({"max_parallelism": 3}, lambda r: 2 - len(r.running()), 2),
        ({}, lambda r: 12 - len(r.running()), 12),
        ({"synchronous": True}, lambda r: 12 - len(r.running()), 1),
    ],
)
def test_parallelism_is_the_least_of_all_limits(make, in_thread, config, free, most):
    runner = ToyRunner(lambda r: None)
    runner.free = lambda: free(runner)
    scheduler = make(ToyOptimizer(), runner, **config)
    run = in_thread(lambda: scheduler.run_optimization(max_trials=14))
    for _ in range(14):
        assert runner.submitted.acquire(timeout=10)
        if len(runner.running()) == most:
            runner.end(runner.running()[0], {"loss": 1.0})
    for key in runner.running():
        runner.end(key, {"loss": 1.0})
    run.result()
    assert runner.most_at_once == most


def test_the_optimizers_own_limit_is_waited_out(make, in_thread):
    optimizer, runner = ToyOptimizer(limit=2), ToyRunner(lambda r: None)
    run = in_thread(lambda: make(optimizer, runner).run_optimization(max_trials=6))
    for _ in range(6):
        assert runner.submitted.acquire(timeout=10)
        if len(runner.running()) == 2:
            runner.end(runner.running()[0], {"loss": 1.0})
    for key in runner.running():
        runner.end(key, {"loss": 1.0})
    run.result()
    assert runner.most_at_once == 2
    assert optimizer.count("COMPLETED") == 6


def test_a_capacity_that_comes_back_without_a_word_is_noticed(make, in_thread):
    full = threading.Event()
    runner = ToyRunner()

    def free():
        if full.is_set():
            return 4
        asked.release()
        return 0

    asked = threading.Semaphore(0)
    runner.free = free
    run = in_thread(lambda: make(ToyOptimizer(), runner).run_optimization(max_trials=3))
    assert asked.acquire(timeout=10)
    full.set()
    run.result()
    assert len(runner.requests) == 3


def test_one_batch_one_submission_and_one_ask(make):
    optimizer, runner = ToyOptimizer(), ToyRunner(free=lambda: 50)
    make(optimizer, runner).run_optimization(max_trials=50)
    assert optimizer.asks == [50]
    assert [size for hook, size in runner.calls if hook == "axsched_submit"] == [50]


# ---- threads ---------------------------------------------------------------------------------


def test_the_optimizer_and_the_runner_have_one_thread_each(make):
    optimizer, runner = ToyOptimizer(), ToyRunner()
    scheduler = make(optimizer, runner)
    scheduler.run_optimization(max_trials=10)
    scheduler.run_trial(scheduler.get_next_trial())
    scheduler.wait_for_completed_trials()
    assert len(optimizer.threads) == len(runner.threads) == 1
    assert optimizer.threads != runner.threads
    assert threading.get_ident() not in optimizer.threads | runner.threads


def test_a_second_thread_is_refused(make, in_thread):
    runner = ToyRunner(lambda r: None)
    scheduler = make(ToyOptimizer(), runner)
    run = in_thread(lambda: scheduler.run_optimization(max_trials=1))
    assert runner.submitted.acquire(timeout=10)
    with pytest.raises(SchedulerBusy, match="monitor_trials: another call"):
        scheduler.monitor_trials()
    runner.end(runner.running()[0], {"loss": 1.0})
    run.result()


def test_an_observer_that_calls_back_is_refused(make):
    class Meddler:
        error: Exception | None = None

        @hookimpl
        def axsched_on_event(self, event: Event) -> None:
            if isinstance(event, TrialEnded):
                try:
                    scheduler.get_next_trial()
                except SchedulerBusy as error:
                    self.error = error

    meddler = Meddler()
    scheduler = make(plugins=[meddler])
    scheduler.run_optimization(max_trials=1)
    assert "observer" in str(meddler.error)


# ---- results that are none -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"loss": float("nan")}, "metric 'loss' is nan, not a finite number"),
        ({"loss": float("inf")}, "metric 'loss' is inf, not a finite number"),
        ({"loss": "0.5"}, "metric 'loss' is '0.5', not a number"),
        ({"los": 0.5}, "lacks 'loss'; it has 'los'"),
        ({}, "it has no metrics at all"),
        ({"loss": (1, 2, 3)}, "not (mean, sem)"),
        ({"loss": (1, -1)}, "negative"),
        ({"loss": True}, "not a number"),
        ({"loss": {"mean": 1, "std": 2}}, '"mean": number'),
        ([1, 2, 3], "not (mean, sem)"),
    ],
)
def test_an_invalid_result_fails_its_trial_and_is_not_told(make, result, words):
    optimizer = ToyOptimizer()
    runner = ToyRunner(lambda r: result if r.trial_index == 0 else {"loss": 1.0})
    scheduler = make(optimizer, runner)
    scheduler.run_optimization(max_trials=2)
    trial = scheduler.trials[0]
    assert (trial.state, trial.cause) == (TrialState.FAILED, Cause.RESULT_INVALID)
    assert words in trial.message
    assert optimizer.rows[0]["status"] == "ABANDONED"
    assert optimizer.rows[0]["metrics"] is None


def test_a_late_result_is_waited_for(make):
    runner = ToyRunner(result_grace=30)
    looks = iter([NotReady("not yet"), NotReady("not yet")])
    plain = runner.axsched_fetch_results

    class Late(ToyRunner):
        @hookimpl
        def axsched_fetch_results(self, handles):
            late = next(looks, None)
            if late is not None:
                return {handle.key: late for handle in handles}
            return plain.__func__(self, handles)

    late = Late(result_grace=30)
    scheduler = make(ToyOptimizer(), late)
    scheduler.run_optimization(max_trials=1)
    assert scheduler.trials[0].state is TrialState.SUCCEEDED
    assert next(looks, "used up") == "used up"


def test_a_result_that_never_comes_is_given_up(make):
    runner = ToyRunner(lambda r: NotReady("gone") if r.trial_index == 0 else {"loss": 1})
    scheduler = make(ToyOptimizer(), runner)
    scheduler.run_optimization(max_trials=2)
    assert scheduler.trials[0].cause is Cause.RESULT_INVALID
    assert "left no result (gone)" in scheduler.trials[0].message


def test_when_all_trials_fail_the_error_says_why(make):
    failed = JobStatus(JobState.FAILED, Cause.EXCEPTION, "ValueError: bad mesh")
    scheduler = make(ToyOptimizer(), ToyRunner(lambda r: failed))
    with pytest.raises(AllTrialsFailed) as caught:
        scheduler.run_optimization(max_trials=5)
    assert "All 5 trials failed" in str(caught.value)
    assert "5 trials: EXCEPTION: ValueError: bad mesh (first: trial 0, " in str(caught.value)


# ---- faults of the machines ------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        JobStatus(JobState.LOST),
        JobStatus(JobState.FAILED, Cause.NODE_FAIL),
        JobStatus(JobState.FAILED, Cause.PREEMPTED),
    ],
)
def test_a_fault_of_the_machines_is_tried_again_under_a_new_key(make, fault):
    optimizer = ToyOptimizer()
    runner = ToyRunner(lambda r: fault if r.attempt < 3 else {"loss": 1.0})
    scheduler = make(optimizer, runner)
    scheduler.run_optimization(max_trials=1)
    assert scheduler.trials[0].state is TrialState.SUCCEEDED
    assert [key.rsplit("-", 1)[1] for key in runner.requests] == ["1", "2", "3"]
    assert optimizer.told == [(0, "COMPLETED")]


def test_three_attempts_are_enough(make):
    runner = ToyRunner(lambda r: JobStatus(JobState.LOST, message="gone from every list"))
    scheduler = make(ToyOptimizer(), runner)
    with pytest.raises(AllTrialsFailed, match="LOST: gone from every list"):
        scheduler.run_optimization(max_trials=1)
    assert len(runner.requests) == 3


def test_an_objective_that_fails_is_not_tried_again(make):
    failed = JobStatus(JobState.FAILED, Cause.EXIT_CODE, exit_code=3)
    runner = ToyRunner(lambda r: failed)
    with pytest.raises(AllTrialsFailed):
        make(ToyOptimizer(), runner).run_optimization(max_trials=1)
    assert len(runner.requests) == 1


def test_an_outage_changes_no_job(make):
    runner = ToyRunner()
    runner.faults["axsched_poll"] = [BackendUnavailable("down")] * 8
    runner.faults["axsched_submit"] = [BackendUnavailable("down")] * 8
    optimizer = ToyOptimizer()
    make(optimizer, runner).run_optimization(max_trials=3)
    assert optimizer.count("COMPLETED") == 3
    assert len(runner.requests) == 3


def test_a_submission_of_unknown_outcome_keeps_its_key(make):
    taken: list[str] = []

    class Unsure(ToyRunner):
        @hookimpl
        def axsched_submit(self, requests):
            taken.extend(request.key for request in requests)
            if len(taken) == 2:
                raise ConnectionResetError("after the backend took them")
            return [self._submit(request) for request in requests]

    scheduler = make(ToyOptimizer(), Unsure())
    scheduler.run_optimization(max_trials=2)
    assert taken[:2] == taken[2:]
    assert [trial.attempts for trial in scheduler.trials.values()] == [1, 1]


def test_a_broken_runner_ends_the_run_with_words(make):
    runner = ToyRunner(lambda r: None)
    runner.faults["axsched_poll"] = [KeyError("state")] * 9
    scheduler = make(ToyOptimizer(), runner)
    with pytest.raises(
        RunnerError, match=r"Runner 'toy': axsched_poll: KeyError: 'state' \(5 times"
    ):
        scheduler.run_optimization(max_trials=1)
    # Nothing is lost: the job is still known, and taken up again.
    runner.faults.clear()
    runner.end(runner.running()[0], {"loss": 1.0})
    assert scheduler.wait_for_completed_trials()[0].state is TrialState.SUCCEEDED


def test_refused_submissions(make):
    runner = ToyRunner()
    tries: list[int] = []

    def refuse(request):
        if request.trial_index == 0:
            tries.append(request.attempt)
            return SubmitError("no such partition")
        return None

    runner.on_submit = refuse
    scheduler = make(ToyOptimizer(), runner)
    scheduler.run_optimization(max_trials=2)
    trial = scheduler.trials[0]
    assert (trial.state, trial.cause) == (TrialState.FAILED, Cause.SUBMIT_REFUSED)
    assert trial.message == "no such partition"
    assert tries == [1]
    assert scheduler.trials[1].state is TrialState.SUCCEEDED


def test_an_absent_key_means_no_information(make, in_thread, monkeypatch):
    monkeypatch.setattr("axsched_core.run.timing.CANCEL_GRACE", 0.2)
    polled = threading.Semaphore(0)

    class Mute(ToyRunner):
        @hookimpl
        def axsched_poll(self, handles):
            polled.release()
            return {}

    runner = Mute(lambda r: None)
    scheduler = make(ToyOptimizer(), runner)
    run = in_thread(lambda: scheduler.run_optimization(max_trials=1))
    for _ in range(3):
        assert polled.acquire(timeout=10)
    assert not scheduler.trials[0].state.ended
    scheduler.cancel()
    with pytest.raises(OptimizerError):
        run.result()


def test_a_requeue_goes_back_to_queued(make, in_thread):
    runner = ToyRunner(lambda r: None)
    seen = threading.Event()

    class Watch:
        states: list[str] = []

        @hookimpl
        def axsched_on_event(self, event: Event) -> None:
            match event:
                case JobStarted(key=key):
                    self.states.append("RUNNING")
                    runner.statuses[key] = JobStatus(JobState.QUEUED, backend_state="PD")
                case JobRequeued():
                    self.states.append("QUEUED")
                    if self.states == ["RUNNING", "QUEUED"]:
                        seen.set()

    scheduler = make(ToyOptimizer(), runner, plugins=[Watch()])
    run = in_thread(lambda: scheduler.run_optimization(max_trials=1))
    assert seen.wait(10)
    runner.end(runner.key_of(0), {"loss": 1.0})
    run.result()


# ---- limits of time --------------------------------------------------------------------------


def test_a_timeout_cancels_and_abandons(make):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda r: None if r.trial_index else {"loss": 1})
    scheduler = make(optimizer, runner, max_parallelism=3)
    best = scheduler.run_optimization(max_trials=10, timeout=0.5)
    assert best.parameters == optimizer.rows[0]["parameters"]
    assert optimizer.count("ABANDONED") == 3
    assert optimizer.count("RUNNING") == 0
    assert {reason for _, reason in runner.cancels} == {"the run's timeout"}
    assert scheduler.trials[1].state is TrialState.CANCELLED


def test_a_job_over_its_time_limit_is_cancelled_and_fails(make, monkeypatch):
    monkeypatch.setattr("axsched_core.run.timing.TIME_LIMIT_SLACK", 0.0)
    runner = ToyRunner(lambda r: None if r.trial_index == 0 else {"loss": 1})
    scheduler = make(ToyOptimizer(), runner, max_trial_monitoring_time=0.2)
    scheduler.run_optimization(max_trials=2)
    trial = scheduler.trials[0]
    assert (trial.state, trial.cause) == (TrialState.FAILED, Cause.TIME_LIMIT)
    assert "0.2 s" in trial.message


def test_the_time_for_which_a_job_is_suspended_is_not_its_own(make, monkeypatch):
    monkeypatch.setattr("axsched_core.run.timing.TIME_LIMIT_SLACK", 0.0)
    runner = ToyRunner(lambda request: None)
    scheduler = make(runner=runner, max_trial_monitoring_time=0.3)
    scheduler.run_trial(scheduler.get_next_trial())
    key, job = runner.key_of(0), scheduler._run.engine.records[0].job

    def says(suspended: bool) -> None:
        runner.end(key, JobStatus(JobState.RUNNING, suspended=suspended))
        wait_until(
            lambda: scheduler.monitor_trials() and (job.suspended_since is not None) is suspended
        )

    says(suspended=True)
    began = time.monotonic()
    wait_until(lambda: scheduler.monitor_trials() and time.monotonic() > began + 0.4)
    assert runner.cancels == []
    says(suspended=False)
    assert runner.cancels == []
    trial = scheduler.wait_for_completed_trials()[0]
    assert trial.cause is Cause.TIME_LIMIT


def test_a_job_that_cannot_be_cancelled_holds_nothing_up(make, caplog):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda r: None if r.trial_index else {"loss": 1})
    runner.cannot_cancel = True
    make(optimizer, runner).run_optimization(max_trials=2, timeout=0.3)
    assert optimizer.rows[1]["status"] == "ABANDONED"
    assert "could not be stopped and may still run" in caplog.text
    runner.cannot_cancel = False


def test_a_result_that_comes_while_it_is_cancelled_is_told(make, in_thread):
    class Slow(ToyRunner):
        @hookimpl
        def axsched_cancel(self, handles, reason):
            for handle in handles:
                self.end(handle.key, {"loss": 0.25})
            return {}

    optimizer = ToyOptimizer()
    make(optimizer, Slow(lambda r: None)).run_optimization(max_trials=1, timeout=0.2)
    assert optimizer.rows[0]["metrics"] == {"loss": (0.25, None)}


# ---- whose optimizer is it -------------------------------------------------------------------


def test_a_trial_that_the_user_has_ended_is_cancelled_and_not_told(make):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda r: None)
    scheduler = make(optimizer, runner)
    scheduler.run_trial(scheduler.get_next_trial())
    optimizer.rows[0]["status"] = "ABANDONED"
    trials = scheduler.wait_for_completed_trials()
    assert trials[0].state is TrialState.CLOSED
    assert "ABANDONED" in trials[0].message
    assert len(runner.cancels) == 1
    assert optimizer.told == []


def test_stuck_when_nobody_runs_what_the_optimizer_waits_for(make):
    optimizer = ToyOptimizer(limit=1)
    optimizer.attach({"x": 0.1, "y": 0.1})
    scheduler = make(optimizer)
    with pytest.raises(OptimizationStuck, match=r"nobody runs them here: 0\..*run_trial\(0\)"):
        scheduler.run_optimization(max_trials=2)
    scheduler.abandon_trial(0)
    scheduler.run_optimization(max_trials=2)
    assert optimizer.count("COMPLETED") == 2


def test_a_complete_optimization_ends_in_good_order(make):
    optimizer = ToyOptimizer(total=5)
    make(optimizer).run_optimization(max_trials=20)
    assert optimizer.count("COMPLETED") == 5


def test_an_error_while_generating_lets_running_jobs_come_home(make):
    optimizer = ToyOptimizer()
    runner = ToyRunner()

    def fail(n):
        if len(optimizer.rows) >= 2:
            raise ZeroDivisionError("no model")

    optimizer.on_ask = fail
    scheduler = make(optimizer, runner, max_parallelism=2, prefetch=0)
    with pytest.raises(OptimizerError, match="could not generate a candidate: ZeroDivisionError"):
        scheduler.run_optimization(max_trials=6)
    assert optimizer.count("COMPLETED") == 2


def test_results_that_cannot_be_told_are_told_by_the_next_call(make):
    optimizer = ToyOptimizer()

    def fail(outcomes):
        if outcomes:
            raise OSError("database is locked")

    optimizer.on_tell = fail
    scheduler = make(optimizer)
    with pytest.raises(OptimizerError, match="could not take the results: OSError: database"):
        scheduler.run_optimization(max_trials=1)
    optimizer.on_tell = lambda outcomes: None
    scheduler.wait_for_completed_trials()
    assert optimizer.count("COMPLETED") == 1


def test_a_small_budget_is_warned_about(make, caplog):
    make(ToyOptimizer(initial=5)).run_optimization(max_trials=5)
    assert "leaves the optimizer no model-based trial" in caplog.text
    caplog.clear()
    make(ToyOptimizer(initial=5)).run_optimization(max_trials=6)
    assert "model-based" not in caplog.text


# ---- observers -------------------------------------------------------------------------------


def test_events_in_order_and_a_raising_observer_silences_nobody(make, caplog):
    class Broken:
        @hookimpl
        def axsched_on_event(self, event: Event) -> None:
            raise RuntimeError("observer fault")

    class Record:
        kinds: list[str] = []

        @hookimpl
        def axsched_on_event(self, event: Event) -> None:
            self.kinds.append(type(event).__name__)

    record = Record()
    with caplog.at_level(logging.ERROR):
        make(plugins=[Broken(), record, Broken()]).run_optimization(max_trials=1)
    assert record.kinds == [
        "Message",
        "RunStarted",
        "TrialCreated",
        "JobSubmitted",
        "TrialEnded",
        "RunEnded",
    ]
    assert "observer fault" in caplog.text


def test_observers_watch_while_the_optimizer_rests(make):
    optimizer = ToyOptimizer()
    busy = threading.Event()
    overlaps: list[str] = []

    class Watch:
        @hookimpl
        def axsched_on_event(self, event: Event) -> None:
            if busy.is_set():
                overlaps.append(type(event).__name__)

    def ask(n):
        busy.set()
        busy.clear()

    optimizer.on_ask = ask
    make(optimizer, plugins=[Watch()]).run_optimization(max_trials=30)
    assert overlaps == []


def test_folders_of_succeeded_trials_go_when_that_is_wished(make):
    failed = JobStatus(JobState.FAILED, Cause.EXIT_CODE, "exit code 1")
    runner = ToyRunner(lambda r: failed if r.trial_index == 0 else {"loss": 1})
    scheduler = make(ToyOptimizer(), runner, cleanup_after_completion=True)
    scheduler.run_optimization(max_trials=3)
    folders = {i: trial.folder.exists() for i, trial in scheduler.trials.items()}
    assert folders == {0: True, 1: False, 2: False}


def test_each_run_has_a_private_folder_of_its_own(make, tmp_path: Path):
    one, two = make(), make()
    one.run_optimization(max_trials=1)
    two.run_optimization(max_trials=1)
    assert one.run_directory != two.run_directory
    assert one.run_directory.parent == tmp_path / "out"
    assert one.run_directory.stat().st_mode & 0o777 == 0o700


def test_a_clock_that_is_set_back_delays_nothing(make, in_thread, monkeypatch):
    """Nothing but the polls' own pauses ends this job: the runner does not push."""
    runner, wall, back = ToyRunner(lambda request: None, push=False), time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: wall() - back)
    optimizer = ToyOptimizer()
    scheduler = make(optimizer, runner)
    running = in_thread(lambda: scheduler.run_optimization(max_trials=2))
    for index in range(2):
        assert runner.submitted.acquire(timeout=30)
        polls = len(runner.calls)
        while len(runner.calls) < polls + 3:  # they have begun
            assert running.thread.is_alive()
            time.sleep(0.01)
        back += 3600.0
        runner.end(runner.key_of(index), {"loss": 1.0})
    running.result()
    assert optimizer.count("COMPLETED") == 2
