"""`axsched cancel`: asked of a living driver, and done without one."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click.testing
import psutil
import pytest
from click.testing import CliRunner

from axsched_core import AxScheduler, hookimpl
from axsched_core.cli import runs
from axsched_core.cli.main import main
from axsched_core.errors import (
    BackendUnavailable,
    OptimizationInterrupted,
    OptimizerError,
    RunLocked,
)
from axsched_core.jobs import JobHandle, JobState, JobStatus, NotSubmitted
from axsched_core.journal import cancel_request, lines, replay
from axsched_core.run import resume as resuming
from axsched_core.run.run import Run
from axsched_core.trials import TrialState
from support.ctrl_c import press_ctrl_c
from support.resuming import died, next_runner, resume
from support.toy import ToyOptimizer, ToyRunner
from support.waiting import wait_until

Make = Callable[..., AxScheduler]


def cancel(*arguments: object) -> click.testing.Result:
    return CliRunner().invoke(main, ["cancel", *map(str, arguments)])


def test_a_living_driver_cancels_everything(make: Make, in_thread):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda request: None)
    scheduler = make(optimizer, runner)
    running = in_thread(lambda: scheduler.run_optimization(max_trials=2))
    assert runner.submitted.acquire(timeout=30)
    result = cancel(scheduler.run_directory)
    assert (result.exit_code, result.stdout) == (
        0,
        "Cancelled, by its driver: 2 trials (0, 1).\n",
    )
    with pytest.raises(OptimizerError, match="cancelled by the user"):
        running.result()
    assert optimizer.count("ABANDONED") == len(optimizer.rows) > 0
    assert not list(scheduler.run_directory.glob("cancel-*"))


@pytest.mark.parametrize("closed", [False, True])
def test_nothing_is_left_to_cancel(make: Make, closed: bool):
    scheduler = make(ToyOptimizer(), ToyRunner(lambda request: {"loss": 1.0}))
    scheduler.run_optimization(max_trials=3)
    if closed:
        scheduler.close()
    result = cancel(scheduler.run_directory)
    assert result.stdout == "Nothing was left to cancel: all 3 trials of the run have ended.\n"
    assert result.exit_code == 0


def test_trials_that_were_still_to_be_made_are_counted(make: Make, monkeypatch):
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner, max_parallelism=1, prefetch=0)
    presser = press_ctrl_c(runner.submitted)
    with pytest.raises(OptimizationInterrupted):
        scheduler.run_optimization(max_trials=5)
    presser.join()
    scheduler.close()
    in_the_shell(monkeypatch, next_runner(runner))
    words = "Cancelled; the run has no driver: 1 trial (0), and 4 more will not be made.\n"
    assert cancel(scheduler.run_directory).stdout == words
    assert "Nothing was left to cancel" in cancel(scheduler.run_directory).stdout


def test_the_driver_says_who_has_cancelled(make: Make, in_thread, caplog):
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner)
    running = in_thread(lambda: scheduler.run_optimization(max_trials=1))
    assert runner.submitted.acquire(timeout=30)
    cancel(scheduler.run_directory)
    with pytest.raises(OptimizerError):
        running.result()
    who = f"@{socket.gethostname()}, process {os.getpid()}"
    assert f"{who})" in caplog.text
    assert "Asked by axsched cancel: cancel everything (by " in caplog.text


def test_a_living_driver_cancels_some_trials(make: Make, in_thread):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda request: None)
    scheduler = make(optimizer, runner)
    running = in_thread(lambda: scheduler.run_optimization(max_trials=3))
    for _ in range(3):
        assert runner.submitted.acquire(timeout=30)
    assert cancel(scheduler.run_directory, 1).exit_code == 0
    for index in (0, 2):
        runner.end(runner.key_of(index), {"loss": 1.0})
    running.result()
    assert [row["status"] for row in optimizer.rows.values()] == [
        "COMPLETED",
        "ABANDONED",
        "COMPLETED",
    ]
    assert scheduler.trials[1].message == "cancelled by the user"


def test_trials_that_are_not_there_or_have_ended(make: Make):
    scheduler = make()
    scheduler.run_optimization(max_trials=1)
    result = cancel(scheduler.run_directory, 0)
    assert (result.exit_code, "ended already: SUCCEEDED" in result.stderr) == (1, True)
    result = cancel(scheduler.run_directory, 7)
    assert (result.exit_code, "knows no trial 7" in result.stderr) == (1, True)


def test_a_driver_that_looks_at_nothing_is_not_asked_for_ever(make: Make, monkeypatch):
    monkeypatch.setattr(runs, "TAKEN_WITHIN", 0.1)
    scheduler = make()
    scheduler.get_next_trial()
    result = cancel(scheduler.run_directory)
    assert result.exit_code == 1
    assert "is not asked any more" in result.stderr
    assert not list(scheduler.run_directory.glob("cancel-*"))
    scheduler.run_optimization(max_trials=2)  # nothing kills it
    assert len(scheduler.trials) == 3


def test_a_driver_that_ends_while_it_is_asked(make: Make, in_thread, monkeypatch):
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner)
    scheduler.run_trial(scheduler.get_next_trial())
    in_the_shell(monkeypatch, next_runner(runner))
    asking = in_thread(lambda: cancel(scheduler.run_directory))
    wait_until(lambda: list(scheduler.run_directory.glob("cancel-*")))
    scheduler.close()
    assert asking.result().stdout == "Cancelled; the run has no driver: 1 trial (0).\n"
    assert states(scheduler.run_directory) == {0: "CANCELLED"}
    assert not list(scheduler.run_directory.glob("cancel-*"))


def test_a_request_from_before_does_not_kill_a_run_that_is_resumed(make: Make, tmp_path):
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner)
    scheduler.run_trial(scheduler.get_next_trial())
    scheduler.get_next_trial()
    left = died(scheduler, tmp_path)
    cancel_request.ask(left, None)
    runner.end(runner.key_of(0), {"loss": 1.0})
    runner.finish = lambda request: {"loss": 1.0}
    with resume(left, runner) as again:
        again.finish()
    assert states(left) == {0: "SUCCEEDED", 1: "SUCCEEDED"}


def test_a_driver_that_was_taken_over_leaves_the_request_to_the_other(make: Make, monkeypatch):
    monkeypatch.setattr("axsched_core.run.timing.LOOK_INTERVAL", 0)  # it looks in each turn
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner)
    scheduler.run_trial(scheduler.get_next_trial())
    (scheduler.run_directory / "lock.json").unlink()  # as if it had slept for long
    with resume(scheduler.run_directory, runner, config={"on_exit": "leave"}):
        request = cancel_request.ask(scheduler.run_directory, None)
        with pytest.raises(RunLocked, match="taken over"):
            scheduler.monitor_trials()
        assert request.path.exists()
    assert runner.cancels == []


def test_jobs_are_cancelled_on_a_full_disk(make: Make, in_thread, monkeypatch):
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner)
    running = in_thread(lambda: scheduler.run_optimization(max_trials=1))
    assert runner.submitted.acquire(timeout=30)
    flush = lines.Journal.flush
    folder = scheduler.run_directory

    def full(journal: lines.Journal) -> None:
        if any(folder.glob("cancel-*")) and not runner.cancels:
            raise OSError(errno.ENOSPC, "full")
        flush(journal)

    monkeypatch.setattr(lines.Journal, "flush", full)
    cancel_request.ask(folder, None)
    with pytest.raises(OptimizerError, match="cancelled by the user"):
        running.result()
    assert [key for key, _ in runner.cancels] == [runner.key_of(0)]
    assert states(folder) == {0: "CANCELLED"}


def test_the_driver_answers_when_what_was_asked_is_on_disk(make: Make, in_thread):
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner)
    seen = []

    class Watching(cancel_request.CancelRequest):
        def done(self) -> None:
            seen.append(states(scheduler.run_directory))
            super().done()

    runner.faults["axsched_cancel"] = [BackendUnavailable("down") for _ in range(2)]
    running = in_thread(lambda: scheduler.run_optimization(max_trials=1))
    assert runner.submitted.acquire(timeout=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cancel_request, "CancelRequest", Watching)
        cancel_request.ask(scheduler.run_directory, None)
        with pytest.raises(OptimizerError, match="cancelled by the user"):
            running.result()
    assert seen == [{0: "CANCELLED"}]
    assert not list(scheduler.run_directory.glob("cancel-*"))


def test_a_living_driver_gives_up_a_trial_without_a_job(make: Make, in_thread):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda request: None)
    scheduler = make(optimizer, runner)
    idle = scheduler.get_next_trial()
    scheduler.run_trial(scheduler.get_next_trial())
    running = in_thread(scheduler.wait_for_completed_trials)
    assert cancel(scheduler.run_directory, idle).exit_code == 0
    runner.end(runner.key_of(1), {"loss": 1.0})
    assert [trial.state for trial in running.result().values()] == [
        TrialState.CANCELLED,
        TrialState.SUCCEEDED,
    ]
    assert optimizer.rows[idle]["status"] == "ABANDONED"


@pytest.mark.parametrize("content", ["", "null", "[1]", '{"trials": 3}', '{"trials": ["a"]}'])
def test_what_is_no_request_cancels_nothing(tmp_path: Path, caplog, content: str):
    path = tmp_path / "cancel-1.json"
    path.write_text(content)
    assert list(cancel_request.found(tmp_path)) == []
    assert not path.exists()
    assert "is no request to cancel" in caplog.text


# ---- without a driver ----------------------------------------------------------------------


def in_the_shell(monkeypatch: pytest.MonkeyPatch, runner: ToyRunner) -> None:
    """What the command line cannot say: these toys."""

    def resumed(run_dir: Path, **more: Any) -> Run:
        settings = {**more, "runner_options": None, "optimizer": ToyOptimizer(), "runner": runner}
        return resuming.resume(run_dir, **settings)

    monkeypatch.setattr(runs, "resuming", SimpleNamespace(resume=resumed))


def states(run_dir: Path) -> dict[int, str | None]:
    return {i: trial.state for i, trial in replay.read(run_dir / lines.NAME).trials.items()}


class CanBeAsked(ToyRunner):
    """Knows what has become of a submission that was never answered."""

    @hookimpl
    def axsched_reattach(self, requests):
        return {
            r.key: JobHandle(r.key) if r.key in self.statuses else NotSubmitted() for r in requests
        }


def test_it_starts_nothing_and_leaves_other_trials_alone(make: Make, tmp_path, monkeypatch):
    runner, copies = ToyRunner(lambda request: None), []
    scheduler = make(ToyOptimizer(), runner)
    scheduler.run_trial(scheduler.get_next_trial())
    scheduler.run_trial(scheduler.get_next_trial())
    runner.on_submit = lambda request: copies.append(died(scheduler, tmp_path))
    scheduler.run_trial(scheduler.get_next_trial())
    never = runner.key_of(2)  # its driver died before the backend had it
    del runner.requests[never], runner.statuses[never]
    before = set(runner.requests)
    runner.on_submit = lambda request: None
    in_the_shell(monkeypatch, next_runner(runner, CanBeAsked))
    assert cancel(copies[0], 0).exit_code == 0
    assert set(runner.requests) == before
    assert runner.running() == [runner.key_of(1)]
    assert states(copies[0]) == {0: "CANCELLED", 1: None, 2: None}
    runner.statuses[never] = JobStatus(JobState.LOST)  # the first driver is still to be closed


def test_a_job_that_cannot_be_stopped_is_said_and_can_be_cancelled_later(
    make: Make, tmp_path, monkeypatch
):
    monkeypatch.setattr("axsched_core.run.timing.CANCEL_GRACE", 0.3)
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner)
    for _ in range(2):
        scheduler.run_trial(scheduler.get_next_trial())
    left = died(scheduler, tmp_path)
    stubborn = next_runner(runner)
    stubborn.cannot_cancel = True
    in_the_shell(monkeypatch, stubborn)
    result = cancel(left, 0)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "these trials could not be stopped, and may run on: 0." in result.stderr
    down = next_runner(runner)
    down.faults["axsched_cancel"] = [BackendUnavailable("down") for _ in range(1000)]
    in_the_shell(monkeypatch, down)
    assert cancel(left).exit_code == 1
    assert states(left) == {0: None, 1: None}
    assert len(runner.running()) == 2
    in_the_shell(monkeypatch, next_runner(runner))
    assert cancel(left).exit_code == 0
    assert states(left) == {0: "CANCELLED", 1: "CANCELLED"}
    assert runner.running() == []


def test_a_backend_that_is_down_for_a_moment(make: Make, tmp_path, monkeypatch):
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner)
    scheduler.run_trial(scheduler.get_next_trial())
    left = died(scheduler, tmp_path)
    down = next_runner(runner)
    down.faults["axsched_cancel"] = [BackendUnavailable("down") for _ in range(2)]
    in_the_shell(monkeypatch, down)
    assert cancel(left, 0).exit_code == 0
    assert runner.running() == []


def test_a_submission_in_doubt_of_which_the_backend_says_nothing(make: Make, tmp_path, monkeypatch):
    class Silent(ToyRunner):
        @hookimpl
        def axsched_reattach(self, requests):
            return {}

    monkeypatch.setattr("axsched_core.run.timing.CANCEL_GRACE", 0.3)
    runner, copies = ToyRunner(lambda request: None), []
    runner.on_submit = lambda request: copies.append(died(scheduler, tmp_path))
    scheduler = make(ToyOptimizer(), runner)
    scheduler.run_trial(scheduler.get_next_trial())
    in_the_shell(monkeypatch, next_runner(runner, Silent))
    result = cancel(copies[0], 0)
    assert (result.exit_code, states(copies[0])) == (1, {0: None})
    in_the_shell(monkeypatch, next_runner(runner, CanBeAsked))
    assert cancel(copies[0], 0).exit_code == 0
    assert runner.running() == []


def test_one_of_several_that_has_ended_meanwhile_stops_nothing(make: Make, tmp_path, monkeypatch):
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner)
    for _ in range(3):
        scheduler.run_trial(scheduler.get_next_trial())
    left = died(scheduler, tmp_path)
    runner.end(runner.key_of(1), {"loss": 1.0})
    in_the_shell(monkeypatch, next_runner(runner))
    result = cancel(left, 0, 1, 2, 0)
    assert result.exit_code == 0, result.stderr
    assert "Trial 1 has ended by itself: SUCCEEDED." in result.stdout
    assert states(left) == {0: "CANCELLED", 1: "SUCCEEDED", 2: "CANCELLED"}
    assert runner.running() == []


@pytest.mark.parametrize("named", [(), (0,)])
def test_trials_that_were_left_open_are_abandoned(make: Make, monkeypatch, named: tuple[int, ...]):
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner, max_parallelism=1, prefetch=0)
    presser = press_ctrl_c(runner.submitted)
    with pytest.raises(OptimizationInterrupted):
        scheduler.run_optimization(max_trials=3)
    presser.join()
    scheduler.close()
    in_the_shell(monkeypatch, next_runner(runner))
    assert cancel(scheduler.run_directory, *named).exit_code == 0
    with resume(scheduler.run_directory, runner) as again:
        again._run.lanes[0]._session._runner.finish = lambda request: {"loss": 1.0}
        assert again.client.rows[0]["status"] == "ABANDONED"
        if named:
            again.finish()
            assert len(again.trials) == 3
        else:
            best = again.finish()  # there is nothing to make, and no result
            assert best.observed is None
            assert best.why_not_observed == "No trial has data."
            assert len(again.trials) == 1
    assert len([r for r in runner.requests.values() if r.trial_index == 0]) == 1


def test_cancel_leaves_nothing_to_take_up_or_to_make(make: Make):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda request: None)
    scheduler = make(optimizer, runner, max_parallelism=1, prefetch=0)
    presser = press_ctrl_c(runner.submitted)
    with pytest.raises(OptimizationInterrupted, match="1 were stopped and stay open") as caught:
        scheduler.run_optimization(max_trials=5)
    assert str(caught.value).endswith(f"in a shell: axsched resume {scheduler.run_directory}")
    presser.join()
    scheduler.cancel()
    assert optimizer.rows[0]["status"] == "ABANDONED"
    runner.finish = lambda request: {"loss": 1.0}
    scheduler.run_optimization(max_trials=1)
    scheduler.finish()
    assert len(scheduler.trials) == 2


def test_cancel_where_there_is_nothing_yet(tmp_path: Path):
    with AxScheduler(None, ToyRunner(), {"job_output_dir": tmp_path / "out"}) as scheduler:
        scheduler.cancel()
    assert not (tmp_path / "out").exists()


def test_cancel_while_a_call_is_prepared_that_runs_an_open_trial(make: Make):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda request: None)
    scheduler = make(optimizer, runner, max_parallelism=1, prefetch=0)
    presser = press_ctrl_c(runner.submitted)
    with pytest.raises(OptimizationInterrupted):
        scheduler.run_optimization(max_trials=5)
    presser.join()
    engine = scheduler._run.engine
    opened = engine.records[0]  # what a call looks up before it begins
    engine.cancel()
    engine.loop.perform(lambda: engine.want(4, [opened]), lambda: engine.idle)
    assert optimizer.count("ABANDONED") == len(optimizer.rows) == 1
    assert len(runner.requests) == 1


DRIVER = """
    import sys, warnings
    warnings.filterwarnings("ignore")
    from ax import Client, RangeParameterConfig
    from axsched_core import AxScheduler

    client = Client(random_seed=1)
    client.configure_experiment(
        parameters=[RangeParameterConfig(name="x", bounds=(0, 1), parameter_type="float")]
    )
    client.configure_optimization("-loss")
    config = {"job_output_dir": sys.argv[1], "progress": False}
    scheduler = AxScheduler(client, "joblib", config, {"n_jobs": 2})
    scheduler.set_script_objective("/bin/sleep", {"args": [1000]})
    scheduler.run_optimization(max_trials=4)
