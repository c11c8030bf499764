"""What it costs to look at a run: a first look, a second one, and the floor below them.

    python benchmarks/view.py [--trials 10000] [--more 10] [--run RUN_DIR]

Makes a journal with the product's own writer (each line as a run with Ax writes it, a generator run
of 1.4 kB included), reads it, adds ``--more`` trials, and looks again. `json.loads` of all lines in
this very process is the measure that does not depend on the machine. All times are of this
process's CPU, so that others do not count. With ``--run`` the journal of a real run is read.

Ends with status 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common import tell

from axsched_core.jobs import JobHandle, JobRequest, JobState, JobStatus
from axsched_core.journal import lines
from axsched_core.journal.view import Run
from axsched_core.journal.writer import Writer
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Attempt, Record, Stage
from axsched_core.trials import TrialState

SECONDS_FOR_10_000, OF_LOADS, MILLISECONDS = 0.5, 1.0, 10.0
LANE: Any = SimpleNamespace(name="joblib")
HEADER = {"run_id": "0123456789", "runner": "joblib"}
OPTIMIZED = {"objectives": [{"name": "loss", "minimize": True, "weights": {"loss": 1.0}}]}
ORIGIN = {
    "__type": "GeneratorRun",
    "arms": [{"__type": "Arm", "parameters": {"x": 0.1, "y": 0.2, "z": 0.3}, "name": "0_0"}],
    "adapter_kwargs": [{"__type": "Type[Transform]", "transform_type": "Log"}] * 20,
}


def write(recorder: Recorder, folder: Path, indices: range) -> None:
    """Add the lines of these trials, each of which succeeds at its first attempt."""
    for i in indices:
        record = Record(i, {"x": i / 7, "y": i / 11, "z": i / 13})
        recorder.trial_made(record, ORIGIN, counted=True)
        key = f"0123456789-{i}-1"
        request = JobRequest(key, i, 1, record.parameters, folder, None)
        record.latest = Attempt(request, LANE)
        record.stage, record.state = Stage.WAITING, TrialState.QUEUED
        recorder.job_prepared(record)
        record.stage = Stage.SUBMITTED
        record.latest.handle = JobHandle(key, str(i), {"folder": f"jobs/{i:05d}-1"})
        recorder.job_accepted(record)
        recorder.job_started(record, JobStatus(JobState.RUNNING, host="node-17"))
        record.latest.status = JobStatus(
            JobState.SUCCEEDED,
            exit_code=0,
            started_at=1.7e9 + i / 3,
            ended_at=1.7e9 + i / 2,
            host="node-17",
            max_rss_bytes=123_456_789,
        )
        record.stage, record.state = Stage.TELLING, TrialState.SUCCEEDED
        record.results = {"loss": (i % 97 / 3, None)}
        recorder.attempt_ended(record, record.state, None, "")
        recorder.trial_decided(record)
    recorder.writer.flush()


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def loads(path: Path) -> None:
    for raw in path.read_bytes().splitlines():
        json.loads(raw)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--more", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--run", type=Path)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="axsched-view-"))
    path = (arguments.run or folder) / lines.NAME
    recorder = Recorder(Writer(), lambda event: None)
    try:
        if not arguments.run:
            recorder.begin(folder, {**HEADER, "optimized": OPTIMIZED})
            write(recorder, folder, range(arguments.trials))
        first, floor, run = [], [], Run(path.parent)
        for _ in range(arguments.rounds):
            run = Run(path.parent)
            gc.collect()
            first.append(seconds(run.look))
            gc.collect()
            floor.append(seconds(lambda: loads(path)))
        trials, size = len(run.trials), path.stat().st_size
        second = []
        for number in range(arguments.rounds):
            if not arguments.run:
                start = trials + number * arguments.more
                write(recorder, folder, range(start, start + arguments.more))
            second.append(seconds(run.look))
        assert run.counts
    finally:
        recorder.writer.close()
        shutil.rmtree(folder)
    once, again, least = min(first), sorted(second)[len(second) // 2], min(floor)
    share, allowed = once / least, SECONDS_FOR_10_000 * trials / 10_000
    aims = {
        f"{trials} trials ({size / 1e6:.1f} MB) are read in {once:.3f} s (at most {allowed:.2f})": (
            once <= allowed
        ),
        f"that is {share:.2f} times json.loads of all lines, {least:.3f} s (at most {OF_LOADS})": (
            share <= OF_LOADS
        ),
        f"{arguments.more} trials more are seen in {again * 1e3:.2f} ms (at most {MILLISECONDS}), "
        f"{once / again:.0f} times faster than a first look": again * 1e3 <= MILLISECONDS,
    }
    return tell(aims)


if __name__ == "__main__":
    raise SystemExit(main())
