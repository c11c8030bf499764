"""A whole optimization through the scheduler, which finds the runner by its name."""

import json
import random

import pytest
from axsched_core import AxScheduler
from axsched_core.optimizers.base import Asked, Candidate, Optimizer, OutcomeKind, TrialView

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
    optimizer = RandomSearch()
    best = run(optimizer, service, tmp_path, 12)
    assert best in [row["parameters"] for row in optimizer.rows]
    assert {row["status"] for row in optimizer.rows} == {"COMPLETED"}
    assert all(row["metrics"]["distance"][1] == 0.01 for row in optimizer.rows)


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
    assert set(best) == set(COLOURS)
    assert set(client.summarize()["trial_status"]) == {"COMPLETED"}


class RandomSearch(Optimizer):
    """An optimizer that needs no Ax."""

    native = experiment = property(lambda self: self)
    name = "colours"
    objective_names = ("distance",)
    required_metrics = frozenset(objective_names)
    parameter_names = COLOURS

    def __init__(self):
        self.rows = []

    def check(self):
        """There is nothing that could be wrong."""

    def ask(self, n):
        indices = [self.attach({name: random.random() for name in COLOURS}) for _ in range(n)]
        return Asked(tuple(Candidate(i, self.rows[i]["parameters"]) for i in indices))

    def tell(self, outcomes):
        for outcome in outcomes:
            done = outcome.kind is OutcomeKind.COMPLETED
            metrics = dict(outcome.metrics) if done else None
            self.rows[outcome.index] |= {"status": outcome.kind.value, "metrics": metrics}

    def annotate(self, metadata):
        for index, data in metadata.items():
            self.rows[index]["metadata"] |= data

    def attach(self, parameters):
        row = {"parameters": dict(parameters), "status": "RUNNING", "metrics": None, "metadata": {}}
        self.rows.append(row)
        return len(self.rows) - 1

    def validate(self, parameters):
        """Everything is allowed."""

    def trials(self, indices=None):
        found = range(len(self.rows)) if indices is None else indices
        return {
            i: TrialView(
                index=i,
                parameters=self.rows[i]["parameters"],
                status=self.rows[i]["status"],
                open=self.rows[i]["status"] == "RUNNING",
                has_data=self.rows[i]["metrics"] is not None,
                metadata=self.rows[i]["metadata"],
            )
            for i in found
        }

    def initial_trials_left(self):
        return 0

    def best(self):
        done = [row for row in self.rows if row["metrics"]]
        return min(done, key=lambda row: row["metrics"]["distance"])["parameters"]

    def save(self, path):
        path.write_text(json.dumps(self.rows))

    def load(self, path):
        loaded = RandomSearch()
        loaded.rows = json.loads(path.read_text())
        return loaded
