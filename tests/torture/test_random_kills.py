"""kill -9 of drivers at random moments; the next one goes on, and nothing is lost or doubled."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.killed_runs import NEXT_ROOM, Drivers, Order, Run

KILLS_A_RUN = 5


def kill(
    folder: Path, drivers: Drivers, order: Order, dice: random.Random, kills: int
) -> list[Run]:
    """Kill so many drivers, a few a run; look at each run when it is over."""
    killed, runs = 0, list[Run]()
    while killed < kills:
        runs.append(Run(folder / str(len(runs)), drivers, order))
        killed += runs[-1].drive_killed(dice, min(KILLS_A_RUN, kills - killed), life=1.0)
        runs[-1].check()
    return runs


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
    """Each driver's clock is set back by an hour when it has looked at it a few times."""
    order = Order(trials=16, clock=(0.0, -3600.0, dice.randrange(5, 40)))
    kill(tmp_path, drivers, order, dice, kills)
    # (One that finds little left to do may end before it has looked so often; this one may not.)
    undisturbed = Run(tmp_path / "undisturbed", drivers, order)
    assert undisturbed.drive()
    undisturbed.check()
    assert undisturbed.said("CLOCK")


@pytest.mark.ax
@pytest.mark.timeout(3600)
def test_killed_with_ax(tmp_path: Path, drivers_with_ax: Drivers, dice: random.Random, kills: int):
    kill(tmp_path, drivers_with_ax, Order(trials=8, ax=True), dice, kills // 2)
