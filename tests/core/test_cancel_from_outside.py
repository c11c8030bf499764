"""`axsched cancel`: asked of a living driver, and done without one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import click.testing
import psutil
import pytest
from click.testing import CliRunner
from toy import ToyOptimizer, ToyRunner

from axsched_core import AxScheduler, cancel_request, journal
from axsched_core.cli import runs
from axsched_core.cli.main import main
from axsched_core.errors import OptimizerError

Make = Callable[..., AxScheduler]


def cancel(*arguments: object) -> click.testing.Result:
    return CliRunner().invoke(main, ["cancel", *map(str, arguments)])


def test_a_living_driver_cancels_everything(make: Make, in_thread):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda request: None)
    scheduler = make(optimizer, runner)
    running = in_thread(lambda: scheduler.run_optimization(max_trials=2))
    assert runner.submitted.acquire(timeout=30)
    result = cancel(scheduler.run_directory)
    assert (result.exit_code, result.stdout) == (0, "The driver cancels.\n")
    with pytest.raises(OptimizerError, match="cancelled by the user"):
        running.result()
    assert optimizer.count("ABANDONED") == len(optimizer.rows) > 0
    assert not list(scheduler.run_directory.glob("cancel-*"))


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


def test_a_driver_that_looks_at_nothing(make: Make, monkeypatch):
    monkeypatch.setattr(runs, "TAKEN_WITHIN", 0.1)
    scheduler = make()
    scheduler.run_optimization(max_trials=1)
    result = cancel(scheduler.run_directory)
    (request,) = scheduler.run_directory.glob("cancel-*.json")
    assert result.exit_code == 1
    assert f"to withdraw the request: rm {request}" in result.stdout


@pytest.mark.parametrize("content", ["", "null", "[1]", '{"trials": 3}', '{"trials": ["a"]}'])
def test_what_is_no_request_cancels_nothing(tmp_path: Path, caplog, content: str):
    path = tmp_path / "cancel-1.json"
    path.write_text(content)
    assert list(cancel_request.found(tmp_path)) == []
    assert not path.exists()
    assert "is no request to cancel" in caplog.text


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


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
    assert (one.returncode, one.stdout) == (0, "Cancelled; no driver was at it.\n"), one.stderr
    wait_until(lambda: len(list(run_dir.glob("jobs/*/exit.json"))) == 1)
    assert not (run_dir / "jobs" / "00001-1" / "exit.json").exists()  # the other runs on

    rest = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert rest.returncode == 0, rest.stderr
    wait_until(lambda: not any(map(psutil.pid_exists, pids)))
    states = {index: t.state for index, t in journal.read(run_dir / journal.NAME).trials.items()}
    assert states == {0: "CANCELLED", 1: "CANCELLED"}
    assert not (run_dir / "lock.json").exists()
