"""Ax's own loops on axsched's runners."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from axsched_core import TrialState, table
from axsched_core.errors import InvalidInput

pytestmark = [pytest.mark.ax, pytest.mark.filterwarnings("ignore")]

Make = Callable[..., Any]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make runners over joblib."""
    from axsched_core import ax_native

    made = []

    def build(objective: Any, metrics: Any = ("loss",), **options: Any) -> Any:
        config = {"job_output_dir": tmp_path / "out", "monitoring_interval": 0.1}
        given = {"n_jobs": 2, "backend": "threading", "isolation": "none", **options}
        made.append(ax_native.runner("joblib", objective, given, metrics=metrics, config=config))
        return made[-1]

    yield build
    for one in made:
        one.close()


def client_for(runner: Any, **more: Any) -> Any:
    from ax import Client, RangeParameterConfig

    client = Client(random_seed=3, **more)
    client.configure_experiment(
        [RangeParameterConfig(name=n, bounds=(0, 1), parameter_type="float") for n in ("x", "y")],
        name="e",
    )
    client.configure_optimization("-loss")
    client.configure_runner(runner)
    client.configure_metrics(runner.metrics)
    return client


def run_some(client: Any, trials: int = 3) -> None:
    client.run_trials(max_trials=trials, parallelism=2, initial_seconds_between_polls=0)


def statuses(client: Any) -> list[str]:
    return [trial.status.name for trial in client._experiment.trials.values()]


def test_run_trials_of_the_client(make: Make) -> None:
    runner = make(lambda x, y: {"loss": (x + y, 0.5)})
    client = client_for(runner)
    run_some(client)
    assert statuses(client) == ["COMPLETED"] * 3
    data = client._experiment.lookup_data().df
    for trial in client._experiment.trials.values():
        (row,) = data[data["trial_index"] == trial.index].itertuples()
        parameters = trial.arm.parameters
        assert row.mean == pytest.approx(parameters["x"] + parameters["y"])
        assert row.sem == 0.5
    assert client.get_best_parameterization()


def test_the_orchestrator_with_an_objective_that_fails(make: Make) -> None:
    from ax.orchestration.orchestrator import Orchestrator, OrchestratorOptions

    def objective(parameters: dict[str, float]) -> int:
        if int(os.environ.get("AXSCHED_TRIAL_INDEX", "-1")) == 1:
            raise ValueError("not this one")
        return 2  # an int, which Ax itself would refuse

    runner = make(objective, isolation="fork", backend="loky")
    client = client_for(runner)
    options = OrchestratorOptions(
        init_seconds_between_polls=0, min_seconds_before_poll=0, max_pending_trials=2
    )
    orchestrator = Orchestrator(
        client._experiment, client._generation_strategy_or_choose(), options
    )
    orchestrator.run_n_trials(max_trials=3)
    assert statuses(client)[:3] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert "not this one" in runner.poll_exception(client._experiment.trials[1])


