"""Generation strategies by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from axsched_core import AxScheduler
from axsched_core.errors import InvalidInput
from support import sql_driver
from support.toy import ToyRunner

pytestmark = [pytest.mark.ax, pytest.mark.filterwarnings("ignore")]


def scheduler_of(kind: str, name: str, outputs: Path) -> AxScheduler:
    optimizer, _ = sql_driver.make(kind)
    if kind == "client":
        optimizer._maybe_generation_strategy = None
    config = {"job_output_dir": outputs, "monitoring_interval": 0.05, "progress": False}
    runner = ToyRunner(lambda request: {"loss": request.parameters["x"]})
    return AxScheduler(optimizer, runner, config, generation_strategy=name)


@pytest.mark.parametrize("kind", sql_driver.KINDS)
@pytest.mark.parametrize(("name", "model"), [("fast", True), ("sobol", False), ("random", False)])
def test_what_makes_the_trials(kind: str, name: str, model: bool, tmp_path: Path) -> None:
    with scheduler_of(kind, name, tmp_path) as scheduler:
        scheduler.run_optimization(8)
        methods = {trial.method for trial in scheduler.trials.values()}
        assert ("MBM" in methods) == model, methods
        assert methods & {"Sobol", "CenterOfSearchSpace"}


def test_quality_is_a_slower_model(tmp_path: Path) -> None:
    with scheduler_of("experiment", "quality", tmp_path) as scheduler:
        assert "SAAS" in str(scheduler._run.optimizer.strategy) or (
            "quality" in scheduler._run.optimizer.strategy.name
        )


@pytest.mark.parametrize("kind", sql_driver.KINDS)
def test_a_name_that_is_none(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="Did you mean 'fast'"):
        scheduler_of(kind, "fsat", tmp_path)


def test_a_client_that_has_made_trials(tmp_path: Path) -> None:
    optimizer, _ = sql_driver.make("client")
    optimizer.get_next_trials(1)
    with pytest.raises(InvalidInput, match="has made 1 trials"):
        AxScheduler(optimizer, ToyRunner(), generation_strategy="fast")


def test_the_same_seed_makes_the_same_points(tmp_path: Path) -> None:
    found = []
    for number in range(2):
        with scheduler_of("client", "fast", tmp_path / str(number)) as scheduler:
            scheduler.run_optimization(7, synchronous=True)
            found.append([dict(trial.parameters) for trial in scheduler.trials.values()])
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, rel=1e-3)
