"""A disk that is full at a random write, and lines that are torn: nothing is lost or doubled."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torture import Drivers, Order, Run
from world import SearchableRunner, World, WorldOptimizer

from axsched_core import AxScheduler, journal

CONFIG = {"monitoring_interval": 0.001, "progress": False, "max_parallelism": 2}


@pytest.mark.parametrize("dies", [False, True], ids=["makes room", "dies"])
@pytest.mark.timeout(3600)
def test_the_disk_is_full_at_a_random_write(
    tmp_path: Path, drivers: Drivers, dice: random.Random, kills: int, dies: bool
):
    """The driver makes room and calls again, or it is killed, and the next one has room."""
    full = 0
    for number in range(kills):
        order = Order(dies_when_full=dies)
        run = Run(tmp_path / str(number), drivers, order)
        if not run.drive(full_at=dice.randrange(100)):
            assert run.drive()
        full += run.said("FULL")
        run.check()
    assert full > kills / 4
