"""``axsched doctor``: every check is shown, and one that failed is told by the exit code."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
from attrs import frozen
from click.testing import CliRunner, Result

from axsched_core.cli.main import main
from axsched_core.errors import RunnerNotFound
from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import Check, RunnerInfo
from axsched_core.runners import discovery


@frozen
class Options:
    url: str = "here"
    places: int = 1


def plugin(diagnose: Callable[[Any], Any] | None) -> types.ModuleType:
    module = types.ModuleType("axsched_made_up")
    info = RunnerInfo("made-up", ["parameters"], options_class=Options)
    module.axsched_runner_info = hookimpl(lambda: info)  # type: ignore[attr-defined]
    module.axsched_make_runner = hookimpl(lambda options: object())  # type: ignore[attr-defined]
    if diagnose is not None:
        module.axsched_diagnose = hookimpl(  # type: ignore[attr-defined]
            lambda options: diagnose(options)
        )
    return module


class EntryPoint:
    """What importlib.metadata would have found."""

    def __init__(self, module: types.ModuleType) -> None:
        self.load = lambda: module


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def run(diagnose: Callable[[Any], Any] | None, *arguments: str) -> Result:
        entry: Any = EntryPoint(plugin(diagnose))
        one = discovery.Installed("made-up", "axsched_made_up", "axsched-made-up", "1", entry)
        monkeypatch.setattr(discovery, "installed", lambda: [one])
        return CliRunner().invoke(main, ["doctor", *arguments])

    return run


def test_each_check_is_a_line(doctor: Callable[..., Result]) -> None:
    done = doctor(lambda options: [Check("reachable", True, "yes"), Check("quota", True, "3 left")])
    assert done.output == "made-up\n  ✓ reachable: yes\n  ✓ quota: 3 left\n"
    assert done.exit_code == 0


def test_one_that_failed_is_told_by_the_exit_code(doctor: Callable[..., Result]) -> None:
    done = doctor(
        lambda options: [Check("reachable", False, "no"), Check("quota", True)], "made-up"
    )
    assert "  ✗ reachable: no\n  ✓ quota" in done.output
    assert done.exit_code == 1


def test_options_are_json_or_words(doctor: Callable[..., Result]) -> None:
    seen = []

    def diagnose(options: Options) -> list[Check]:
        seen.append(options)
        return []

    done = doctor(diagnose, "made-up", "--option", "url=a=b", "--option", "places=3")
    assert seen == [Options("a=b", 3)]
    assert "no checks of its own" in done.output
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["made-up", "--option", "palces=3"], "Did you mean 'places'?", 1),
        (["made-up", "--option", "places=x"], "'places' must be int", 1),
        (["made-up", "--option", "places"], "not of the form key=value", 2),
        (["--option", "places=3"], "needs the NAME", 2),
        (["made-down"], "Did you mean 'made-up'?", 1),
    ],
)
def test_what_is_wrong_is_said(
    arguments: list[str], words: str, code: int, doctor: Callable[..., Result]
) -> None:
    done = doctor(None, *arguments)
    assert words in done.output
    assert done.exit_code == code


def test_checks_that_fail_themselves(doctor: Callable[..., Result]) -> None:
    def diagnose(options: Options) -> list[Check]:
        raise RunnerNotFound("oh no")

    done = doctor(diagnose)
    assert "✗ checks: they failed themselves: RunnerNotFound: oh no" in done.output
    assert done.exit_code == 1
    assert doctor(None).exit_code == 0


@pytest.mark.parametrize("answer", ["all is well", [("quota", True)]])
def test_checks_that_are_none(answer: Any, doctor: Callable[..., Result]) -> None:
    done = doctor(lambda options: answer)
    assert "ContractError" in done.output
    assert "axsched_diagnose must return a list of Check, but returned" in done.output
    assert done.exit_code == 1
