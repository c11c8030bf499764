"""Runs whose trials fail: what the optimizer hears, when the run is stopped, how it goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from axsched_core import AxScheduler
from axsched_core.errors import AllTrialsFailed, FailureRateExceeded, OptimizerError
from axsched_core.jobs import Cause, JobRequest, JobState, JobStatus
from axsched_core.trials import TrialState
from support.resuming import died, resume
from support.toy import ToyOptimizer, ToyRunner
from support.waiting import wait_until

Make = Callable[..., AxScheduler]

TYPO = JobStatus(JobState.FAILED, Cause.EXCEPTION, "NameError: name 'mat' is not defined")
GOOD = {"loss": 1.0}


def writes_a_traceback(request: JobRequest) -> JobStatus:
    (request.folder / "stderr.log").write_text("x" * 5000 + "\nTraceback:\n  mat.pi\nNameError\n")
    return TYPO


def statuses(optimizer: ToyOptimizer) -> list[str]:
    return [row["status"] for row in optimizer.rows.values()]


def test_a_typo_does_not_run_the_whole_budget(make: Make):
    runner, optimizer = ToyRunner(writes_a_traceback), ToyOptimizer()
    scheduler = make(optimizer, runner, max_parallelism=2)
    with pytest.raises(FailureRateExceeded) as caught:
        scheduler.run_optimization(max_trials=60)
    assert len(runner.requests) in (5, 6)
    words = str(caught.value)
    failed = sum(t.state is TrialState.FAILED for t in scheduler.trials.values())
    assert words.startswith(f"{failed} of the {failed} trials that have ended failed")
    assert f"{failed} trials: EXCEPTION" in words
    assert "NameError: name 'mat' is not defined" in words
    assert "    |   mat.pi\n" in words
    assert "xxx" not in words
    assert "scheduler.finish()" in words
    assert f"scheduler = AxScheduler.resume({str(scheduler.run_directory)!r}) before" in words
    assert "tolerated_trial_failure_rate (now 0.99; 1 switches this check off)" in words
    # The objective was at fault, not the points: all of them may come again.
    assert set(statuses(optimizer)) <= {"FAILED", "RUNNING"}

    runner.finish = lambda request: GOOD
    scheduler.finish()
    assert optimizer.count("COMPLETED") == 60 - failed
    assert len(optimizer.rows) == 60


def test_a_batch_that_is_only_looked_at_stops_too(make: Make):
    runner, optimizer = ToyRunner(lambda request: None), ToyOptimizer()
    scheduler = make(optimizer, runner, max_parallelism=2, synchronous=False)
    with scheduler.batch_trial_context() as batch:
        batch.add_generated(60)
    runner.finish = lambda request: TYPO
    for key in runner.running():
        runner.end(key, TYPO)
    with pytest.raises(FailureRateExceeded, match="5 trials: EXCEPTION"):
        wait_until(lambda: len(scheduler.monitor_trials()) == 60)
    assert runner.cancels == []
    assert len(runner.requests) < 10
    runner.finish = lambda request: GOOD
    scheduler.finish()
    assert len(optimizer.rows) == 60


def test_a_run_with_every_job_cancelled_on_the_backend_says_so(make: Make):
    gone = JobStatus(JobState.CANCELLED, Cause.CANCELLED, "scancel by the administrator")
    scheduler = make(runner=ToyRunner(lambda request: gone))
    with pytest.raises(OptimizerError, match=r"cancelled \(scancel by the adm.*2 trials were"):
        scheduler.run_optimization(max_trials=2)


def test_every_cause_is_listed_with_its_own_log(make: Make):
    def finish(request: JobRequest) -> JobStatus:
        cause = (Cause.EXCEPTION, Cause.OUT_OF_MEMORY, Cause.EXCEPTION)[request.trial_index % 3]
        (request.folder / "stderr.log").write_text(f"log of {request.trial_index}\n")
        return JobStatus(JobState.FAILED, cause, "no")

    scheduler = make(ToyOptimizer(), ToyRunner(finish), max_parallelism=1)
    with pytest.raises(FailureRateExceeded) as caught:
        scheduler.run_optimization(max_trials=60)
    words = str(caught.value)
    jobs = [scheduler.trials[index].folder for index in (0, 1)]
    assert f"  3 trials: EXCEPTION: no (first: trial 0, {jobs[0]})\n" in words
    assert "    | log of 0\n  2 trials: OUT_OF_MEMORY: no (first: trial 1, " in words
    assert "    | log of 1\n" in words


def test_trials_that_are_under_way_stay_open_when_a_run_is_stopped(make: Make):
    runner = ToyRunner(lambda request: TYPO if request.trial_index < 5 else None)
    optimizer = ToyOptimizer()
    scheduler = make(optimizer, runner, max_parallelism=8)
    with pytest.raises(FailureRateExceeded):
        scheduler.run_optimization(max_trials=20)
    opened = [t.index for t in scheduler.trials.values() if t.state is TrialState.CANDIDATE]
    assert opened
    assert all(optimizer.rows[index]["status"] == "RUNNING" for index in opened)
    assert runner.running() == []
    runner.finish = lambda request: GOOD
    scheduler.finish()
    assert optimizer.count("COMPLETED") == 15


def test_jobs_are_left_alone_where_that_is_wished(make: Make):
    runner = ToyRunner(lambda request: TYPO if request.trial_index < 5 else None)
    optimizer = ToyOptimizer()
    scheduler = make(optimizer, runner, max_parallelism=8, on_exit="leave")
    with pytest.raises(FailureRateExceeded):
        scheduler.run_optimization(max_trials=20)
    assert runner.cancels == []
    runner.finish = lambda request: GOOD
    for key in runner.running():
        runner.end(key, GOOD)
    scheduler.finish()
    assert optimizer.count("COMPLETED") == 15


def test_the_settings_decide_when_a_run_is_stopped(make: Make):
    def sometimes(request: JobRequest) -> object:
        return TYPO if request.trial_index % 4 else GOOD

    patient = make(ToyOptimizer(), ToyRunner(sometimes))
    patient.run_optimization(max_trials=40)
    strict = make(
        ToyOptimizer(),
        ToyRunner(sometimes),
        max_parallelism=1,
        tolerated_trial_failure_rate=0.5,
        min_failed_trials_for_failure_rate_check=2,
    )
    with pytest.raises(FailureRateExceeded, match="2 of the 3 trials that have ended failed"):
        strict.run_optimization(max_trials=40)
    never = make(ToyOptimizer(), ToyRunner(lambda r: TYPO), tolerated_trial_failure_rate=1)
    with pytest.raises(AllTrialsFailed):
        never.run_optimization(max_trials=40)
    assert len(never.trials) == 40


def test_trials_that_the_user_picked_are_all_run(make: Make):
    runner = ToyRunner(lambda request: TYPO)
    scheduler = make(ToyOptimizer(), runner, max_parallelism=1)
    with scheduler.batch_trial_context() as batch:
        for number in range(8):
            batch.add_trial({"x": number / 10, "y": 0.0})
    assert len(runner.requests) == 8


def test_a_run_that_goes_on_counts_what_failed_before_its_driver_died(make: Make, tmp_path: Path):
    runner, copies = ToyRunner(lambda request: TYPO), list[Path]()

    def submit(request: JobRequest) -> None:
        if request.trial_index == 3:
            copies.append(died(scheduler, tmp_path))

    runner.on_submit = submit
    scheduler = make(ToyOptimizer(), runner, max_parallelism=1)
    with pytest.raises(FailureRateExceeded):
        scheduler.run_optimization(max_trials=60)
    runner.on_submit = lambda request: None
    with resume(copies[0], runner) as again:
        with pytest.raises(FailureRateExceeded, match="5 of the 5"):
            again.finish()
        assert again.client.count("FAILED") == 5


def test_a_stopped_run_counts_from_nothing_in_the_next_session(make: Make, tmp_path: Path):
    ends = [TYPO]
    runner = ToyRunner(lambda request: ends[-1])
    scheduler = make(ToyOptimizer(), runner, max_parallelism=1)
    with pytest.raises(FailureRateExceeded):
        scheduler.run_optimization(max_trials=60)
    with resume(died(scheduler, tmp_path), runner) as again:
        assert again.client.count("FAILED") == 5  # they may come again, here too
        with pytest.raises(FailureRateExceeded, match="5 of the 5"):
            again.finish()
        assert len(runner.requests) == 10
        ends.append(GOOD)
        again.finish()
        assert again.client.count("COMPLETED") == 50


def test_points_that_a_snapshot_holds_as_abandoned_may_return_too(make: Make, tmp_path: Path):
    runner = ToyRunner(lambda request: TYPO)
    scheduler = make(ToyOptimizer(), runner, max_parallelism=1)
    with pytest.raises(AllTrialsFailed):
        scheduler.run_optimization(max_trials=3)
    assert scheduler.client.count("ABANDONED") == 3
    with pytest.raises(FailureRateExceeded, match="5 of the 5"):
        scheduler.run_optimization(max_trials=60)
    with resume(died(scheduler, tmp_path), runner) as again:
        assert again.client.count("FAILED") == 5


def test_what_is_told_of_a_failing_point_is_told_again_by_the_next_driver(make, tmp_path):
    causes = [Cause.EXCEPTION, Cause.LOAD_ERROR]
    for setting, told in ("avoid", ["ABANDONED", "FAILED"]), ("may_return", ["FAILED", "FAILED"]):
        runner = ToyRunner(
            lambda r: (
                JobStatus(JobState.FAILED, causes[r.trial_index]) if r.trial_index < 2 else GOOD
            )
        )
        scheduler = make(ToyOptimizer(), runner, failed_points=setting)
        scheduler.run_optimization(max_trials=3)
        assert statuses(scheduler.client) == [*told, "COMPLETED"]
        assert scheduler.trials[0].state is TrialState.FAILED
        with resume(died(scheduler, tmp_path / setting), runner) as again:
            assert statuses(again.client) == [*told, "COMPLETED"]
            assert again.trials[0].state is TrialState.FAILED


def test_points_that_failed_with_another_objective_may_return(make: Make, tmp_path: Path):
    runner = ToyRunner(lambda r: TYPO if r.trial_index == 0 else GOOD, capabilities=("function",))
    scheduler = make(ToyOptimizer(), runner)
    scheduler.set_objective_function(lambda x, y: x)
    scheduler.run_optimization(max_trials=2)
    assert statuses(scheduler.client) == ["ABANDONED", "COMPLETED"]
    scheduler.set_objective_function(lambda x, y: x)
    assert statuses(scheduler.client) == ["ABANDONED", "COMPLETED"]
    scheduler.set_objective_function(lambda x, y: x + y)
    assert statuses(scheduler.client) == ["FAILED", "COMPLETED"]
    with resume(died(scheduler, tmp_path), runner) as again:
        assert statuses(again.client) == ["FAILED", "COMPLETED"]
