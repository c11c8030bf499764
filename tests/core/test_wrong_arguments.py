"""A wrong argument gets one sentence that says what is wrong and what to give instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from axsched_core import AxScheduler
from axsched_core.errors import InvalidInput, RunnerLoadError, sentence
from axsched_core.jobs import Resources
from support.toy import ToyOptimizer, ToyRunner

Make = Callable[..., AxScheduler]
NO_PATHS = [None, 3, b"here", ["a"], ""]


def refused(call: Callable[..., object], *given: Any, **more: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        call(*given, **more)
    words = str(caught.value)
    assert words.endswith(".")
    assert not words.endswith("..")
    return words


def test_an_option_of_the_runner_in_the_config():
    words = refused(AxScheduler, ToyOptimizer(), "joblib", {"n_jobs": 4})
    assert words == "config: 'n_jobs' belongs in runner_options, not here."


def test_a_setting_in_the_options_of_the_runner():
    words = refused(AxScheduler, ToyOptimizer(), "joblib", {}, {"max_parallelism": 4})
    assert "'max_parallelism' belongs in config, not here" in words


def test_no_runner():
    assert "The runner is None" in refused(AxScheduler, ToyOptimizer(), None)


@pytest.mark.parametrize("wrong", NO_PATHS)
def test_what_is_no_path(make: Make, wrong: Any):
    scheduler = make()
    calls = {
        "save_experiment: path": scheduler.save_experiment,
        "load_experiment: path": scheduler.load_experiment,
        "run_dir": AxScheduler.resume,
        "script_path": scheduler.set_script_objective,
    }
    for name, call in calls.items():
        assert refused(call, wrong).startswith(f"{name} must be a path")
    words = refused(make, job_output_dir=wrong)
    assert words.startswith("config: 'job_output_dir' must be a path")


@pytest.mark.parametrize("wrong", [object(), None, ToyRunner(), "abc"])
def test_plugins_that_are_no_list(make: Make, wrong: Any):
    assert refused(make, plugins=wrong).startswith("plugins must be a list, not ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"interpreter": 3}, "'interpreter' must be a program, or a list of words, not 3"),
        ({"working_dir": 3}, "'working_dir' must be a path"),
    ],
)
def test_options_of_a_script(make: Make, options: Any, words: str):
    assert words in refused(make().set_script_objective, "/bin/true", options)


def test_other_wrong_kinds(make: Make):
    scheduler = make()
    assert "parameters must be a mapping, not int" in refused(scheduler.preview, 3)
    assert "synchronous must be True" in refused(scheduler.run_optimization, 1, None, "no")


@pytest.mark.parametrize(
    ("words", "shown"),
    [("no", "no."), ("no.", "no."), ("what?", "what?"), ("no. ", "no."), (OSError("bad!"), "bad!")],
)
def test_a_sentence_has_one_mark_at_its_end(words: object, shown: str):
    assert sentence(words) == shown


def test_what_a_plugin_says_is_ended_once(distribution: Callable[..., None]):
    distribution("says", "raise RuntimeError('Is it plugged in?')")
    with pytest.raises(RunnerLoadError, match=r"plugged in\? Reinstall it"):
        AxScheduler(ToyOptimizer(), "says")


def test_resources_in_words():
    assert str(Resources(4, 4 << 30, 1, 60.0)) == "4 CPUs, 4 GiB of memory, 1 GPU, 60 s"
    assert str(Resources(1, 1000)) == "1 CPU, 1000 bytes of memory"
    assert str(Resources()) == ""