"""


@pytest.mark.ax
@pytest.mark.filterwarnings("ignore")
def test_without_a_driver_it_is_done_here(tmp_path: Path):
    out, script = tmp_path / "out", tmp_path / "driver.py"
    script.write_text(textwrap.dedent(DRIVER))
    driver = subprocess.Popen([sys.executable, str(script), str(out)])
    wait_until(lambda: len(list(out.glob("*/jobs/*/pid.json"))) == 2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    (run_dir,) = out.iterdir()
    pids = [json.loads(path.read_text())["pid"] for path in run_dir.glob("jobs/*/pid.json")]
    assert all(map(psutil.pid_exists, pids))

    command = [str(Path(sys.executable).with_name("axsched")), "cancel", str(run_dir)]
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    one = subprocess.run([*command, "0"], capture_output=True, text=True, check=False, env=env)
    assert (one.returncode, one.stdout) == (
        0,
        "Cancelled; the run has no driver: 1 trial (0).\n",
    ), one.stderr
    wait_until(lambda: len(list(run_dir.glob("jobs/*/exit.json"))) == 1)
    assert not (run_dir / "jobs" / "00001-1" / "exit.json").exists()  # the other runs on

    rest = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert rest.returncode == 0, rest.stderr
    wait_until(lambda: not any(map(psutil.pid_exists, pids)))
    states = {index: t.state for index, t in replay.read(run_dir / lines.NAME).trials.items()}
    assert set(states.values()) == {"CANCELLED"}  # with those that were made in advance
    assert states.keys() >= {0, 1}
    assert not (run_dir / "lock.json").exists()
