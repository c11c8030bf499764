"""Secrets reach the job and nothing else: every file, every message and every event is searched."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen
from click.testing import CliRunner

from axsched_core import AxScheduler, hookimpl, options
from axsched_core.cli.main import main
from axsched_core.errors import AxschedError, InvalidInput
from axsched_core.events import Event
from axsched_core.journal import lines
from axsched_core.objectives import build
from axsched_core.run import resume
from axsched_core.run.run import Run
from support.toy import ToyOptimizer, ToyRunner

WITH_SECRETS = """
    from attrs import field, frozen
    from attrs.validators import min_len
    from axsched_core.hookspecs import hookimpl
    from axsched_core.errors import InvalidInput
    from axsched_core.jobs import Check, RunnerInfo
    from support.toy import ToyRunner

    @frozen
    class Options:
        token: str = field(metadata={"secret": True}, validator=min_len(8))
        env: dict[str, str] = field(factory=dict, metadata={"secret": True})
        url: str = "http://here"

        def __attrs_post_init__(self):
            if self.url == "bad":
                raise ValueError(f"no such url {self!r}")

    class Runner(ToyRunner):
        @hookimpl
        def axsched_runner_info(self):
            return axsched_runner_info()

    @hookimpl
    def axsched_runner_info():
        return RunnerInfo("NAME", ["parameters"], "for tests", Options, api_version=VERSION)

    @hookimpl
    def axsched_make_runner(options):
        if options.url == "down":
            raise ConnectionError(f"cannot log in: {options}")
        if options.url == "refused":
            raise InvalidInput(f"no such account: {options}")
        runner = Runner()
        runner.token = options.token
        return runner

    @hookimpl
    def axsched_diagnose(options):
        if options.url == "down":
            raise ConnectionError(f"cannot log in: {options}")
        return [Check("login", False, f"refused: {options}")]
