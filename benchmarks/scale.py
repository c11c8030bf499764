"""Is the scheduler's own cost flat? Up to 100,000 trials, and 10,000 jobs in flight.

    python benchmarks/scale.py [--trials 100000] [--quick]

The optimizer is random search and the backend ends jobs in memory, so what is left is the
scheduler's: the CPU time of its process without the backend's thread, the memory beside that of
random search, and the journal.
Each cell is measured in a process of its own. Then the run of the largest cell is looked at and
resumed.

Ends with status 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from common import tell

from axsched_core import AxScheduler
from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import (
    CancelOutcome,
    JobHandle,
    JobRequest,
    JobResult,
    JobState,
    JobStatus,
    RunnerContext,
    RunnerInfo,
)
from axsched_core.journal.view import Run
from axsched_core.testing import RandomSearch

CPU, MEMORY, JOURNAL = 1.0, 1000.0, 400.0
"""Aims for each trial: milliseconds, bytes, bytes."""
EXPONENT, IN_FLIGHT = 1.05, 1.3
"""Of the CPU time over the number of trials; and the ratio from 100 to 10,000 jobs in flight."""
BOUNDS = {"x": (0.0, 1.0), "y": (0.0, 1.0), "z": (0.0, 1.0)}
TICK = 0.001
"""Seconds between two moments at which jobs end."""


class Instant:
    """A backend in memory: every millisecond some of the oldest jobs end."""

    def __init__(self) -> None:
        self._running: deque[str] = deque()
        self._ended: set[str] = set()
        self._closed = threading.Event()
        self.cpu = 0.0
        """Seconds of CPU time of its thread."""

    @hookimpl
    def axsched_runner_info(self) -> RunnerInfo:
        return RunnerInfo("instant", ("parameters",), "ends jobs in memory", result_grace=0.0)

    @hookimpl
    def axsched_open(self, context: RunnerContext) -> None:
        self._wake = context.wake
        threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        while not self._closed.wait(TICK):
            for _ in range(min(len(self._running), 1 + len(self._running) // 50)):
                key = self._running.popleft()
                self._ended.add(key)
                self._wake(key)
            self.cpu = time.thread_time()

    @hookimpl
    def axsched_submit(self, requests: Sequence[JobRequest]) -> list[JobHandle]:
        self._running.extend(request.key for request in requests)
        return [JobHandle(request.key) for request in requests]

    @hookimpl
    def axsched_poll(self, handles: Sequence[JobHandle]) -> dict[str, JobStatus]:
        done, runs = JobStatus(JobState.SUCCEEDED), JobStatus(JobState.RUNNING)
        return {one.key: done if one.key in self._ended else runs for one in handles}

    @hookimpl
    def axsched_fetch_results(self, handles: Sequence[JobHandle]) -> dict[str, JobResult]:
        self._ended.difference_update(one.key for one in handles)
        return {one.key: JobResult(metrics={"loss": 1.0}) for one in handles}

    @hookimpl
    def axsched_cancel(self, handles: Sequence[JobHandle], reason: str) -> dict[str, CancelOutcome]:
        return {one.key: CancelOutcome.REQUESTED for one in handles}

    @hookimpl
    def axsched_capacity(self) -> int | None:
        return None

    @hookimpl
    def axsched_close(self, wait: bool) -> None:
        self._closed.set()


def memory() -> int:
    """Bytes of this process's memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(trials: int, in_flight: int, folder: str) -> dict[str, float]:
    """Run so many trials in this process; figures for each trial."""
    logging.disable(logging.WARNING)
    runner = Instant()
    config = {"job_output_dir": folder, "progress": False, "max_parallelism": in_flight}
    before = memory()
    scheduler = AxScheduler(RandomSearch(BOUNDS, seed=1), runner, config)
    with scheduler:
        cpu, wall = time.process_time(), time.perf_counter()
        scheduler.run_optimization(max_trials=trials)
        cpu, wall = time.process_time() - cpu - runner.cpu, time.perf_counter() - wall
        after = memory()
        journal = (scheduler.run_directory / "journal.jsonl").stat().st_size
    assert all(trial.state.value == "SUCCEEDED" for trial in scheduler.trials.values())
    return {
        "cpu": 1e3 * cpu / trials,
        "wall": 1e3 * wall / trials,
        "memory": (after - before) / trials,
        "journal": journal / trials,
    }


