"""What is under test is what was built, and what a distribution declares is enough for it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

import axsched_core
from axsched_core.runners import discovery

ROOT = Path(__file__).parents[1]
ONLY = os.environ.get("AXSCHED_TEST_ONLY")


@pytest.mark.skipif("AXSCHED_TEST_WHEELS" not in os.environ, reason="not a test of built wheels")
def test_what_is_tested_was_installed_from_wheels() -> None:
    installed = Path(sysconfig.get_path("purelib")).resolve()
    modules = [axsched_core, *(one.entry_point.load() for one in discovery.installed())]
    for module in modules:
        assert installed in Path(module.__file__).resolve().parents, module


def test_axsched_runners_lists_what_is_installed() -> None:
    axsched = Path(sysconfig.get_path("scripts")) / "axsched"
    listed = subprocess.run([axsched, "runners"], capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stdout + listed.stderr
    names = [line.split()[0] for line in listed.stdout.splitlines() if line]
    assert names == sorted(one.name for one in discovery.installed())
    if ONLY:
        assert names == [ONLY]


@pytest.mark.skipif(not ONLY, reason="not a test of one distribution alone")
def test_the_only_runner_runs_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ax" not in sys.modules
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("ax-platform")
    if ONLY != "joblib":
        pytest.skip(f"{ONLY} needs a backend; see tests/plugins/{ONLY}")
    monkeypatch.syspath_prepend(ROOT / "tests")
    from support.toy import ToyOptimizer

    config = {"job_output_dir": tmp_path, "progress": False}
    with axsched_core.AxScheduler(
        ToyOptimizer(), ONLY, config, runner_options={"n_jobs": 2}
    ) as scheduler:
        scheduler.set_objective_function(lambda x, y: x + y)
        best = scheduler.run_optimization(max_trials=4)
    assert set(best.parameters) == {"x", "y"}
    assert {trial.state.value for trial in scheduler.trials.values()} == {"SUCCEEDED"}


def test_requirements_without_ax_are_what_the_distributions_declare() -> None:
    declared: set[str] = set()
    for folder in (ROOT, *(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        declared |= set(map(_name, project["dependencies"]))
    needed = declared - {"ax-platform", "axsched-core"}
    tools = {"hypothesis", "numpy", "psutil", "pytest", "pytest-timeout", "pytest-xdist"}
    tools |= {"threadpoolctl"}
    assert _names(ROOT / "requirements/core.txt") == needed | tools


def test_everything_required_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in pins if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", pin) for pin in pins), pins
    pinned = {_name(pin) for pin in pins}
    for file in sorted((ROOT / "requirements").glob("*.txt")):
        assert _names(file) <= pinned, file


def test_ci_runs_what_the_readme_names_for_the_tests() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^```sh\n(.*nox)\n```$", readme, re.MULTILINE)
    assert len(commands) == 1
    assert commands[0] in (ROOT / ".ci/run").read_text().splitlines()


def _name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def _names(file: Path) -> set[str]:
    lines = file.read_text().splitlines()
    return {_name(line) for line in lines if line and not line.startswith("#")}
