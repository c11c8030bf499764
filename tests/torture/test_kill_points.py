"""kill -9 of a driver at each labelled point of its life, right before and right after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.kill_points import FIRST, INTERRUPTED, RESUMED
from support.killed_runs import Drivers, Order, Run

WHEN = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


@WHEN
@pytest.mark.parametrize("label", FIRST)
def test_killed_in_the_first_driver(tmp_path: Path, drivers: Drivers, label: str, after: bool):
    run = Run(tmp_path / "run", drivers, Order())
    assert not run.drive(point=label, after=after), "the point was never reached"
    assert run.drive()
    run.check()


@WHEN
@pytest.mark.parametrize("label", INTERRUPTED)
def test_killed_after_ctrl_c(tmp_path: Path, drivers: Drivers, label: str, after: bool):
    run = Run(tmp_path / "run", drivers, Order(seconds=60, interrupt=2))
    assert not run.drive(point=label, after=after), "the point was never reached"
    run.hurry()
    assert run.drive(interrupt=None)
    run.check(interrupted=True)


@WHEN
@pytest.mark.parametrize("label", RESUMED)
def test_killed_while_it_resumes(tmp_path: Path, drivers: Drivers, label: str, after: bool):
    run = Run(tmp_path / "run", drivers, Order())
    assert not run.drive(point="submitted", after=True)
    assert not run.drive(point=label, after=after), "the point was never reached"
    assert run.drive()
    run.check()
