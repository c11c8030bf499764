"""A whole optimization with the scheduler, which finds the runner by its name."""

import pytest
from axsched_core import AxScheduler
from axsched_core.testing import RandomSearch

COLOURS = ("red", "yellow", "blue")
PLACES = 3


@pytest.fixture
def service(start_service):
    return start_service(places=PLACES)


def run(optimizer, service, folder, trials):
    config = {"job_output_dir": folder, "monitoring_interval": 0.05, "progress": False}
    options = {"url": service.url}
    with AxScheduler(optimizer, "robot", config, runner_options=options) as scheduler:
        best = scheduler.run_optimization(max_trials=trials)
    assert {trial.state.value for trial in scheduler.trials.values()} == {"SUCCEEDED"}
    assert [status for _, status in service.jobs("")] == ["COMPLETED"] * trials
    assert 1 < service.control("get_most_open") <= PLACES
    return best


def test_random_search(service, tmp_path):
    optimizer = RandomSearch(dict.fromkeys(COLOURS, (0.0, 1.0)), "distance")
    best = run(optimizer, service, tmp_path, 12)
    trials = optimizer.trials().values()
    assert best.parameters in [trial.parameters for trial in trials]
    assert {trial.status for trial in trials} == {"COMPLETED"}


def test_ax(service, tmp_path):
    ax = pytest.importorskip("ax", reason="Ax is not installed: no optimization with ax.Client")
    client = ax.Client(random_seed=1)
    client.configure_experiment(
        [
            ax.RangeParameterConfig(name=name, bounds=(0, 1), parameter_type="float")
            for name in COLOURS
        ]
    )
    client.configure_optimization("-distance")
    best = run(client, service, tmp_path, 4)
    assert set(best.parameters) == set(COLOURS)
    assert set(client.summarize()["trial_status"]) == {"COMPLETED"}
