"""The methods of AxScheduler that are not the loop itself."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from pathlib import Path

import pytest

from axsched_core import AxScheduler, TrialState, hookimpl
from axsched_core.errors import (
    InvalidInput,
    OptimizerError,
    RunnerError,
    SchedulerClosed,
    TrialNotFinished,
    UnsupportedObjective,
)
from axsched_core.jobs import Cause, JobState, JobStatus
from support.resuming import died, resume
from support.toy import ToyOptimizer, ToyRunner

POINTS = [{"x": x / 10, "y": 0.5} for x in range(4)]


# ---- two schedulers of one object ---------------------------------------------------------------


def test_a_trial_that_runs_in_one_scheduler_is_not_run_in_another(make):
    optimizer = ToyOptimizer()
    one, other = make(optimizer, ToyRunner(lambda r: None)), make(optimizer, ToyRunner())
    index = one.get_next_trial()
    one.run_trial(index)
    with pytest.raises(InvalidInput, match="in progress in another scheduler"):
        other.run_trial(index)
    with other.batch_trial_context() as batch:
        batch.add_trial(optimizer.rows[index]["parameters"])
    assert [trial.index for trial in batch.trials] == [1]
    one.close()
    other.run_trial(index)
    other.wait_for_completed_trials()
    assert optimizer.count("COMPLETED") == 2


# ---- one trial after another -----------------------------------------------------------------


def test_a_loop_by_hand(make):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda r: None)
    scheduler = make(optimizer, runner)
    index = scheduler.get_next_trial()
    trial = scheduler.run_trial(index)
    assert (trial.index, trial.attempts, trial.parameters) == (
        0,
        1,
        optimizer.rows[0]["parameters"],
    )
    assert not trial.state.ended
    with pytest.raises(TrialNotFinished, match=r"Trial 0 has no result; its job is \w+: wait_for"):
        scheduler.complete_trial(index)
    runner.end(runner.key_of(0), {"loss": 0.5})
    assert scheduler.monitor_trials()[0].state is TrialState.SUCCEEDED
    assert scheduler.complete_trial(index).results == {"loss": (0.5, None)}
    assert optimizer.told == [(0, "COMPLETED")]


def test_get_next_trial_is_none_when_nothing_can_be_made_now(make):
    scheduler = make(ToyOptimizer(limit=1))
    assert scheduler.get_next_trial() == 0
    assert scheduler.get_next_trial() is None


def test_run_trial_one_at_a_time_waits(make):
    scheduler = make(synchronous=True)
    assert scheduler.run_trial(scheduler.get_next_trial()).state is TrialState.SUCCEEDED


def test_a_trial_of_the_clients_own_can_be_run(make):
    optimizer = ToyOptimizer()
    optimizer.attach({"x": 0.25, "y": 0.5})
    scheduler = make(optimizer)
    scheduler.run_trial(0)
    assert scheduler.wait_for_completed_trials()[0].results == {"loss": (0.25, None)}


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (7, "has no trial 7"),
        (-1, "trial_index must be a whole number of at least 0"),
        ("0", "trial_index must be a whole number"),
        (0, "Trial 0 is not open: it is COMPLETED"),
        (1, "Trial 1 is in progress already"),
    ],
)
def test_trials_that_cannot_be_run(make, index, words):
    scheduler = make(
        ToyOptimizer(), ToyRunner(lambda r: {"loss": 1} if not r.trial_index else None)
    )
    scheduler.run_trial(scheduler.get_next_trial())
    scheduler.run_trial(scheduler.get_next_trial())
    scheduler.monitor_trials()
    with pytest.raises(InvalidInput, match=words):
        scheduler.run_trial(index)


def test_completing_by_hand_cancels_the_job(make):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda r: None)
    scheduler = make(optimizer, runner)
    scheduler.run_trial(scheduler.get_next_trial())
    trial = scheduler.complete_trial(0, {"loss": (2.0, 0.5)})
    assert trial.state is TrialState.SUCCEEDED
    assert trial.results == {"loss": (2.0, 0.5)}
    assert optimizer.rows[0]["metrics"] == {"loss": (2.0, 0.5)}
    scheduler.wait_for_completed_trials()
    assert [reason for _, reason in runner.cancels] == ["the trial was ended in the optimizer"]
    assert optimizer.told == [(0, "COMPLETED")]
    assert scheduler.trials[0].state is TrialState.SUCCEEDED


def test_completing_by_hand_with_nonsense_changes_nothing(make):
    optimizer = ToyOptimizer()
    scheduler = make(optimizer)
    scheduler.get_next_trial()
    with pytest.raises(InvalidInput, match="raw_data of trial 0: the result lacks 'loss'"):
        scheduler.complete_trial(0, {"lss": 1.0})
    assert optimizer.rows[0]["status"] == "RUNNING"
    scheduler.complete_trial(0, 1.5)
    with pytest.raises(InvalidInput, match="not open: it is COMPLETED"):
        scheduler.complete_trial(0, 1.5)


def test_a_failed_trial_has_no_result_to_complete_with(make):
    failed = JobStatus(JobState.FAILED, Cause.EXIT_CODE, "exit code 3")
    scheduler = make(ToyOptimizer(), ToyRunner(lambda r: failed))
    scheduler.run_trial(scheduler.get_next_trial())
    scheduler.wait_for_completed_trials()
    with pytest.raises(TrialNotFinished, match="it is FAILED: exit code 3"):
        scheduler.complete_trial(0)
    with pytest.raises(InvalidInput, match="has had no job of this scheduler"):
        scheduler.complete_trial(9)


def test_cancel_abandons_what_runs(make):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda r: None)
    scheduler = make(optimizer, runner)
    for _ in range(2):
        scheduler.run_trial(scheduler.get_next_trial())
    scheduler.cancel()
    assert [row["status"] for row in optimizer.rows.values()] == ["ABANDONED", "ABANDONED"]
    assert scheduler.trials[0].state is TrialState.CANCELLED


def test_cancel_from_another_thread_ends_a_run_in_good_order(make, in_thread):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda r: None if r.trial_index else {"loss": 1})
    scheduler = make(optimizer, runner)
    run = in_thread(lambda: scheduler.run_optimization(max_trials=30))
    for _ in range(3):
        assert runner.submitted.acquire(timeout=10)
    scheduler.cancel()
    assert run.result().parameters == optimizer.rows[0]["parameters"]
    assert optimizer.count("RUNNING") == 0


# ---- batches ---------------------------------------------------------------------------------


def test_a_batch_runs_side_by_side_when_it_is_left(make):
    optimizer, runner = ToyOptimizer(), ToyRunner(free=lambda: 10)
    scheduler = make(optimizer, runner)
    with scheduler.batch_trial_context() as batch:
        for point in POINTS:
            batch.add_trial(point)
        assert runner.requests == {}
    assert [size for hook, size in runner.calls if hook == "axsched_submit"] == [4]
    assert [trial.state for trial in batch.trials] == [TrialState.SUCCEEDED] * 4
    assert [trial.parameters for trial in batch.trials] == POINTS


@pytest.mark.parametrize("where", ["context", "config"])
def test_a_batch_that_does_not_wait(make, where):
    runner = ToyRunner(lambda r: None)
    config = {"synchronous": False} if where == "config" else {}
    scheduler = make(ToyOptimizer(), runner, **config)
    with scheduler.batch_trial_context(*[False] * (where == "context")) as batch:
        batch.add_trial(POINTS[0])
    assert not batch.trials[0].state.ended
    runner.end(runner.key_of(0), {"loss": 1.0})
    scheduler.wait_for_completed_trials()
    assert batch.trials[0].state is TrialState.SUCCEEDED


def test_leaving_after_run_starts_nothing_twice(make):
    runner = ToyRunner()
    scheduler = make(ToyOptimizer(), runner)
    with scheduler.batch_trial_context() as batch:
        batch.add_trial(POINTS[0])
        batch.run()
        assert batch.trials[0].state is TrialState.SUCCEEDED
        with pytest.raises(InvalidInput, match="this batch has been run"):
            batch.add_trial(POINTS[1])
    assert len(runner.requests) == 1


def test_a_body_that_raises_runs_nothing(make):
    optimizer, runner = ToyOptimizer(), ToyRunner()
    scheduler = make(optimizer, runner)
    with pytest.raises(ZeroDivisionError), scheduler.batch_trial_context() as batch:
        batch.add_trial(POINTS[0])
        raise ZeroDivisionError
    assert runner.requests == {}
    assert optimizer.rows == {}


def test_parameters_of_the_clients_own_trials_are_those_trials(make):
    optimizer = ToyOptimizer()
    for _ in range(3):
        optimizer.attach(POINTS[0])
    optimizer.rows[0]["status"] = "COMPLETED"
    scheduler = make(optimizer)
    with scheduler.batch_trial_context() as batch:
        batch.add_trial(POINTS[0])  # the oldest that is open: trial 1
        batch.add_trial(POINTS[0])  # the next: trial 2
        batch.add_trial(POINTS[0])  # none is left: attached
    assert [trial.index for trial in batch.trials] == [1, 2, 3]
    assert len(optimizer.rows) == 4


def test_a_trial_can_be_named_by_its_index(make):
    optimizer = ToyOptimizer()
    for _ in range(2):
        optimizer.attach(POINTS[0])
    scheduler = make(optimizer)
    with scheduler.batch_trial_context() as batch:
        batch.add_trial(POINTS[0])
        batch.add_trial(POINTS[0], trial_index=0)
        with pytest.raises(InvalidInput, match="Trial 0 is in this batch already"):
            batch.add_trial(POINTS[0], trial_index=0)
        with pytest.raises(InvalidInput, match=r"Trial 1 has the parameters .*'x': 0.0"):
            batch.add_trial(POINTS[1], trial_index=1)
        with pytest.raises(InvalidInput, match="has no trial 8"):
            batch.add_trial(POINTS[1], trial_index=8)
    assert [trial.index for trial in batch.trials] == [1, 0]


def test_parameters_outside_the_search_space_are_refused_where_they_are_added(make):
    optimizer = ToyOptimizer()
    scheduler = make(optimizer)
    with scheduler.batch_trial_context() as batch:
        with pytest.raises(InvalidInput, match="'x' is 3, not in"):
            batch.add_trial({"x": 3, "y": 0.5})
        with pytest.raises(InvalidInput, match="must be a mapping, got list"):
            batch.add_trial([0.1, 0.2])
    assert optimizer.rows == {}


def test_generated_trials_come_as_the_optimizer_allows(make):
    optimizer = ToyOptimizer(limit=2)
    scheduler = make(optimizer)
    with scheduler.batch_trial_context() as batch:
        batch.add_generated(5)
    assert len(batch.trials) == 5
    assert optimizer.count("COMPLETED") == 5
    with scheduler.batch_trial_context() as batch, pytest.raises(InvalidInput, match="got 0"):
        batch.add_generated(0)


def test_generated_trials_of_a_batch_that_does_not_wait_are_made_later(make):
    optimizer, runner = ToyOptimizer(limit=1), ToyRunner(lambda r: None)
    scheduler = make(optimizer, runner)
    with scheduler.batch_trial_context(synchronous=False) as batch:
        batch.add_generated(2)
    assert len(optimizer.rows) == 1
    runner.finish = lambda request: {"loss": 1.0}
    scheduler.monitor_trials()
    runner.end(runner.key_of(0), {"loss": 1.0})
    scheduler.wait_for_completed_trials()
    assert optimizer.count("COMPLETED") == 2


# ---- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize("max_trials", [0, -3, 2.5, True, "10", None])
def test_max_trials_must_be_a_positive_number(make, max_trials):
    with pytest.raises(InvalidInput, match="max_trials must be a whole number of at least 1"):
        make().run_optimization(max_trials=max_trials)


def test_timeout_must_be_positive(make):
    with pytest.raises(InvalidInput, match="timeout must be a positive number of seconds, got -1"):
        make().run_optimization(timeout=-1)


def test_an_objective_must_be_set(make):
    runner = ToyRunner(capabilities=["function"])
    with pytest.raises(InvalidInput, match="No objective is set: call set_objective_function"):
        make(ToyOptimizer(), runner).run_optimization()


def test_an_optimizer_that_is_not_ready_says_so(make):
    optimizer = ToyOptimizer()
    optimizer.problem = OptimizerError("no experiment: call configure_experiment")
    with pytest.raises(OptimizerError, match="configure_experiment"):
        make(optimizer).run_optimization()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"monitoring_intervall": 3}, "unknown key 'monitoring_intervall'. Did you mean 'monit"),
        ({"monitoring_interval": "10"}, "'monitoring_interval' must be float, not str"),
        ({"monitoring_interval": 0}, "'monitoring_interval' must be > 0: 0"),
        ({"max_parallelism": 2.5}, "'max_parallelism' must be int, not float"),
        ({"max_parallelism": True}, "'max_parallelism' must be int, not bool"),
        ({"synchronous": "yes"}, "'synchronous' must be bool, not str"),
    ],
)
def test_settings_are_checked(make, config, words):
    with pytest.raises(InvalidInput, match=words):
        make(**config)


def test_settings_must_be_a_mapping(tmp_path):
    with pytest.raises(InvalidInput, match="config: expected a mapping or a SchedulerConfig"):
        AxScheduler(ToyOptimizer(), ToyRunner(), ["outputs"])


def test_an_output_folder_that_is_a_file(make, tmp_path: Path):
    (tmp_path / "file").write_text("")
    optimizer = ToyOptimizer()
    with pytest.raises(InvalidInput, match="cannot be made: .* Set config=.*job_output_dir"):
        make(optimizer, job_output_dir=tmp_path / "file").run_optimization()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_loses_nothing(make, tmp_path: Path):
    """On a real file system of 64 kB: what ran is told, the error says what to do."""
    disk = tmp_path / "disk"
    disk.mkdir()
    assert os.system(f"mount -t tmpfs -o size=256k,nr_inodes=60 tmpfs {disk}") == 0
    with contextlib.ExitStack() as stack:
        # Lazily: nothing is left even where something on it is still in use.
        stack.callback(os.system, f"umount -l {disk}")
        optimizer = ToyOptimizer()
        scheduler = make(optimizer, job_output_dir=disk, max_parallelism=2)
        stack.callback(scheduler.close)  # comes first, and may fail
        with pytest.raises(InvalidInput, match="cannot be written: .*No space left") as caught:
            scheduler.run_optimization(max_trials=100)
        assert caught.value.__cause__.errno == errno.ENOSPC
        done = optimizer.count("COMPLETED")
        assert 5 < done < 60
        assert len(optimizer.told) == done
        # Space is made: the trials that could not start are still there to be run.
        (disk / "any").parent.mkdir(exist_ok=True)
        assert os.system(f"mount -o remount,size=20m,nr_inodes=5000 {disk}") == 0
        for index, trial in scheduler.trials.items():
            if trial.state is TrialState.CANDIDATE:
                scheduler.run_trial(index)
        scheduler.wait_for_completed_trials()
        assert optimizer.count("RUNNING") == 0


def test_a_runner_refuses_objectives_that_it_cannot_run_and_names_who_can(make, tmp_path):
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    scheduler = make(ToyOptimizer(), ToyRunner(capabilities=["script"]))
    with pytest.raises(
        UnsupportedObjective, match=r"'toy' takes no container objective \(it takes"
    ):
        scheduler.set_container_objective("my/simulation:1.2", "python /app/simulate.py")
    with pytest.raises(UnsupportedObjective, match="takes no function objective"):
        scheduler.set_objective_function(lambda x, y: x)
    scheduler.set_script_objective(script)


def test_one_runner_in_two_open_schedulers(make):
    runner = ToyRunner()
    first = make(ToyOptimizer(), runner)
    with pytest.raises(RunnerError, match="in use by another open scheduler"):
        make(ToyOptimizer(), runner)
    first.close()
    make(ToyOptimizer(), runner).run_optimization(max_trials=1)


def test_a_closed_scheduler_says_so(make):
    runner = ToyRunner(lambda r: None)
    optimizer = ToyOptimizer()
    scheduler = make(optimizer, runner)
    with scheduler:
        scheduler.run_trial(scheduler.get_next_trial())
    assert runner.closed == [True]
    assert [reason for _, reason in runner.cancels] == ["the driver was interrupted"]
    assert optimizer.rows[0]["status"] == "RUNNING"  # open: a later run can take it up
    with pytest.raises(SchedulerClosed):
        scheduler.run_optimization()
    scheduler.close()
    assert runner.closed == [True]


# ---- saving, previewing ----------------------------------------------------------------------


def test_save_and_load(make, tmp_path: Path):
    first = make()
    first.run_optimization(max_trials=3)
    first.save_experiment(tmp_path / "saved.json")
    optimizer = ToyOptimizer()
    second = make(optimizer)
    assert second.load_experiment(tmp_path / "saved.json") is second
    second.run_optimization(max_trials=2)
    assert second.client.count("COMPLETED") == 5
    assert optimizer.rows == {}
    assert second.experiment is second.client


def test_a_strategy_without_an_optimizer():
    words = "generation_strategy does not go with None: what load_experiment reads has its own"
    with pytest.raises(InvalidInput, match=words):
        AxScheduler(None, ToyRunner(), generation_strategy=object())


def test_loading_while_jobs_are_on_the_way_is_refused(make, tmp_path):
    runner = ToyRunner(lambda r: None)
    scheduler = make(ToyOptimizer(), runner)
    scheduler.run_trial(scheduler.get_next_trial())
    with pytest.raises(InvalidInput, match="jobs are in progress"):
        scheduler.load_experiment(tmp_path / "saved.json")


def test_preview_touches_nothing(make):
    class Previewing(ToyRunner):
        @hookimpl
        def axsched_preview(self, requests):
            return {r.key: f"toy-submit {r.trial_index} {dict(r.parameters)}" for r in requests}

    runner = Previewing()
    scheduler = make(ToyOptimizer(), runner)
    assert scheduler.preview() == "toy-submit 0 {'x': '<x>', 'y': '<y>'}"
    assert scheduler.preview({"x": 0.5, "y": 1}) == "toy-submit 0 {'x': 0.5, 'y': 1}"
    assert not scheduler.run_directory.exists()
    scheduler.get_next_trial()
    assert "0.84442" in scheduler.preview()
    assert runner.requests == {}


def test_preview_of_a_runner_without_one(make):
    assert "JobRequest(key=" in make().preview()


@pytest.mark.parametrize("timeout", [0, -1.0, True, "5"])
def test_a_timeout_that_is_none_is_refused(make, timeout):
    scheduler = make(runner=ToyRunner(capabilities=("function",)))
    with pytest.raises(InvalidInput, match="timeout must be a positive number of seconds"):
        scheduler.set_objective_function(lambda x, y: x, timeout=timeout)


def test_a_function_has_a_time_limit_of_its_own_also_after_a_resume(make, tmp_path):
    runner = ToyRunner(capabilities=("function",))
    scheduler = make(runner=runner, max_trial_monitoring_time=60.0)
    for timeout, limit in ((5.0, 5.0), (100, 60.0), (None, 60.0)):
        scheduler.set_objective_function(lambda x, y: x, timeout=timeout)
        index = scheduler.run_trial(scheduler.get_next_trial()).index
        assert runner.requests[runner.key_of(index)].resources.time_limit == limit
        scheduler.wait_for_completed_trials()
    scheduler.set_objective_function(lambda x, y: x, timeout=7)
    index = scheduler.run_trial(scheduler.get_next_trial()).index
    after = resume(died(scheduler, tmp_path / "next"), runner)
    with after:
        again = after.run_trial(after.get_next_trial()).index
        last = after._run.engine.records[again]
        assert last.folder is not None
        job = json.loads((last.folder / "job.json").read_text())
        assert job["time_limit"] == 7