def optimizers_own(trials: int) -> float:
    """Bytes that random search itself keeps of a trial, in this process."""
    from axsched_core.optimizers import Outcome, OutcomeKind

    search, before = RandomSearch(BOUNDS, seed=1), memory()
    made = [candidate.index for candidate in search.ask(trials).candidates]
    search.tell([Outcome(i, OutcomeKind.COMPLETED, {"loss": (1.0, None)}) for i in made])
    return (memory() - before) / trials


def look(run_dir: Path) -> dict[str, float]:
    """Seconds to view a run, and to resume it, with nothing left to do."""
    logging.disable(logging.WARNING)
    began = time.perf_counter()
    run = Run(run_dir)
    run.look()
    viewed = time.perf_counter() - began
    began = time.perf_counter()
    with AxScheduler.resume(run_dir, optimizer=RandomSearch({}), runner=Instant()) as again:
        resumed = time.perf_counter() - began
        assert len(again.trials) == len(run.trials)
    return {"view": viewed, "resume": resumed}


def apart(what: str, *arguments: object) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, what, *map(str, arguments)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(out)
    return found


def main() -> int:
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])))
        return 0
    if sys.argv[1:2] == ["own"]:
        print(json.dumps({"memory": optimizers_own(int(sys.argv[2]))}))
        return 0
    if sys.argv[1:2] == ["look"]:
        print(json.dumps(look(Path(sys.argv[2]))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="a hundredth of everything")
    arguments = parser.parse_args()
    share = 100 if arguments.quick else 1
    whole = arguments.trials // share
    cells = [
        *((trials, 1000 // share) for trials in (whole // 100, whole // 10, whole)),
        *((whole // 3, flight // share) for flight in (100, 1000, 10_000)),
    ]
    found = []
    with tempfile.TemporaryDirectory(prefix="axsched-scale-") as place:
        for number, (trials, flight) in enumerate(cells):
            folder = Path(place, str(number))
            cell = apart("measure", trials, flight, folder)
            cell["memory"] -= apart("own", trials)["memory"]
            found.append(cell)
            print(
                f"{trials:>7} trials, {flight:>6} in flight: {cell['cpu']:6.3f} ms of CPU, "
                f"{cell['wall']:6.3f} ms, {cell['memory']:6.0f} bytes of memory, "
                f"{cell['journal']:4.0f} bytes of journal a trial",
                flush=True,
            )
        (run_dir,) = Path(place, "2").iterdir()
        seen = apart("look", run_dir)
    print(f"{whole} trials: a view takes {seen['view']:.1f} s, a resume {seen['resume']:.1f} s")
    _, middle, many, flight_low, _, flight_high = found
    exponent = 1 + math.log(many["cpu"] / middle["cpu"]) / math.log(10)
    ratio = flight_high["cpu"] / flight_low["cpu"]
    aims = {
        f"{many['cpu']:.2f} ms of CPU a trial (at most {CPU})": many["cpu"] <= CPU,
        f"exponent {exponent:.2f} over trials (at most {EXPONENT})": exponent <= EXPONENT,
        f"{ratio:.2f} times from fewest to most in flight (at most {IN_FLIGHT})": (
            ratio <= IN_FLIGHT
        ),
    }
    for what, most in (("memory", MEMORY), ("journal", JOURNAL)):
        aims[f"{many[what]:.0f} bytes of {what} a trial (at most {most:.0f})"] = many[what] <= most
    return tell(aims)


if __name__ == "__main__":
    raise SystemExit(main())
