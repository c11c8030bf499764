"""What does the driver cost while all slots are busy and nothing ends?

    python benchmarks/rest.py [--seconds 20]

Starts so many jobs that never end, waits until the engine has nothing to do but to wait, and
measures the CPU time of the driver. Once with the joblib runner (8 scripts that sleep), once with a
backend in memory that gets 1,000 functions, so that 1,000 folders are looked at. The progress line
is on.

Ends with status 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import tell

from axsched_core import AxScheduler
from axsched_core.errors import OptimizerError
from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import (
    CancelOutcome,
    JobHandle,
    JobRequest,
    JobResult,
    JobState,
    JobStatus,
    NotReady,
    RunnerContext,
    RunnerInfo,
)
from axsched_core.testing import RandomSearch

AIMS = {8: 0.01, 1000: 0.03}
"""Jobs -> the share of one core that the driver may use."""
SETTLES = 5.0
"""Seconds after the last submission until the engine only waits."""


class Endless:
    """A backend in memory whose jobs run until they are cancelled."""

    def __init__(self) -> None:
        self._cancelled: set[str] = set()

    @hookimpl
    def axsched_runner_info(self) -> RunnerInfo:
        return RunnerInfo("endless", ("function",), "jobs that never end")

    @hookimpl
    def axsched_open(self, context: RunnerContext) -> None:
        self._wake = context.wake

    @hookimpl
    def axsched_submit(self, requests: Sequence[JobRequest]) -> list[JobHandle]:
        return [JobHandle(request.key) for request in requests]

    @hookimpl
    def axsched_poll(self, handles: Sequence[JobHandle]) -> dict[str, JobStatus]:
        runs, cancelled = JobStatus(JobState.RUNNING), JobStatus(JobState.CANCELLED)
        return {one.key: cancelled if one.key in self._cancelled else runs for one in handles}

    @hookimpl
    def axsched_fetch_results(
        self, handles: Sequence[JobHandle]
    ) -> dict[str, JobResult | NotReady]:
        return {one.key: NotReady("it never ends") for one in handles}

    @hookimpl
    def axsched_cancel(self, handles: Sequence[JobHandle], reason: str) -> dict[str, CancelOutcome]:
        for one in handles:
            self._cancelled.add(one.key)
            self._wake(one.key)
        return {one.key: CancelOutcome.REQUESTED for one in handles}

    @hookimpl
    def axsched_capacity(self) -> int | None:
        return None

    @hookimpl
    def axsched_close(self, wait: bool) -> None:
        """Nothing is left."""


def share(jobs: int, seconds: float, folder: Path) -> float:
    """The share of one core that the driver of so many jobs uses."""
    runner: Any = "joblib" if jobs == 8 else Endless()
    options = {"n_jobs": jobs} if jobs == 8 else None
    config = {"job_output_dir": folder, "max_parallelism": jobs, "progress": True}
    scheduler = AxScheduler(RandomSearch({"x": (0.0, 1.0)}), runner, config, options)
    if jobs == 8:
        script = folder / "script"
        script.write_text("#!/bin/sh\nexec sleep 3600\n")
        script.chmod(0o755)
        scheduler.set_script_objective(script)
    else:
        scheduler.set_objective_function(lambda x: x)
    found: list[float] = []

    def watch() -> None:
        running = lambda: sum(one.state.value == "RUNNING" for one in scheduler.trials.values())  # noqa: E731
        while running() < jobs:
            time.sleep(0.1)
        time.sleep(SETTLES)
        began = time.process_time()
        time.sleep(seconds)
        found.append((time.process_time() - began) / seconds)
        scheduler.cancel()

    thread = threading.Thread(target=watch)
    thread.start()
    with scheduler, contextlib.suppress(OptimizerError):  # everything was cancelled
        scheduler.run_optimization(max_trials=jobs)
    thread.join()
    return found[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    logging.disable(logging.WARNING)
    aims = {}
    for jobs, most in AIMS.items():
        with tempfile.TemporaryDirectory(prefix="axsched-rest-") as folder:
            used = share(jobs, seconds, Path(folder))
        words = f"{jobs} jobs: {100 * used:.2f} % of a core (at most {100 * most:g} %)"
        aims[words] = used <= most
    return tell(aims)


if __name__ == "__main__":
    raise SystemExit(main())
