"""`axsched_core.optimize`: Ax's managed loop, on any runner."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import axsched_core
from axsched_core import AxScheduler
from axsched_core.errors import AllTrialsFailed, InvalidInput
from support.toy import ToyRunner

# The jobs cannot import this module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = [pytest.mark.ax, pytest.mark.filterwarnings("ignore")]


def dictionaries() -> list[Any]:
    return [
        {"name": "x", "type": "range", "bounds": [0.0, 1.0]},
        {"name": "k", "type": "range", "bounds": [1, 4]},
        {"name": "rate", "type": "range", "bounds": [1e-3, 1], "log_scale": True},
        {"name": "opt", "type": "choice", "values": ["adam", "sgd"], "is_ordered": False},
        {"name": "fix", "type": "fixed", "value": 2.5},
    ]


def configs() -> list[Any]:
    from ax import ChoiceParameterConfig, RangeParameterConfig

    return [
        RangeParameterConfig(name="x", bounds=(0.0, 1.0), parameter_type="float"),
        RangeParameterConfig(name="k", bounds=(1, 4), parameter_type="int"),
        RangeParameterConfig(name="rate", bounds=(1e-3, 1), parameter_type="float", scaling="log"),
        ChoiceParameterConfig(
            name="opt", values=["adam", "sgd"], parameter_type="str", is_ordered=False
        ),
        ChoiceParameterConfig(name="fix", values=[2.5], parameter_type="float"),
    ]


def settings(tmp_path: Path) -> dict[str, Any]:
    return {"job_output_dir": tmp_path / "out", "progress": False}


def optimize(tmp_path: Path, parameters: Any = None, function: Any = None, **more: Any) -> Any:
    """With a runner that calls nothing: it evaluates the parameters itself."""

    def finish(request: Any) -> Any:
        return {"objective": request.parameters["x"], "time": 1.0}

    toy = ToyRunner(finish, capabilities=("function",))
    chosen = {"runner": toy, "config": settings(tmp_path), "total_trials": 3, **more}
    return axsched_core.optimize(
        dictionaries() if parameters is None else parameters, function or (lambda p: 0.0), **chosen
    )


def test_importing_it_imports_no_ax():
    code = "import sys, axsched_core; axsched_core.optimize; assert 'ax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "form", [dictionaries, configs, lambda: dictionaries()[:2] + configs()[2:]]
)
def test_both_forms_of_parameters_make_the_same_search_space(tmp_path: Path, form: Any):
    from ax import Client

    client = Client()
    client.configure_experiment(parameters=configs(), parameter_constraints=["x + k <= 4.5"])
    *_, experiment, _ = optimize(tmp_path, form(), parameter_constraints=["x + k <= 4.5"])
    assert experiment.search_space == client._experiment.search_space
    assert len(experiment.trials) == 3


def test_the_whole_loop_on_joblib_returns_what_ax_returned(tmp_path: Path):
    def evaluate(parameterization):
        x, y = parameterization["x"], parameterization["y"]
        return {"bowl": ((x - 0.3) ** 2 + (y - 0.6) ** 2, 0.0), "norm": (math.hypot(x, y), 0.0)}

    best_parameters, values, experiment, model = axsched_core.optimize(
        parameters=[
            {"name": "x", "type": "range", "bounds": [0.0, 1.0]},
            {"name": "y", "type": "range", "bounds": [0.0, 1.0]},
        ],
        evaluation_function=evaluate,
        experiment_name="bowl",
        objective_name="bowl",
        minimize=True,
        parameter_constraints=["x + y <= 1.8"],
        outcome_constraints=["norm <= 1.25"],
        runner="joblib",
        runner_options={"n_jobs": 2},
        total_trials=7,
        random_seed=4,
        config=settings(tmp_path),
    )
    means, covariances = values
    assert experiment.name == "bowl"
    assert len(experiment.trials) == 7
    assert set(best_parameters) == {"x", "y"}
    assert set(means) == {"bowl", "norm"}
    assert means["bowl"] == pytest.approx(evaluate(best_parameters)["bowl"][0], abs=0.02)
    assert covariances["bowl"]["bowl"] >= 0
    observed = experiment.lookup_data().df.query("metric_name == 'bowl'")["mean"]
    assert evaluate(best_parameters)["bowl"][0] <= sorted(observed)[2]
    assert model.__class__.__name__ == "TorchAdapter"
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name.startswith("bowl-")
    with AxScheduler.resume(folder) as scheduler:  # what this makes can be gone on with
        assert len(scheduler.trials) == 7


@pytest.mark.parametrize(("minimize", "best"), [(True, min), (False, max)])
def test_the_best_observed_is_returned_while_there_is_no_model(
    tmp_path: Path, minimize: bool, best: Any
):
    parameters, (means, covariances), experiment, model = optimize(tmp_path, minimize=minimize)
    drawn = [trial.arm.parameters["x"] for trial in experiment.trials.values()]
    assert parameters["x"] == means["objective"] == best(drawn)
    assert math.isnan(covariances["objective"]["objective"])
    assert model.__class__.__name__ == "RandomAdapter"


def with_weight(parameterization, weight):
    assert weight is None
    return parameterization["x"]


def by_name(x, k, rate, opt, fix):
    return x


def as_managed_loop_took_it(parameterization, weight=None):
    assert weight is None
    return (parameterization["x"], 0.0)


@pytest.mark.parametrize("function", [with_weight, by_name, as_managed_loop_took_it])
def test_each_form_of_an_evaluation_function(tmp_path: Path, function: Any):
    _, values, experiment, _ = optimize(
        tmp_path, function=function, runner="joblib", runner_options={"n_jobs": 1}, minimize=True
    )
    assert values[0]["objective"] == min(t.arm.parameters["x"] for t in experiment.trials.values())


def test_a_parameter_may_be_called_weight(tmp_path: Path):
    space = [{"name": n, "type": "range", "bounds": [1.0, 2.0]} for n in ("x", "weight")]
    _, values, _, _ = optimize(
        tmp_path,
        space,
        lambda x, weight: x * weight,
        runner="joblib",
        runner_options={"n_jobs": 1},
        total_trials=1,
    )
    assert values[0]["objective"] >= 1


def test_if_no_trial_is_feasible_the_experiment_is_there_still(tmp_path: Path, caplog):
    parameters, values, experiment, _ = optimize(tmp_path, outcome_constraints=["time <= 0.5"])
    assert (parameters, values) == (None, None)
    assert len(experiment.trials) == 3
    assert "There is no best trial" in caplog.text


def test_an_objective_that_always_fails_is_an_error(tmp_path: Path):
    runner = ToyRunner(lambda request: {"wrong": 1.0}, capabilities=("function",))
    with pytest.raises(AllTrialsFailed):
        optimize(tmp_path, runner=runner)


def test_the_users_generation_strategy_is_used(tmp_path: Path):
    from ax.api.utils.generation_strategy_dispatch import choose_generation_strategy
    from ax.api.utils.structs import GenerationStrategyDispatchStruct

    strategy = choose_generation_strategy(GenerationStrategyDispatchStruct(method="random_search"))
    *_, experiment, _ = optimize(tmp_path, generation_strategy=strategy)
    assert strategy.experiment is experiment
    assert len(strategy._generator_runs) == 3


def test_the_same_seed_makes_the_same_points(tmp_path: Path):
    def points(seed: int) -> list[Any]:
        *_, experiment, _ = optimize(tmp_path, random_seed=seed)
        return [trial.arm.parameters for trial in experiment.trials.values()]

    assert points(1) == points(1) != points(2)


X = {"name": "x", "type": "range", "bounds": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("parameters", "more", "words"),
    [
        ([{**X, "type": "rage"}], {}, "parameter 'x': 'type' must be one of 'range', 'choice'"),
        ([{**X, "bound": 1}], {}, "parameter 'x': unknown key 'bound'. Did you mean 'bounds'?"),
        ([{"name": "x", "type": "range"}], {}, "parameter 'x': 'bounds' is missing"),
        ([{**X, "bounds": [1.0, 0.0]}], {}, "parameter 'x': "),
        ([{**X, "bounds": [1.0]}], {}, "parameter 'x': "),
        ([{**X, "value_type": "double"}], {}, "are of type double; give 'value_type', one of"),
        ([{"name": "c", "type": "choice", "values": [1, "a"]}], {}, "of type int and str"),
        (["x"], {}, "a parameter is a dict"),
        ("x", {}, "parameters must be a list, got 'x'"),
        ([X, X], {}, "optimize: the search space: "),
        ([X], {"parameter_constraints": ["x + z <= 1"]}, "optimize: the search space: "),
        ([X], {"parameter_constraints": ["x ** 2 <= 1"]}, "parameter_constraints: 'x ** 2 <= 1'"),
        ([X], {"parameter_constraints": "x <= 1"}, "parameter_constraints must be a list"),
        ([X], {"outcome_constraints": ["time < < 1"]}, "outcome_constraints ['time < < 1']"),
        ([X], {"total_trials": 0}, "total_trials must be a whole number of at least 1"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(
    tmp_path: Path, parameters: Any, more: dict[str, Any], words: str
):
    with pytest.raises(InvalidInput) as caught:
        optimize(tmp_path, parameters, **more)
    assert words in str(caught.value)
    assert str(caught.value).startswith("optimize: ")
    assert not (tmp_path / "out").exists()
