"""What becomes of workers and jobs when something befalls the driver: a real process each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from axsched_core import jobfolder
from axsched_core.jobs import JobState, ScriptObjective

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs pidfd")

DRIVER = """
    import json, pathlib, sys, time
    from axsched_core.jobs import *
    from axsched_joblib import JobLibRunner

    options, folders, how = json.loads(sys.argv[1])
    runner = JobLibRunner(**options)
    woken = []
    runner.axsched_open(RunnerContext("run", pathlib.Path("."), woken.append, 0.5, 1000000))
    requests = [
        JobRequest(f"run-{i}-1", i, 1, {}, pathlib.Path(f), ScriptObjective(("sh", "-c", "")))
        for i, f in enumerate(folders)
    ]
    runner.axsched_submit(requests)
    print("submitted", flush=True)
    if how == "forget to close":
        sys.stdin.readline()
        sys.exit(0)
    try:
        time.sleep(100)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    sys.stdin.readline()
    runner.axsched_close(True)
"""


class Driver:
    def __init__(
        self,
        session: Any,
        started: Any,
        gate: Any,
        options: dict[str, Any],
        how: str = "",
        **keywords: Any,
    ) -> None:
        self.s, self.started, self.gate = session, started, gate
        command = f"echo $$ > {started.path}; read l < {gate.path}"
        script = ScriptObjective(("/bin/sh", "-c", command))
        self.folders = [session.request(script).folder for _ in range(4)]
        argument = json.dumps([options, [str(folder) for folder in self.folders], how])
        self.command = [sys.executable, "-c", textwrap.dedent(DRIVER), argument]
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **keywords,
        )
        self.jobs: list[int] = []

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def state(self, number: int) -> JobState:
        status = jobfolder.read_exit(self.folders[number])
        return status.state if status is not None else JobState.RUNNING

    def end(self) -> None:
        """Leave nothing behind, even where the test has failed."""
        self.process.kill()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        for folder in self.folders:
            jobfolder.request_cancel(folder, "the test is over")

    def supervisors(self) -> list[int]:
        files = [folder / jobfolder.PID for folder in self.folders]
        return [json.loads(file.read_text())["pid"] for file in files if file.exists()]


@pytest.fixture
def start_driver(
    session: Callable[..., Any], pipe: Callable[[str], Any]
) -> Iterator[Callable[..., Driver]]:
    drivers: list[Driver] = []

    def start(options: dict[str, Any], **keywords: Any) -> Driver:
        """Start a driver with four jobs; returns when as many run as may."""
        s, started, gate = session(n_jobs=1), pipe("started"), pipe("gate")
        driver = Driver(s, started, gate, options, **keywords)
        drivers.append(driver)
        driver.jobs += map(int, started.read_lines(min(4, options["n_jobs"])))
        return driver

    yield start
    for driver in drivers:
        driver.end()


StartDriver = Callable[..., Driver]
THREADS = {"n_jobs": 2, "backend": "threading", "isolation": "spawn"}


def is_worker(child: psutil.Process, driver: int) -> bool:
    try:
        # What a worker forks has its command line, and may end at any moment.
        return child.ppid() == driver and any("popen_loky_posix" in w for w in child.cmdline())
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    "options", [{"n_jobs": 2}, {"n_jobs": 6}, THREADS], ids=["loky", "idle workers", "threads"]
)
def test_ctrl_c_reaches_neither_workers_nor_jobs(
    start_driver: StartDriver, options: dict[str, Any]
) -> None:
    driver = start_driver(options)
    before = [child for child in driver.children() if is_worker(child, driver.process.pid)]
    os.killpg(driver.process.pid, signal.SIGINT)
    assert driver.process.stdout is not None
    assert [driver.process.stdout.readline() for _ in range(2)] == ["submitted\n", "interrupted\n"]
    gone, _ = psutil.wait_procs(before, timeout=1.5)
    assert gone == []
    assert all(psutil.pid_exists(job) for job in driver.jobs)
    driver.gate.let_go(4)
    driver.started.read_lines(4 - len(driver.jobs))  # the pool goes on
    for pid in driver.supervisors():
        assert driver.s.ended(pid)
    assert [driver.state(i) for i in range(4)] == [JobState.SUCCEEDED] * 4
    driver.process.communicate("\n", timeout=20)
    assert driver.process.returncode == 0


@pytest.mark.parametrize("options", [{"n_jobs": 2}, THREADS], ids=["loky", "threads"])
def test_a_killed_driver(start_driver: StartDriver, options: dict[str, Any]) -> None:
    driver = start_driver(options, stderr=subprocess.STDOUT)
    workers = driver.children()
    for child in workers:
        if is_worker(child, driver.process.pid):
            held = {os.readlink(f"/proc/{child.pid}/fd/{number}") for number in range(3)}
            assert held == {os.devnull}
    begin = time.monotonic()
    driver.process.kill()
    driver.process.communicate(timeout=20)  # until its stdout is closed by everybody
    assert time.monotonic() - begin < 3.0
    for child in workers:
        assert driver.s.ended(child.pid)
    assert all(psutil.pid_exists(job) for job in driver.jobs), "running jobs go on"
    driver.gate.let_go(4)
    for pid in driver.supervisors():
        assert driver.s.ended(pid)
    assert [driver.state(i) for i in range(2)] == [JobState.SUCCEEDED] * 2
    assert driver.started.is_empty(), "queued jobs do not start"
    assert not any((folder / jobfolder.CLAIM).exists() for folder in driver.folders[2:])


def test_a_driver_that_forgets_to_close_can_end(start_driver: StartDriver) -> None:
    driver = start_driver({"n_jobs": 2}, how="forget to close")
    driver.process.communicate("\n", timeout=15)
    assert driver.process.returncode == 0
    assert all(psutil.pid_exists(job) for job in driver.jobs)
    driver.gate.let_go(4)
    for pid in driver.supervisors():
        assert driver.s.ended(pid)
    assert driver.started.is_empty()


def test_no_main_guard_is_needed(tmp_path: Path) -> None:
    """Workers never run the user's main module again."""
    script = tmp_path / "main.py"
    script.write_text(
        f"open({str(tmp_path / 'count')!r}, 'a').write('x')\n"
        + textwrap.dedent(DRIVER).replace("time.sleep(100)", "time.sleep(0)")
    )
    for backend in ("loky", "multiprocessing"):
        argument = json.dumps([{"n_jobs": 2, "backend": backend}, [], ""])
        subprocess.run([sys.executable, script, argument], input=b"\n", check=True, timeout=30)
    assert (tmp_path / "count").read_text() == "xx"
