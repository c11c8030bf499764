"""The next driver of a run, in the same process.

A copy of the run directory, made while the driver works, simulates its death. The toy runner's jobs
belong to the backend, which both drivers share.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from axsched_core import AxScheduler
from support.toy import ToyOptimizer, ToyRunner


def died(scheduler: AxScheduler, to: Path) -> Path:
    """The run directory of a driver that dies now."""
    copy = Path(shutil.copytree(scheduler.run_directory, to / scheduler.run_directory.name))
    (copy / "lock.json").unlink(missing_ok=True)
    # It takes the place of the original, which still lives and would be in its way.
    journal, places = copy / "journal.jsonl", (scheduler.run_directory, copy)
    old, new = (f'"place":{json.dumps(str(place))}'.encode() for place in places)
    journal.write_bytes(journal.read_bytes().replace(old, new))
    return copy


def next_runner(last: ToyRunner, kind: type[ToyRunner] = ToyRunner) -> ToyRunner:
    """A runner of another driver for the same backend."""
    runner = kind(last.finish, capabilities=last.capabilities)
    runner.requests, runner.statuses, runner.results = last.requests, last.statuses, last.results
    return runner


def resume(run_dir: Path, last: ToyRunner, **more: Any) -> AxScheduler:
    """The next driver."""
    settings = {"optimizer": ToyOptimizer(), "runner": next_runner(last), **more}
    return AxScheduler.resume(run_dir, **settings)
