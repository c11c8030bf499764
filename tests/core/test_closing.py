"""Runners that cannot be closed: the others are closed all the same, and each error is told."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from axsched_core import AxScheduler, hookimpl
from axsched_core.errors import RunnerError
from support.toy import ToyRunner

Make = Callable[..., AxScheduler]

PROGRAM = """
    import sys

    sys.path.insert(0, {tests!r})
    from axsched_core import AxScheduler, hookimpl
    from support.toy import ToyOptimizer, ToyRunner

    class Jammed(ToyRunner):
        @hookimpl
        def axsched_close(self, wait):
            print("closed with", len(self.cancels), "cancelled", flush=True)
            raise OSError("the door is jammed")

    schedulers = []
    for number in range(3):
        settings = {{"job_output_dir": {out!r} + "/" + str(number), "progress": False}}
        scheduler = AxScheduler(ToyOptimizer(), Jammed(lambda request: None), settings)
        scheduler.run_trial(scheduler.get_next_trial())
        schedulers.append(scheduler)
"""


def test_when_the_program_ends_all_are_closed_although_one_cannot_be(tmp_path: Path):
    tests = str(Path(__file__).parents[1])
    code = textwrap.dedent(PROGRAM).format(tests=tests, out=str(tmp_path))
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines() == ["closed with 1 cancelled"] * 3, ran.stderr
    assert ran.stderr.count("the door is jammed") >= 3


class Jammed(ToyRunner):
    @hookimpl
    def axsched_close(self, wait: bool) -> None:
        raise OSError("the door is jammed")


def test_a_runner_that_cannot_be_closed_is_named(make: Make):
    scheduler = make(runner=Jammed())
    scheduler.run_optimization(max_trials=1)
    with pytest.raises(RunnerError, match=r"Runner 'toy' could not be closed: OSError: the door"):
        scheduler.close()