"""


@pytest.fixture
def secret() -> str:
    return uuid.uuid4().hex


def holds(folder: Path, secret: str) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if secret.encode() in path.read_bytes()]


def test_secret_runner_options(distribution, tmp_path, caplog, secret):
    distribution("lab", WITH_SECRETS)
    config = {"job_output_dir": tmp_path / "out", "progress": False, "monitoring_interval": 0.05}
    options = {"token": secret, "env": {"KEY": secret}, "url": "http://there"}
    with AxScheduler(ToyOptimizer(), "lab", config, options) as scheduler:
        scheduler.run_optimization(max_trials=1)
    run_dir = scheduler.run_directory
    assert holds(run_dir, secret) == []
    assert "http://there" in (run_dir / lines.NAME).read_text()
    with pytest.raises(InvalidInput, match="options env, token are secret.*pass them again"):
        AxScheduler.resume(run_dir, optimizer=ToyOptimizer())
    again = AxScheduler.resume(
        run_dir, optimizer=ToyOptimizer(), runner_options={"token": secret, "env": {}}
    )
    with again:
        again.run_optimization(max_trials=1)
        assert again._run.lanes[0]._session._runner.token == secret
    assert holds(run_dir, secret) == []
    assert secret not in caplog.text


def test_what_was_not_written_down_is_given_in_the_shell(
    distribution, tmp_path, secret, monkeypatch
):
    distribution("lab", WITH_SECRETS)
    config = {"job_output_dir": tmp_path / "out", "progress": False, "monitoring_interval": 0.05}
    both = {"token": secret, "env": {}}
    with AxScheduler(ToyOptimizer(), "lab", config, both) as scheduler:
        scheduler.run_optimization(max_trials=1)
        scheduler.get_next_trial()  # something that can be cancelled
    runner = scheduler._run.lanes[0]._session._runner
    with AxScheduler(ToyOptimizer(), runner, config) as by_instance:
        by_instance.run_optimization(max_trials=1)
        by_instance.get_next_trial()
    real, made = resume.resume, []

    def resumed(run_dir: Path, **more: Any) -> Run:  # the shell cannot load a toy
        made.append(real(run_dir, **{**more, "optimizer": ToyOptimizer()}))
        return made[-1]

    monkeypatch.setattr(resume, "resume", resumed)
    given = ["--option", f"token={secret}", "--option", 'env={"KEY": "x"}']
    for run_dir in (scheduler.run_directory, by_instance.run_directory):
        for command in ("cancel", "resume"):  # afterwards nothing is left to cancel
            refused = CliRunner().invoke(main, [command, str(run_dir)])
            assert refused.exit_code == 1
            assert "in the shell --option " in refused.stderr
            done = CliRunner().invoke(main, [command, str(run_dir), *given])
            assert done.exit_code == 0, done.stderr
            assert made[-1].lanes[0]._session._runner.token == secret
        assert holds(run_dir, secret) == []


@pytest.mark.parametrize(
    "wrong",
    [{"token": 7_777_777}, {"env": {"KEY": 7_777_777}}, {"url": "bad"}, {"token": "7777777"}],
)
def test_secrets_are_in_no_error(distribution, wrong):
    distribution("lab", WITH_SECRETS)
    options = {"token": "77777778", "env": {"KEY": "77777779"}, **wrong}
    with pytest.raises(InvalidInput, match="runner_options of 'lab'") as caught:
        AxScheduler(ToyOptimizer(), "lab", runner_options=options)
    assert "777777" not in str(caught.value)
    assert caught.value.__cause__ is None


PEM = "-----BEGIN KEY-----\nhunter2 'and' \"more\"\n-----END KEY-----"


@pytest.mark.parametrize("key", [PEM, PEM.encode(), {"a": [PEM], "b": {PEM}}, (PEM[:3], PEM)])
def test_secrets_are_masked_however_they_are_spelt(key):
    @frozen
    class Options:
        key: Any = field(metadata={"secret": True})
        url: str = ""

        def __attrs_post_init__(self):
            raise ValueError(f"{self.key!s} {self.key!r} {self!r} {str(self)!s} at {self.url}")

    with pytest.raises(InvalidInput, match="at http://here") as caught:
        options.build(Options, {"key": key, "url": "http://here"}, "options")
    assert "hunter2" not in str(caught.value)


def test_no_secret_is_no_mask():
    @frozen
    class Options:
        token: str | None = field(default=None, metadata={"secret": True})
        key: str = field(default="", metadata={"secret": True})

    assert options.mask("None and True", Options, Options(), {"token": None}) == "None and True"


@pytest.mark.parametrize(("url", "words"), [("down", "cannot log in"), ("refused", "no such acc")])
def test_what_a_plugin_says_of_its_options(distribution, secret, url, words):
    distribution("lab", WITH_SECRETS)
    values = {"token": f"{secret}\n{secret}", "url": url}
    with pytest.raises(AxschedError, match=words) as caught:
        AxScheduler(ToyOptimizer(), "lab", runner_options=values)
    shown = "".join(traceback.format_exception(caught.value))
    assert secret not in shown
    assert f"url='{url}'" in shown


def test_a_cause_that_quotes_a_secret_is_not_shown():
    @frozen
    class Options:
        token: str = field(metadata={"secret": True})

    inner, outer = ValueError("with hunter2"), ValueError("outer")
    outer.__cause__, inner.__cause__ = inner, outer  # a ring, as careless code makes it
    assert options.shown(outer, Options, {"token": "hunter2"}) is None
    assert options.shown(outer, Options, {"token": "hunter3"}) is outer


@pytest.mark.parametrize("url", ["down", "http://there"])
def test_doctor_shows_no_secret(distribution, secret, url):
    distribution("lab", WITH_SECRETS)
    arguments = ["doctor", "lab", "--option", f"token={secret}", "--option", f"url={url}"]
    done = CliRunner().invoke(main, arguments)
    assert f"url='{url}'" in done.output
    assert secret not in done.output


@pytest.mark.parametrize("env", ["TOKEN=hunter2", [("TOKEN", "hunter2")], {"TOKEN=hunter2"}, 5])
def test_an_environment_of_another_form_is_not_quoted(tmp_path, env):
    script = tmp_path / "simulate.sh"
    script.write_text("")
    kind = type(env).__name__
    with pytest.raises(InvalidInput, match=f"'env' must be a mapping, not {kind}") as caught:
        build.script_objective(script, {"env": env})
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


class Hears:
    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def axsched_on_event(self, event: Event) -> None:
        self.events.append(event)


def test_the_environment_of_a_script(tmp_path, caplog, capfd, secret, make: Callable[..., object]):
    pytest.importorskip("axsched_joblib")
    script = tmp_path / "simulate.sh"
    # One trial succeeds, one fails; the value's length shows that it has arrived.
    script.write_text(
        'test "$AXSCHED_TRIAL_INDEX" = 0 || { echo failed >&2; exit 3; }\n'
        'printf "{\\"loss\\": %d}" ${#TOKEN} > "$AXSCHED_RESULT_FILE"\n'
    )
    hears = Hears()
    config = {"job_output_dir": tmp_path / "out", "monitoring_interval": 0.05}
    scheduler = AxScheduler(ToyOptimizer(), "joblib", config, {"n_jobs": 1}, plugins=[hears])
    with scheduler:
        scheduler.set_script_objective(script, {"env": {"TOKEN": secret}})
        shown = scheduler.preview()
        scheduler.run_optimization(max_trials=2)
        scheduler.save_experiment(tmp_path / "out" / "experiment.json")
    assert scheduler.trials[0].results == {"loss": (len(secret), None)}
    assert scheduler.trials[1].cause == "EXIT_CODE"
    assert holds(tmp_path / "out", secret) == []
    said = "".join([caplog.text, *capfd.readouterr(), shown, repr(hears.events)])
    assert "TOKEN" in shown
    assert secret not in said + repr(scheduler.trials)


def test_the_environment_of_a_container(make, caplog, secret):
    runner = ToyRunner(lambda request: None, capabilities=("container",))
    scheduler = make(runner=runner)
    options = {"env": {"A": secret}, "env_vars": [f"B={secret}"], "cpus": 2}
    scheduler.set_container_objective("image:1", None, options)
    assert secret not in scheduler.preview()
    scheduler.run_trial(scheduler.get_next_trial())
    (request,) = runner.requests.values()
    assert request.objective.options == options  # the runner has them
    assert secret not in repr(request)
    assert holds(scheduler.run_directory, secret) == []
    assert secret not in caplog.text
