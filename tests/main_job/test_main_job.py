"""The main job, whole: real Ax, the real joblib runner by its name, real objectives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import cloudpickle
import pytest

from axsched_core import AxScheduler, TrialState
from axsched_core.errors import AllTrialsFailed, InvalidInput, OptimizationStuck, OptimizerError
from axsched_core.jobs import Cause

pytestmark = [
    pytest.mark.ax,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


def client(objective="-loss", constraints=None, **generation):
    from ax import Client, RangeParameterConfig

    made = Client(random_seed=3)
    made.configure_experiment(
        name="main job",
        parameters=[
            RangeParameterConfig(name=name, bounds=(0, 1), parameter_type="float")
            for name in ("x", "y")
        ],
    )
    made.configure_optimization(objective, outcome_constraints=constraints)
    if generation:
        made.configure_generation_strategy(**generation)
    return made


def ax_client():
    from ax.service.ax_client import AxClient, ObjectiveProperties

    made = AxClient(random_seed=3, verbose_logging=False)
    made.create_experiment(
        name="main job",
        parameters=[{"name": n, "type": "range", "bounds": [0.0, 1.0]} for n in ("x", "y")],
        objectives={"loss": ObjectiveProperties(minimize=True)},
    )
    return made


def experiment():
    return client().__dict__["_maybe_experiment"]


# A job cannot import this module: pytest does not put it on sys.path.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

KINDS = {"client": client, "ax_client": ax_client, "experiment": experiment}


def loss(x, y):
    return {"loss": (x - 0.3) ** 2 + y**2, "time": (1.5, 0.1)}


@pytest.fixture
def scheduler_for(tmp_path: Path):
    made: list[AxScheduler] = []

    def make(optimizer, n_jobs=2, **config):
        config = {"job_output_dir": tmp_path / "out", "progress": False, **config}
        made.append(AxScheduler(optimizer, "joblib", config, {"n_jobs": n_jobs}))
        return made[-1]

    yield make
    for scheduler in made:
        scheduler.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_main_job(scheduler_for, kind):
    optimizer = KINDS[kind]()
    scheduler = scheduler_for(optimizer)
    scheduler.set_objective_function(loss)
    best = scheduler.run_optimization(max_trials=7)
    assert set(best.parameters) == {"x", "y"}
    states = {t.state for t in scheduler.trials.values()}
    assert states == {TrialState.SUCCEEDED}

    # What the user's own object shows is complete.
    experiment = scheduler.experiment
    assert [t.status.name for t in experiment.trials.values()] == ["COMPLETED"] * 7
    frame = experiment.lookup_data().df
    shown = {(row.trial_index, row.metric_name): row["mean"] for _, row in frame.iterrows()}
    for trial in scheduler.trials.values():
        assert shown[trial.index, "loss"] == pytest.approx(loss(**trial.parameters)["loss"])
        assert shown[trial.index, "time"] == 1.5
        assert experiment.trials[trial.index].arm.parameters == trial.parameters
        mark = experiment.trials[trial.index].run_metadata["axsched"]
        assert (mark["runner"], mark["folder"]) == ("joblib", str(trial.folder))
    # The initial phase came first, the model after it.
    nodes = [t.generator_runs[0]._generation_node_name for t in experiment.trials.values()]
    assert nodes[-1] in ("MBM", "GenerationStep_1_BoTorch")
    assert nodes[-1] not in nodes[:5]


def test_twenty_at_once_do_not_become_a_random_search(scheduler_for, caplog):
    optimizer = client()
    scheduler = scheduler_for(optimizer, n_jobs=10)
    scheduler.set_objective_function(loss)
    scheduler.run_optimization(max_trials=10)
    nodes = list(optimizer.summarize()["generation_node"])
    assert nodes.count("MBM") == 5
    assert "no model-based trial" not in caplog.text
    scheduler_for(client(), n_jobs=2)


def test_several_objectives_give_the_pareto_set_as_observed_and_ax_s_own(scheduler_for):
    optimizer = client("-a, -b", method="random_search")
    scheduler = scheduler_for(optimizer)
    scheduler.set_objective_function(lambda x, y: {"a": x, "b": 1 - x})
    best = scheduler.run_optimization(max_trials=4)
    assert [point.trial_index for point in best.pareto] == [0, 1, 2, 3]
    ax_own = [(index, parameters) for parameters, _, index, _ in optimizer.get_pareto_frontier()]
    assert [(point.trial_index, point.parameters) for point in best.modelled_pareto] == ax_own


def test_an_outcome_constraint_needs_its_metric(scheduler_for):
    optimizer = client(constraints=["mass <= 0.5"])
    scheduler = scheduler_for(optimizer)
    scheduler.set_objective_function(lambda p: {"loss": p["x"]})
    with pytest.raises(
        AllTrialsFailed, match="RESULT_INVALID: the result lacks 'mass'; it has 'los"
    ):
        scheduler.run_optimization(max_trials=2)
    scheduler.set_objective_function(lambda p: {"loss": p["x"], "mass": p["y"]})
    best = scheduler.run_optimization(max_trials=4)
    assert best.values["mass"] == best.parameters["y"] <= 0.5


@pytest.mark.parametrize("of", ["function", "script"])
def test_odd_extras_fail_no_trial_and_notes_are_kept(scheduler_for, tmp_path, caplog, of):
    scheduler = scheduler_for(client(method="random_search"))
    if of == "function":
        scheduler.set_objective_function(
            lambda x, y: {"loss": x, "aux": float("nan"), "log": "well", "notes": ["seen", x]}
        )
    else:
        script = tmp_path / "sim.py"
        script.write_text(
            "import json, os\n"
            "x = json.load(open(os.environ['AXSCHED_PARAMS_FILE']))['x']\n"
            "result = {'loss': x, 'aux': float('nan'), 'log': 'well', 'notes': ['seen', x]}\n"
            "json.dump(result, open(os.environ['AXSCHED_RESULT_FILE'], 'w'))\n"
        )
        scheduler.set_script_objective(script)
    scheduler.run_optimization(max_trials=3)
    marks = {}
    for index, trial in scheduler.trials.items():
        assert trial.state is TrialState.SUCCEEDED
        assert trial.notes == ["seen", trial.parameters["x"]]
        assert set(trial.results) == {"loss"}
        mark = marks[index] = scheduler.experiment.trials[index].run_metadata["axsched"]
        assert mark["notes"] == trial.notes
        assert mark["folder"] == str(trial.folder)
    assert set(scheduler.experiment.lookup_data().df["metric_name"]) == {"loss"}
    assert caplog.text.count("'aux' is nan") == caplog.text.count("'log' is 'well'") == 1
    scheduler.close()
    with AxScheduler.resume(scheduler.run_directory) as again:
        for index, trial in again.trials.items():
            assert trial.notes == ["seen", trial.parameters["x"]]
            assert again.experiment.trials[index].run_metadata["axsched"] == marks[index]


def test_failing_and_odd_objectives(scheduler_for, caplog):
    def odd(parameters):
        import numpy

        number = len(os.listdir(".."))  # how many jobs there are, this one included
        print(f"job {number}")
        if number == 1:
            raise ValueError("the mesh is broken")
        if number == 2:
            return {"loss": float("nan")}
        if number == 3:
            os._exit(3)
        if number == 4:
            return "well"
        return {"loss": numpy.float64(0.5), "n": numpy.int64(3)}

    optimizer = client(method="random_search")
    scheduler = scheduler_for(optimizer, synchronous=True)
    scheduler.set_objective_function(odd)
    scheduler.run_optimization(max_trials=5)
    ends = [(t.state.value, t.cause) for t in scheduler.trials.values()]
    assert ends == [
        ("FAILED", Cause.EXCEPTION),
        ("FAILED", Cause.RESULT_INVALID),
        ("FAILED", Cause.EXIT_CODE),
        ("FAILED", Cause.RESULT_INVALID),
        ("SUCCEEDED", None),
    ]
    first = scheduler.trials[0]
    assert first.message == "ValueError: the mesh is broken"
    assert "Trial 0 failed: EXCEPTION: ValueError: the mesh is broken (see" in caplog.text
    assert "Traceback" in (first.folder / "stderr.log").read_text()
    assert (first.folder / "stdout.log").read_text() == "job 1\n"
    names = [t.status.name for t in scheduler.experiment.trials.values()]
    assert names == ["ABANDONED"] * 4 + ["COMPLETED"]


@pytest.mark.parametrize(
    ("write", "words"),
    [
        ("true", "left no result"),
        ("> $AXSCHED_RESULT_FILE", "the result file is empty"),
        ("printf '{\"loss\": 0.' > $AXSCHED_RESULT_FILE", "not whole, valid JSON"),
        ("truncate -s 1G $AXSCHED_RESULT_FILE", "larger than max_result_bytes"),
        ("echo '{\"loss\": NaN}' > $AXSCHED_RESULT_FILE", "nan, not a finite number"),
    ],
)
def test_result_files_that_hold_no_result(scheduler_for, tmp_path, write, words):
    script = tmp_path / "sim.sh"
    script.write_text(f"#!/bin/sh\n{write}\n")
    script.chmod(0o755)
    optimizer = client(method="random_search")
    scheduler = scheduler_for(optimizer)
    scheduler.set_script_objective(script)
    with pytest.raises(AllTrialsFailed, match=words):
        scheduler.run_optimization(max_trials=1)
    assert scheduler.trials[0].cause is Cause.RESULT_INVALID


def test_a_script_objective(scheduler_for, tmp_path):
    script = tmp_path / "sim.py"
    script.write_text(
        "import json, os, sys\n"
        "p = json.load(open(os.environ['JOB_PARAMS_FILE']))\n"
        "print('arguments', sys.argv[1:], os.environ['SCALE'])\n"
        "json.dump({'loss': p['x'] * float(os.environ['SCALE'])}, open('result.json', 'w'))\n"
    )
    scheduler = scheduler_for(client(method="random_search"))
    scheduler.set_script_objective(script, {"args": ["$(id)", "a b"], "env": {"SCALE": 2}})
    scheduler.run_optimization(max_trials=2)
    trial = scheduler.trials[1]
    assert trial.results["loss"][0] == pytest.approx(2 * trial.parameters["x"])
    assert (trial.folder / "stdout.log").read_text() == "arguments ['$(id)', 'a b'] 2\n"


def test_an_argument_that_some_trials_lack_is_refused_when_the_objective_is_set(scheduler_for):
    from ax import ChoiceParameterConfig, Client, RangeParameterConfig

    made = Client(random_seed=3)
    made.configure_experiment(
        parameters=[
            ChoiceParameterConfig(
                name="model",
                values=["plain", "ridge"],
                parameter_type="str",
                is_ordered=True,
                dependent_parameters={"ridge": ["l2"]},
            ),
            RangeParameterConfig(name="rate", bounds=(0, 1), parameter_type="float"),
            RangeParameterConfig(name="l2", bounds=(0, 1), parameter_type="float"),
        ]
    )
    made.configure_optimization("-loss")
    scheduler = scheduler_for(made)
    with pytest.raises(InvalidInput, match="takes l2 without a default"):
        scheduler.set_objective_function(lambda model, rate, l2: rate)
    scheduler.set_objective_function(lambda model, rate, l2=0.0: rate + l2)
    scheduler.run_optimization(max_trials=4)
    assert {trial.state for trial in scheduler.trials.values()} == {TrialState.SUCCEEDED}


def test_functions_of_main_and_their_globals_travel(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(
        "import warnings; warnings.filterwarnings('ignore')\n"
        "from ax import Client, RangeParameterConfig\n"
        "from axsched_core import AxScheduler\n"
        "class Model:\n"
        "    target = 0.25\n"
        "def distance(x):\n"
        "    return (x - Model.target) ** 2\n"
        "def objective(x):\n"
        "    return distance(x)\n"
        "client = Client()\n"
        "client.configure_experiment(parameters=[RangeParameterConfig(\n"
        "    name='x', bounds=(0, 1), parameter_type='float')])\n"
        "client.configure_optimization('-loss')\n"
        "client.configure_generation_strategy(method='random_search')\n"
        "scheduler = AxScheduler(client, 'joblib', {'job_output_dir': 'out', 'progress': False})\n"
        "scheduler.set_objective_function(objective)\n"
        "scheduler.run_optimization(max_trials=3)\n"
        "for t in scheduler.trials.values():\n"
        "    assert abs(t.results['loss'][0] - (t.parameters['x'] - 0.25) ** 2) < 1e-12\n"
        "print('fine')\n"
    )
    ran = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.stdout.endswith("fine\n"), ran.stderr


def test_trials_of_the_clients_own_are_adopted(scheduler_for):
    optimizer = client()
    made = optimizer.get_next_trials(2)
    scheduler = scheduler_for(optimizer)
    scheduler.set_objective_function(loss)
    with scheduler.batch_trial_context() as batch:
        batch.add_trial(made[1])
        batch.add_trial(made[0], trial_index=0)
        batch.add_trial({"x": 0.125, "y": 1})
        with pytest.raises(InvalidInput, match="x"):
            batch.add_trial({"x": 3.0, "y": 0.5})
    assert [trial.index for trial in batch.trials] == [1, 0, 2]
    table = optimizer.summarize()
    assert list(table["trial_status"]) == ["COMPLETED"] * 3
    assert list(table["x"])[2] == 0.125


def test_stuck_on_trials_that_nobody_runs(scheduler_for):
    optimizer = client()
    optimizer.get_next_trials(5)  # the whole initial phase, never run
    scheduler = scheduler_for(optimizer)
    scheduler.set_objective_function(loss)
    with pytest.raises(OptimizationStuck, match="nobody runs them here: 0, 1, 2, 3, 4"):
        scheduler.run_optimization(max_trials=1)
    for index in range(5):
        scheduler.run_trial(index)
    scheduler.wait_for_completed_trials()
    scheduler.run_optimization(max_trials=1)
    assert optimizer.summarize().shape[0] == 6


def test_a_small_search_space_is_finished_in_good_order(scheduler_for, monkeypatch):
    # Ax draws 10,000 times before it says that there is nothing left: half a minute.
    monkeypatch.setattr("ax.generators.random.base.DEFAULT_MAX_RS_DRAWS", 300)
    from ax import ChoiceParameterConfig, Client

    optimizer = Client()
    optimizer.configure_experiment(
        parameters=[
            ChoiceParameterConfig(name="k", values=[1, 2, 3], parameter_type="int", is_ordered=True)
        ]
    )
    optimizer.configure_optimization("-loss")
    scheduler = scheduler_for(optimizer, n_jobs=1)
    scheduler.set_objective_function(lambda k: k)
    assert scheduler.run_optimization(max_trials=10).parameters["k"] == 1
    assert len(scheduler.trials) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_experiment_is_gone_on_with(scheduler_for, tmp_path, kind):
    scheduler = scheduler_for(KINDS[kind]())
    scheduler.set_objective_function(loss)
    scheduler.run_optimization(max_trials=2)
    path = tmp_path / "saved.json"
    scheduler.save_experiment(path)
    again = scheduler_for(KINDS[kind]()).load_experiment(path)
    again.set_objective_function(loss)
    again.run_optimization(max_trials=2)
    assert [t.status.name for t in again.experiment.trials.values()] == ["COMPLETED"] * 4
    if kind != "experiment":
        loaded = type(again.client).load_from_json_file(str(path))
        assert len(getattr(loaded, "_experiment", None).trials) == 2


def test_what_is_not_ready_says_so(scheduler_for):
    from ax import Client, RangeParameterConfig

    optimizer = Client()
    with pytest.raises(OptimizerError, match="configure_experiment"):
        scheduler_for(optimizer).set_objective_function(loss)
    optimizer.configure_experiment(
        parameters=[RangeParameterConfig(name="x", bounds=(0, 1), parameter_type="float")]
    )
    with pytest.raises(OptimizerError, match="configure_optimization"):
        scheduler_for(optimizer).run_optimization()


def test_timeout_with_real_jobs(scheduler_for):
    def slow(x, y):
        import time

        if x > 0.5:
            time.sleep(100)
        return x

    optimizer = client()
    scheduler = scheduler_for(optimizer)
    scheduler.set_objective_function(slow)
    with scheduler.batch_trial_context() as batch:
        batch.add_trial({"x": 0.25, "y": 0.5})
    scheduler.run_trial(optimizer.attach_trial({"x": 0.75, "y": 0.5}))
    scheduler.run_optimization(max_trials=1, timeout=2)
    names = [t.status.name for t in scheduler.experiment.trials.values()]
    assert names[:2] == ["COMPLETED", "ABANDONED"]
    assert "RUNNING" not in names


def test_nothing_of_ours_warns_that_ax_would_not(scheduler_for):
    optimizer = client(method="random_search")
    scheduler = scheduler_for(optimizer)
    scheduler.set_objective_function(loss)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        scheduler.run_optimization(max_trials=2)
    ours = [w for w in seen if "axsched" in str(w.filename)]
    assert ours == []


def test_no_thread_of_ours_is_left(scheduler_for):
    before = set(threading.enumerate())
    scheduler = scheduler_for(client(method="random_search"))
    scheduler.set_objective_function(loss)
    scheduler.run_optimization(max_trials=2)
    scheduler.close()
    left = [t for t in set(threading.enumerate()) - before if t.name.startswith("axsched")]
    for thread in left:
        thread.join(5)
    assert not any(thread.is_alive() for thread in left)


def test_the_job_needs_no_ax(scheduler_for):
    def objective(x, y):
        import sys

        return {
            "loss": x,
            "ax": float("ax" in sys.modules),
            "ours": float("axsched_core" in sys.modules),
        }

    scheduler = scheduler_for(client(method="random_search"))
    scheduler.set_objective_function(objective)
    scheduler.run_optimization(max_trials=1)
    assert scheduler.trials[0].results["ax"] == (0.0, None)
    assert json.loads((scheduler.trials[0].folder / "job.json").read_text())["kind"] == "function"
