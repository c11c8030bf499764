"""From the user's function, script or image to what a job carries."""

from __future__ import annotations

import functools
import inspect
import pickle
import sys
import threading
from pathlib import Path

import pytest

from axsched_core import AxScheduler
from axsched_core.errors import InvalidInput
from axsched_core.jobs import JobResult, Resources
from axsched_core.objectives import build
from axsched_core.objectives.results import InvalidResult, metrics_of
from support.toy import ToyOptimizer, ToyRunner


def one_mapping(parameters): ...
def by_name(x, y): ...
def by_name_with_more(x, y, scale=2.0): ...
def anything(**parameters): ...
def mapping_with_more(parameters, verbose=False): ...
def wrong(a, b): ...
def too_few(x): ...


class Model:
    def __call__(self, x, y): ...
    def evaluate(self, parameters): ...


@pytest.mark.parametrize(
    ("function", "names", "keywords"),
    [
        (one_mapping, "xy", False),
        (by_name, "xy", True),
        (by_name, "yx", True),
        (by_name_with_more, "xy", True),
        (anything, "xy", True),
        (mapping_with_more, "xy", False),
        (too_few, "x", True),
        (lambda p: p["x"], "xy", False),
        (lambda x, y: x, "xy", True),
        (Model(), "xy", True),
        (Model().evaluate, "xy", False),
        (functools.partial(by_name_with_more, scale=3), "xy", True),
    ],
)
def test_how_a_function_wants_its_parameters(function, names, keywords):
    assert build.bind_function(function, list(names)).keywords is keywords


@pytest.mark.parametrize("function", [wrong, lambda: 1, by_name])
def test_a_function_that_fits_neither_way(function):
    with pytest.raises(InvalidInput, match=r"fits neither way .* f\(parameters\), or .* f\(x, z\)"):
        build.bind_function(function, ["x", "z"])


def conditional_l2(model, rate, l2): ...
def l2_with_default(model, rate=None, *, l2=None): ...
def any_conditional(model, **others): ...


def test_an_argument_that_some_trials_lack_needs_a_default():
    names, conditional = ["model", "rate", "l2"], {"rate", "l2"}
    words = r"conditional_l2 takes rate, l2 without a default.*\(rate=None, l2=None\)"
    with pytest.raises(InvalidInput, match=words):
        build.bind_function(conditional_l2, names, conditional=conditional)
    for function in (l2_with_default, any_conditional):
        assert build.bind_function(function, names, conditional=conditional).keywords
    assert not build.bind_function(one_mapping, names, conditional=conditional).keywords


def other_names(model, rate=0.1, l2=0.0): ...


@pytest.mark.parametrize("function", [other_names, too_few])
def test_a_function_that_names_only_some_parameters_is_given_no_mapping(function):
    first = next(iter(inspect.signature(function).parameters))
    with pytest.raises(
        InvalidInput, match=rf"does not take 'lr', .* also has, with '{first}'.*\*\*others"
    ):
        build.bind_function(function, [first, "lr"])


def test_a_function_that_takes_a_parameter_by_position_only():
    with pytest.raises(InvalidInput, match=r"abs\(x, /\) takes 'x' by position only.*f\(x\)"):
        build.bind_function(abs, ["x"])
    assert not build.bind_function(abs, ["y"]).keywords


def test_lambdas_and_closures_are_pickled_by_value():
    offset = 3
    function = pickle.loads(build.function_objective(lambda x: x + offset))
    assert function(1) == 4


def test_an_objective_that_cannot_be_pickled():
    lock = threading.Lock()

    def objective(x):
        with lock:
            return x

    with pytest.raises(
        InvalidInput, match=r"objective cannot be pickled.*lock.*inside the function"
    ):
        build.function_objective(objective)


async def coroutine(x): ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (3, "must be a function, got int"),
        ("run.sh", "set_script_objective"),
        (coroutine, "async def"),
    ],
)
def test_what_is_no_function(function, words):
    with pytest.raises(InvalidInput, match=words):
        build.function_objective(function)


