"""kill -9 of drivers at random moments; the next one goes on, and nothing is lost or doubled."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from torture import NEXT_ROOM, Drivers, Order, Run

KILLS_A_RUN = 5


def kill(folder: Path, drivers: Drivers, order: Order, dice: random.Random, kills: int) -> None:
    """Kill so many drivers, a few a run; look at each run when it is over."""
    killed = runs = 0
    while killed < kills:
        run = Run(folder / str(runs), drivers, order)
        killed += run.drive_killed(dice, min(KILLS_A_RUN, kills - killed), life=1.0)
        run.check()
        runs += 1


@pytest.mark.parametrize("pool", [NEXT_ROOM, {"n_jobs": 3}], ids=["threads", "loky"])
@pytest.mark.timeout(3600)
def test_killed_at_random_moments(
    tmp_path: Path, drivers: Drivers, pool: Mapping[str, Any], dice: random.Random, kills: int
):
    kill(tmp_path, drivers, Order(trials=16, runner_options=pool), dice, kills)


@pytest.mark.timeout(3600)
def test_killed_while_the_clock_goes_wrong(
    tmp_path: Path, drivers: Drivers, dice: random.Random, kills: int
):
    """Set back by an hour in the middle of each driver's life, to where no file is yet."""
    looks = dice.randrange(10, 200)
    kill(tmp_path, drivers, Order(trials=16, clock=(0.0, -3600.0, looks)), dice, kills // 2)


@pytest.mark.ax
@pytest.mark.timeout(3600)
def test_killed_with_ax(tmp_path: Path, drivers_with_ax: Drivers, dice: random.Random, kills: int):
    kill(tmp_path, drivers_with_ax, Order(trials=8, ax=True), dice, kills // 2)
