"""A disk that is full at a random write, and lines that are torn: nothing is lost or doubled."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from axsched_core.journal import lines, replay
from support.faulty_backend import FaultyBackend, Killed, Trouble
from support.faulty_backend_driver import Driver, patch
from support.killed_runs import Drivers, Order, Run


@pytest.mark.parametrize("dies", [False, True], ids=["makes room", "dies"])
@pytest.mark.timeout(3600)
def test_the_disk_is_full_at_a_random_write(
    tmp_path: Path, drivers: Drivers, dice: random.Random, kills: int, dies: bool
):
    """The driver makes room and calls again, or it is killed, and the next one has room."""
    full = 0
    for number in range(max(4, kills // 2)):
        order = Order(trials=8, dies_when_full=dies)  # some hundred requests for space
        run = Run(tmp_path / str(number), drivers, order)
        if not run.drive(full_at=dice.randrange(100)):
            assert run.drive()
        full += run.said("FULL")
        run.check()
    assert full > 0


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(1, 9))
def test_a_driver_dies_in_the_middle_of_a_write(
    tmp_path: Path, dice: random.Random, kills: int, monkeypatch: pytest.MonkeyPatch, number: int
):
    """Of what its so-manieth flush was to write, any number of bytes may be there."""
    sizes = list(range(800))
    for size in dice.sample(sizes, min(kills, len(sizes))):
        backend = FaultyBackend()
        with monkeypatch.context() as patches:
            patch(patches, backend)
            driver = Driver(backend, tmp_path / str(size), True, {"on_unknown": "fail"})
            trouble = Trouble(death=("flush", number, False), torn=size)
            with pytest.raises(Killed):
                driver.call("run_optimization", max_trials=4, trouble=trouble)
            if driver.scheduler._run.budget.open or driver.scheduler.trials:
                driver.scheduler.finish()
            else:
                driver.scheduler.run_optimization(max_trials=4)
            rows = driver.scheduler.client.rows
            driver.scheduler.close()
        assert backend.wrong == []
        assert [row["status"] for row in rows.values()] == ["COMPLETED"] * 4
        assert [len(backend.of(trial)) for trial in rows] == [1] * 4
        read = replay.read(driver.scheduler.run_directory / lines.NAME)
        assert {i: trial.state for i, trial in read.trials.items()} == dict.fromkeys(
            rows, "SUCCEEDED"
        )