# ---- scripts ---------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path):
    def write(name: str, mode: int = 0o644) -> Path:
        path = tmp_path / name
        path.write_text("")
        path.chmod(mode)
        return path

    return write


def test_what_runs_a_script(script):
    program, python, shell = script("sim", 0o755), script("sim.py"), script("sim.sh")
    argv = {
        "program": build.script_objective(program).argv,
        "python": build.script_objective(python).argv,
        "shell": build.script_objective(shell, {"args": ["--fast", 3]}).argv,
        "given": build.script_objective(python, {"interpreter": ["julia", "-O3"]}).argv,
        "spaces": build.script_objective(python, {"interpreter": "/opt/my python"}).argv,
    }
    assert argv == {
        "program": (str(program),),
        "python": (sys.executable, str(python)),
        "shell": ("/bin/sh", str(shell), "--fast", "3"),
        "given": ("julia", "-O3", str(python)),
        "spaces": ("/opt/my python", str(python)),
    }


@pytest.mark.parametrize(
    ("name", "line", "argv"),
    [
        ("run.sh", "#!/bin/bash", ("/bin/bash",)),
        ("run.sh", "#! /usr/bin/env  -S bash -e \t", ("/usr/bin/env", "-S bash -e")),
        ("run", "#!/bin/bash", ("/bin/bash",)),
        ("run.py", "#!/usr/bin/env python3", (sys.executable,)),
        ("run.py", "#!/opt/bin/pypy3 -u", ("/opt/bin/pypy3", "-u")),
        ("run.sh", "echo", ("/bin/sh",)),
        ("run.sh", "#!", ("/bin/sh",)),
    ],
)
def test_a_script_that_is_not_executable_says_what_runs_it(script, name, line, argv):
    path = script(name)
    path.write_text(f"{line}\necho\n")
    assert build.script_objective(path).argv == (*argv, str(path))
    given = build.script_objective(path, {"interpreter": "/bin/dash"})
    assert given.argv == ("/bin/dash", str(path))
    path.chmod(0o755)
    assert build.script_objective(path).argv == (str(path),)


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_a_script_with_the_line_ends_of_windows(script, mode):
    path = script("run.sh", mode)
    path.write_bytes(b"#!/bin/bash\r\necho\r\n")
    with pytest.raises(InvalidInput, match=r"as on Windows \(CRLF\).*sed -i 's/.r\$//' .*run\.sh"):
        build.script_objective(path)
    assert build.script_objective(path, {"interpreter": "/bin/bash"})


def test_script_options(script, tmp_path):
    options = {"timeout": 5, "env": {"N": 3}, "working_dir": tmp_path}
    objective = build.script_objective(script("sim", 0o755), options)
    assert (objective.time_limit, objective.env) == (5.0, {"N": "3"})
    assert objective.working_dir == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("absent", {}, r"The script .*/absent does not exist"),
        (".", {}, "is not a file"),
        ("data", {}, r"is not executable. Either `chmod \+x .*interpreter"),
        ("sim.py", {"time_out": 3}, "unknown key 'time_out'. Did you mean 'timeout'"),
        ("sim.py", {"timeout": -1}, "'timeout' must be > 0"),
        ("sim.py", {"timeout": "5m"}, "'timeout' must be float, not str"),
        ("sim.py", {"working_dir": "/no/such"}, "'working_dir' /no/such is not a folder"),
        ("sim.py", {"interpreter": ""}, "'interpreter' is empty"),
        ("sim.py", {"env": ["A=1"]}, "'env' must be a mapping, not list"),
        ("sim.py", {"args": "--fast"}, "'args' must be a list, not str"),
    ],
)
def test_scripts_that_cannot_be_run(script, tmp_path, name, options, words):
    script("data")
    script("sim.py")
    with pytest.raises(InvalidInput, match=words):
        build.script_objective(tmp_path / name, options)


# ---- containers ------------------------------------------------------------------------------


