"""Past results and Ax: its models use them, its tables hold them, a killed driver loses none.

As a script it is a driver that attaches ``past.csv`` and is killed: ``test_past_data.py OUT WHEN``.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from axsched_core import AxScheduler, TrialState
from axsched_core.errors import InvalidInput
from support import environment, sql_driver
from support.toy import ToyRunner

pytestmark = [pytest.mark.ax, pytest.mark.filterwarnings("ignore")]


def rows(n: int, best_x: float = 0.5) -> list[dict[str, float]]:
    """Points of a lattice, and a bowl with its ground at (best_x, 0.5)."""
    points = [((i * 0.618) % 1, (i * 0.414) % 1) for i in range(1, n + 1)]
    return [{"x": x, "y": y, "loss": (x - best_x) ** 2 + (y - 0.5) ** 2} for x, y in points]


def scheduler_of(optimizer: Any, tmp_path: Path, strategy: Any = None) -> AxScheduler:
    return AxScheduler(
        optimizer,
        ToyRunner(lambda request: {"loss": (request.parameters["x"] - 0.5) ** 2}),
        {"job_output_dir": tmp_path / "out", "progress": False, "prefetch": 0},
        generation_strategy=strategy,
    )


def mixed() -> Any:
    """A client with a parameter of each kind, a constraint on parameters, and a tracking metric."""
    from ax import ChoiceParameterConfig, Client, RangeParameterConfig

    client = Client(random_seed=3)
    client.configure_experiment(
        parameters=[
            RangeParameterConfig(name="x", bounds=(0, 1), parameter_type="float"),
            RangeParameterConfig(name="k", bounds=(1, 8), parameter_type="int"),
            ChoiceParameterConfig(
                name="opt", values=["adam", "1"], parameter_type="str", is_ordered=False
            ),
            ChoiceParameterConfig(name="on", values=[True, False], parameter_type="bool"),
            ChoiceParameterConfig(name="fix", values=[2.5], parameter_type="float"),
        ],
        parameter_constraints=["x + k <= 8.5"],
    )
    client.configure_optimization("-loss", outcome_constraints=["mem <= 10"])
    client.configure_tracking_metrics(["time"])
    return client


MIXED = [
    {"x": 0.5, "k": 2, "opt": "adam", "on": True, "loss": 1.5, "mem": 3, "time": 7.0},
    {"x": 1, "k": 3, "opt": "1", "on": False, "loss": 2.5, "loss_sem": 0.25, "mem": 4},
]


def table_of(scheduler: AxScheduler) -> set[tuple[Any, ...]]:
    frame = scheduler.experiment.lookup_data().df
    sems = [None if sem != sem else sem for sem in frame["sem"]]
    columns = (frame["trial_index"], frame["metric_name"], frame["mean"], sems)
    return set(zip(*columns, strict=True))


@pytest.mark.parametrize("form", ["frame", "scalars", "csv", "rows"])
def test_a_table_with_every_kind_of_column_is_what_ax_then_holds(tmp_path: Path, form: str):
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame(MIXED)
    data: Any = MIXED
    if form == "frame":
        data = frame
    elif form == "csv":
        data = tmp_path / "past.csv"
        frame.to_csv(data)
    elif form == "scalars":
        data = frame.astype({"x": np.float32, "k": "Int64", "time": "Float64", "opt": "category"})
        assert data["time"].iloc[1] is pd.NA
    with scheduler_of(mixed(), tmp_path) as scheduler:
        assert scheduler.attach_data(data) == [0, 1]
        assert table_of(scheduler) == {
            (0, "loss", 1.5, None),
            (0, "mem", 3.0, None),
            (0, "time", 7.0, None),
            (1, "loss", 2.5, 0.25),
            (1, "mem", 4.0, None),
        }
        held = {i: t.arm.parameters for i, t in scheduler.experiment.trials.items()}
        assert held == {
            0: {"x": 0.5, "k": 2, "opt": "adam", "on": True, "fix": 2.5},
            1: {"x": 1.0, "k": 3, "opt": "1", "on": False, "fix": 2.5},
        }
        types = {"x": float, "k": int, "opt": str, "on": bool, "fix": float}
        for parameters in held.values():
            assert {name: type(value) for name, value in parameters.items()} == types
        assert {i: t.parameters for i, t in scheduler.trials.items()} == held
        assert all(t.status.is_completed for t in scheduler.experiment.trials.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": 1.5}, "'x' cannot be 1.5 (float): allowed is a number from 0.0 to 1.0"),
        ({"x": "big"}, "'x' cannot be 'big' (str)"),
        ({"x": ""}, "Parameters are missing: 'x'"),
        ({"k": 2.5}, "'k' cannot be 2.5 (float): allowed is a whole number from 1 to 8"),
        ({"opt": "sgd"}, "'opt' cannot be 'sgd' (str): allowed is one of 'adam', '1'"),
        ({"on": "maybe"}, "'on' cannot be 'maybe' (str)"),
        ({"x": 0.9, "k": 8}, "The parameters break the constraint"),
        ({"mem": ""}, "there is no value of 'mem'"),
        ({"time": "long"}, "metric 'time' is 'long', not a number"),
    ],
)
def test_a_bad_line_is_named_with_the_reason(tmp_path: Path, change: dict[str, Any], words: str):
    lines = [MIXED[0], {**MIXED[0], **change}]
    text = "\n".join([",".join(MIXED[0]), *(",".join(map(str, one.values())) for one in lines)])
    (tmp_path / "past.csv").write_text(text)
    with scheduler_of(mixed(), tmp_path) as scheduler:
        with pytest.raises(InvalidInput, match=rf"1 of 2 .*\n  line 3: .*{re.escape(words)}"):
            scheduler.attach_data(tmp_path / "past.csv")
        assert not scheduler.experiment.trials


def test_a_parameter_that_depends_on_another_may_be_empty(tmp_path: Path):
    import pandas as pd
    from ax import ChoiceParameterConfig, Client, RangeParameterConfig

    client = Client()
    names = ["linear", "ridge"]
    client.configure_experiment(
        parameters=[
            ChoiceParameterConfig(
                name="model",
                values=names,
                parameter_type="str",
                is_ordered=False,
                dependent_parameters={name: [f"of_{name}"] for name in names},
            ),
            *(
                RangeParameterConfig(name=f"of_{name}", bounds=(0, 1), parameter_type="float")
                for name in names
            ),
        ]
    )
    client.configure_optimization("-loss")
    frame = pd.DataFrame(
        [
            {"model": "linear", "of_linear": 0.5, "loss": 1},
            {"model": "ridge", "of_ridge": 0.25, "loss": 2},
        ]
    )
    with scheduler_of(client, tmp_path) as scheduler:
        scheduler.attach_data(frame)
        assert [t.parameters for t in scheduler.trials.values()] == [
            {"model": "linear", "of_linear": 0.5},
            {"model": "ridge", "of_ridge": 0.25},
        ]


@pytest.mark.parametrize("kind", sql_driver.KINDS)
def test_the_first_proposal_is_the_models_and_uses_the_past_results(kind: str, tmp_path: Path):
    near: list[float] = []
    for best_x in (0.2, 0.8):
        optimizer, strategy = sql_driver.make(kind, init=5)
        with scheduler_of(optimizer, tmp_path, strategy) as scheduler:
            indices = scheduler.attach_data(rows(12, best_x))
            first = scheduler.get_next_trial()
            assert first == 12
            run = scheduler.experiment.trials[first].generator_run
            assert run._generator_key != "Sobol"
            adapter = scheduler._run.optimizer.strategy.adapter
            used = adapter.get_training_data().observation_data
            assert set(used.index.get_level_values("trial_index")) == set(indices)
            near.append(scheduler.trials[first].parameters["x"])
    assert abs(near[0] - 0.2) < 0.2
    assert abs(near[1] - 0.8) < 0.2


@pytest.mark.parametrize("kind", sql_driver.KINDS)
def test_a_thousand_rows_are_one_table_for_ax(kind: str, tmp_path: Path, monkeypatch):
    optimizer, strategy = sql_driver.make(kind)
    with scheduler_of(optimizer, tmp_path, strategy) as scheduler:
        attach, tables = type(scheduler.experiment).attach_data, list[int]()

        def spy(self: Any, data: Any, **more: Any) -> Any:
            tables.append(len(data.df))
            return attach(self, data, **more)

        monkeypatch.setattr(type(scheduler.experiment), "attach_data", spy)
        assert len(scheduler.attach_data(rows(1000))) == 1000
        assert tables == [1000]


@pytest.mark.parametrize("begin", sql_driver.KINDS)
def test_warm_start_goes_from_any_kind_of_optimizer_to_any(begin: str, tmp_path: Path):
    optimizer, strategy = sql_driver.make(begin)
    with scheduler_of(optimizer, tmp_path, strategy) as first:
        first.run_optimization(3)
        first.attach_data(rows(2))
    after = sql_driver.KINDS[sql_driver.KINDS.index(begin) - 1]
    optimizer, strategy = sql_driver.make(after)
    with scheduler_of(optimizer, tmp_path, strategy) as second:
        assert second.warm_start(first.run_directory) == [0, 1, 2, 3, 4]
        assert table_of(second) == table_of(first)
        assert [t.parameters for t in second.trials.values()] == [
            t.parameters for t in first.trials.values()
        ]


@pytest.mark.parametrize("when", ["before Ax is told", "afterwards"])
def test_a_driver_that_is_killed_loses_none_of_them(tmp_path: Path, when: str):
    past = rows(6)
    lines = [",".join(past[0]), *(",".join(map(str, one.values())) for one in past)]
    (tmp_path / "past.csv").write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), when],
        env=environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (folder,) = (tmp_path / "out").iterdir()
    with AxScheduler.resume(folder, runner=ToyRunner(lambda r: {"loss": 1.0})) as scheduler:
        assert table_of(scheduler) == {(i, "loss", one["loss"], None) for i, one in enumerate(past)}
        assert {t.state for t in scheduler.trials.values()} == {TrialState.SUCCEEDED}
        scheduler.run_optimization(1)
        assert len(scheduler.trials) == 7
        assert scheduler.experiment.trials[6].generator_run._generator_key != "Sobol"


@pytest.mark.usefixtures("one_connection")
@pytest.mark.parametrize("kind", sql_driver.KINDS)
def test_a_database_has_them_when_the_call_returns(kind: str, tmp_path: Path, url: str):
    optimizer, strategy = sql_driver.make(kind)
    stored = sql_driver.settings(url)
    runner, config = ToyRunner(), {"job_output_dir": tmp_path, "progress": False, "durable": False}
    first = AxScheduler(optimizer, runner, config, generation_strategy=strategy, db_settings=stored)
    with first:
        first.attach_data(rows(6))
        found = AxScheduler.from_stored_experiment(
            sql_driver.NAME, db_settings=stored, runner=ToyRunner(), config=config
        )
        with found:
            means = {index: mean for index, _, mean, _ in table_of(found)}
            assert means == pytest.approx({i: row["loss"] for i, row in enumerate(rows(6))})
            held = found.experiment.trials.values()
            assert [trial.status.name for trial in held] == ["COMPLETED"] * 6
            assert found.get_next_trial() == 6


def driver(folder: Path, when: str) -> None:
    from axsched_core.optimizers.client import ClientOptimizer

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if when == "before Ax is told":
        ClientOptimizer.tell = die  # type: ignore[method-assign]
    scheduler = scheduler_of(sql_driver.make("client")[0], folder)
    scheduler.attach_data(folder / "past.csv")
    die()


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    driver(Path(sys.argv[1]), sys.argv[2])