def test_a_trial_that_has_a_job_is_not_submitted_again(make: Make, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def objective(parameters: dict[str, float]) -> float:
        with log.open("a") as file:
            file.write("x\n")
        return 1.0

    runner = make(objective)
    client = client_for(runner)
    client.get_next_trials(2)
    trials = [client._experiment.trials[index] for index in (0, 1)]
    first = runner.run_multiple(trials)
    assert runner.run_multiple(trials) == first
    runner.scheduler().wait_for_completed_trials()
    assert runner.run_multiple(trials) == first
    assert log.read_text() == "x\n" * 2
    other = trials[0].arm.parameters | {"x": 0.123}
    with pytest.raises(InvalidInput, match="was run with"):
        runner.run_trial(0, other)


def test_stop_and_capacity(make: Make, pipe: Any) -> None:
    started, gate = pipe("started"), pipe("gate")

    def objective(parameters: dict[str, float], started=str(started.path), gate=str(gate.path)):
        with open(started, "w") as file:
            file.write("x\n")
        Path(gate).read_text()
        return 1.0

    runner = make(objective, isolation="fork", backend="loky")
    client = client_for(runner)
    client.get_next_trials(1)
    trial = client._experiment.trials[0]
    assert runner.poll_available_capacity() == 2
    trial.update_run_metadata(runner.run(trial))
    started.read_lines(1)
    assert runner.poll_available_capacity() == 1
    runner.stop(trial, "enough")
    runner.scheduler().wait_for_completed_trials()
    assert runner.poll_trial(0, trial.run_metadata).name == "ABANDONED"
    assert runner.poll_exception(trial) == "enough"


def test_wrong_arguments(make: Make) -> None:
    from axsched_core.native.classes import AxschedMetric

    with pytest.raises(InvalidInput, match="metrics must be a list"):
        make(lambda x: x, metrics="loss")
    with pytest.raises(InvalidInput, match="container_image, and perhaps"):
        make({"image": "busybox"})
    with pytest.raises(InvalidInput, match="was not run by an axsched runner"):
        AxschedMetric("loss").fetch(0, {})


def test_it_survives_ax_s_json(make: Make, tmp_path: Path) -> None:
    from ax import Client

    client = client_for(make(lambda parameters: parameters["x"]))
    run_some(client, 2)
    client.save_to_json_file(str(tmp_path / "client.json"))
    again = Client.load_from_json_file(str(tmp_path / "client.json"))
    again._random_seed = 3
    run_some(again, 2)
    assert statuses(again) == ["COMPLETED"] * 4
    rows = table.rows(again._experiment.runner.run_directory)
    assert [row["state"] for row in rows] == ["SUCCEEDED"] * 4


def test_it_survives_ax_s_sql(make: Make, one_connection: None, url: str) -> None:
    from ax import Client
    from ax.api.configs import StorageConfig
    from ax.storage.sqa_store.db import (
        create_all_tables,
        get_engine,
        init_engine_and_session_factory,
    )

    from axsched_core import ax_native

    init_engine_and_session_factory(url=url)
    create_all_tables(get_engine())
    bundle = ax_native.registry()
    storage = StorageConfig(url=url, registry_bundle=bundle)
    client = client_for(make(lambda parameters: parameters["x"]), storage_config=storage)
    run_some(client, 2)
    again = Client.load_from_database("e", storage_config=storage)
    run_some(again, 2)
    assert statuses(again) == ["COMPLETED"] * 4


DRIVER = """
import os, signal, sys
from ax import Client
from axsched_core import ax_native
sys.path.insert(0, {tests!r})

def objective(parameters):
    with open({log!r}, "a") as file:
        file.write(os.environ["AXSCHED_TRIAL_INDEX"] + "\\n")
    return parameters["x"]

if __name__ == "__main__":
    from core.ax.test_native import client_for
    config = {{"job_output_dir": {out!r}, "monitoring_interval": 0.1}}
    runner = ax_native.runner("joblib", objective, {{"n_jobs": 2}}, metrics=["loss"], config=config)
    client = client_for(runner)
    client.get_next_trials(3)
    trials = list(client._experiment.trials.values())
    client.save_to_json_file({saved!r})
    runner.run_multiple(trials)
    runner.scheduler().monitor_trials()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_killed_driver_no_trial_is_evaluated_twice(tmp_path: Path) -> None:
    from ax import Client
    from ax.orchestration.orchestrator import Orchestrator, OrchestratorOptions

    log, saved, script = (tmp_path / name for name in ("log", "saved.json", "driver.py"))
    places = {"log": str(log), "saved": str(saved), "out": str(tmp_path / "out")}
    tests = str(Path(__file__).parents[2])
    script.write_text(textwrap.dedent(DRIVER).format(tests=tests, **places))
    done = subprocess.run([sys.executable, str(script)], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]

    client = Client.load_from_json_file(str(saved))
    runner, experiment = client._experiment.runner, client._experiment
    for index, metadata in runner.run_multiple(experiment.trials.values()).items():
        experiment.trials[index].update_run_metadata(metadata)  # Ax had not saved it
    options = OrchestratorOptions(init_seconds_between_polls=0, min_seconds_before_poll=0)
    try:
        Orchestrator(experiment, client._generation_strategy, options).run_n_trials(max_trials=1)
        assert statuses(client) == ["COMPLETED"] * 4
        assert sorted(log.read_text().split()) == ["0", "1", "2", "3"]
        states = {trial.state for trial in runner.scheduler().trials.values()}
        assert states == {TrialState.SUCCEEDED}
    finally:
        runner.close()