def test_container_commands():
    objective = build.container_objective("sim:1.2", "python '/app/my sim.py' --n 3")
    assert objective.command == ("python", "/app/my sim.py", "--n", "3")
    assert build.container_objective("sim", ["run", 3]).command == ("run", "3")
    assert build.container_objective("sim").command is None
    for image, command in [("", None), (None, None), ("sim", " ")]:
        with pytest.raises(InvalidInput, match="container"):
            build.container_objective(image, command)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("TOKEN=1", "expected a mapping, got str"),
        ([("memory", "2g")], "expected a mapping, got list"),
        ({3: "2g"}, "the key 3 is not a string"),
        (
            {"volumes": {Path("/a"): "/b"}},
            r"'volumes' has the key PosixPath\('/a'\), a PosixPath; give a string, as '/a'",
        ),
        ({"mounts": [{"at": {(1, 2): 3}}]}, r"'mounts' has the key \(1, 2\), a tuple"),
    ],
)
def test_container_options_that_cannot_be_written_down(options, words):
    with pytest.raises(InvalidInput, match=f"container_options: {words}") as caught:
        build.container_objective("image", None, options)
    assert "TOKEN" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("python 'my sim.py", "cannot be split into words: No closing quotation"),
        ("run \\", "cannot be split into words: No escaped character"),
        (7, "must be a string or a list, got int"),
        (b"run", "must be a string or a list, got bytes"),
    ],
)
def test_container_commands_that_are_none(command, words):
    with pytest.raises(InvalidInput, match=words):
        build.container_objective("sim", command)


def test_container_options_of_any_values_are_taken():
    options = {"ports": {80: 8080}, "volumes": {"/a": Path("/b")}, "env": {Path("A"): "1"}}
    assert build.container_objective("image", None, options).options == options
    assert build.container_objective("image").options == {}


# ---- results ---------------------------------------------------------------------------------


def metrics(value=None, raw=None, objectives=("loss",), limit=100):
    result = JobResult(raw=raw) if raw is not None else JobResult(metrics=value)
    return metrics_of(result, objectives=objectives, required=objectives, limit=limit)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"0.5", {"loss": (0.5, None)}),
        (b"3", {"loss": (3.0, None)}),
        (b"[0.5, 0.1]", {"loss": (0.5, 0.1)}),
        (b"[0.5, null]", {"loss": (0.5, None)}),
        (b'{"mean": 1, "sem": 0.0}', {"loss": (1.0, 0.0)}),
        (b'{"loss": 1, "time": [2, 0.5]}', {"loss": (1.0, None), "time": (2.0, 0.5)}),
        (b'{"loss": {"mean": 1}}', {"loss": (1.0, None)}),
        (b' {"loss": {"mean": 1, "sem": null}}\n', {"loss": (1.0, None)}),
    ],
)
def test_forms_of_a_result(raw, expected):
    assert metrics(raw=raw) == expected


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "the result file is empty"),
        (b"  \n", "the result file is empty"),
        (b'{"loss": 0.', "not whole, valid JSON"),
        (b"\xff\xfe", "not whole, valid JSON"),
        (b"[" * 90, "not whole, valid JSON"),
        (b"1" * 101, r"larger than max_result_bytes \(100 bytes\)"),
        (b"NaN", "is nan, not a finite number"),
        (b'{"loss": Infinity}', "is inf, not a finite number"),
        (b'{"loss": 1e999}', "is inf"),
        (b"9" * 95, None),
        (b'{"loss": null}', "metric 'loss' is None, not a number"),
        (b"null", "metric 'loss' is None"),
        (b'"0.5"', "'0.5', not a number"),
    ],
)
def test_files_that_hold_no_result(raw, words):
    if words is None:
        assert metrics(raw=raw)["loss"][0] == pytest.approx(1e95)
        return
    with pytest.raises(InvalidResult, match=words):
        metrics(raw=raw)


def test_several_objectives_need_names():
    assert set(metrics({"a": 1, "b": 2}, objectives=("a", "b"))) == {"a", "b"}
    with pytest.raises(InvalidResult, match=r"there are 2 objectives \(a, b\): return a mapping"):
        metrics(1.0, objectives=("a", "b"))
    with pytest.raises(InvalidResult, match="lacks 'b'; it has 'a'"):
        metrics({"a": 1}, objectives=("a", "b"))


def test_a_metric_that_is_called_mean():
    assert metrics({"mean": 1.0, "sem": 2.0}, objectives=("mean",)) == {
        "mean": (1.0, None),
        "sem": (2.0, None),
    }


def test_numpy_numbers_are_numbers():
    numpy = pytest.importorskip("numpy")
    assert metrics({"loss": numpy.float32(0.5), "n": numpy.int64(3)}) == {
        "loss": (0.5, None),
        "n": (3.0, None),
    }


# ---- resources ---------------------------------------------------------------------------------


def test_what_a_job_needs_reaches_the_runner(make, tmp_path: Path, caplog):
    runner = ToyRunner(capabilities=("function", "script", "resources"))
    scheduler = make(runner=runner, max_trial_monitoring_time=60.0)
    scheduler.set_objective_function(lambda x, y: x, resources={"cpus": 2, "memory": "1.5G"})
    scheduler.run_optimization(max_trials=1)
    script = tmp_path / "simulate.sh"
    script.write_text("exit 0")
    scheduler.set_script_objective(script, {"gpus": 1, "memory": 1000, "timeout": 5})
    scheduler.run_optimization(max_trials=1)
    scheduler.close()
    found = [request.resources for request in runner.requests.values()]
    assert found == [Resources(2, 3 << 29, None, 60.0), Resources(None, 1000, 1, 5)]
    settings = {"optimizer": ToyOptimizer(), "runner": ToyRunner(capabilities=runner.capabilities)}
    with AxScheduler.resume(scheduler.run_directory, **settings) as again:
        again.run_optimization(max_trials=1)
        (request,) = again._run.lanes[0]._session._runner.requests.values()
        assert request.resources == found[1]
    assert "it ignores" not in caplog.text


def test_a_runner_that_looks_at_no_resources_says_so(make, caplog):
    scheduler = make(runner=ToyRunner(capabilities=("function",)))
    scheduler.set_objective_function(lambda x, y: x, resources={"cpus": 2})
    assert "it ignores what was asked for: 2 CPUs" in caplog.text


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        ({"cpus": 0}, "'cpus' must be >= 1"),
        ({"memory": "much"}, "'much' is not a size: give bytes, or a text like '512M' or '4G'"),
        ({"memory": "0G"}, "'0G' is not a size"),
        ({"memory": True}, "True is not a size"),
        ({"gpu": 1}, "unknown key 'gpu'. Did you mean 'gpus'"),
    ],
)
def test_resources_that_make_no_sense(make, tmp_path: Path, needs, words):
    scheduler = make(runner=ToyRunner(capabilities=("function", "script")))
    with pytest.raises(InvalidInput, match=words):
        scheduler.set_objective_function(lambda x, y: x, resources=needs)
    script = tmp_path / "simulate.sh"
    script.write_text("exit 0")
    with pytest.raises(InvalidInput, match=words):
        scheduler.set_script_objective(script, needs)


@pytest.mark.parametrize("how", ["closure", "default", "object"])
def test_an_objective_that_uses_the_scheduler(make, how):
    scheduler = make(ToyOptimizer(), ToyRunner(capabilities=["function"]))

    class Study:
        mine = scheduler

        def evaluate(self, x, y):
            return len(self.mine.trials)

    chosen = {
        "closure": lambda x, y: len(scheduler.trials),
        "default": lambda x, y, own=scheduler: len(own.trials),
        "object": Study().evaluate,
    }[how]
    with pytest.raises(InvalidInput, match="uses the scheduler, which cannot be sent to a job"):
        scheduler.set_objective_function(chosen)
