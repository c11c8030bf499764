"""`axsched resume` and `axsched salvage`: what they do, print, and end with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest
from click.testing import CliRunner

from axsched_core import AxScheduler
from axsched_core.cli import runs
from axsched_core.cli.main import main
from axsched_core.errors import OptimizationInterrupted
from axsched_core.journal import lines, replay
from axsched_core.journal.lock import RunLock


def axsched(*arguments: object) -> click.testing.Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def finished(make: Callable[..., AxScheduler]) -> Path:
    """A run of toys that has come to its end."""
    scheduler = make()
    scheduler.run_optimization(max_trials=3)
    scheduler.close()
    return scheduler.run_directory


def damage(run_dir: Path) -> int:
    """Damage the journal; return the number of the line."""
    path = run_dir / lines.NAME
    raw = path.read_bytes().splitlines(keepends=True)
    number = next(n for n, line in enumerate(raw, 1) if b'"i":2' in line)
    path.write_bytes(b"".join([*raw[: number - 1], b"{damage\n", *raw[number:]]))
    return number


# ---- resume --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_resume_of_no_run_directory(tmp_path: Path, name: str):
    (tmp_path / "empty").mkdir()
    result = axsched("resume", tmp_path / name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{tmp_path / name} is not a run directory" in result.stderr
    assert "Traceback" not in result.stderr


def test_resume_says_what_it_cannot_read(finished: Path):
    result = axsched("resume", finished)
    assert result.exit_code == 1
    assert "a 'toy' cannot be read here" in result.stderr


def test_resume_says_who_is_at_it(finished: Path):
    lock = RunLock(finished)
    lock.acquire()
    try:
        result = axsched("resume", finished)
    finally:
        lock.release()
    assert result.exit_code == 1
    assert f"pid {os.getpid()}" in result.stderr


def test_resume_names_the_command_for_a_damaged_journal(finished: Path):
    number = damage(finished)
    result = axsched("resume", finished)
    assert result.exit_code == 1
    assert f"line {number}: " in result.stderr
    assert f"axsched salvage {finished}" in result.stderr


def test_ctrl_c_ends_it_with_words(finished: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(_: Path, **__: object) -> None:
        raise OptimizationInterrupted("Interrupted: 3 trials have results. To go on: ...")

    monkeypatch.setattr(runs.AxScheduler, "resume", interrupted)
    result = axsched("resume", finished)
    assert result.exit_code == 130
    assert "3 trials have results" in result.stderr


DRIVER = """
    import sys, warnings
    warnings.filterwarnings("ignore")
    import os, signal
    from ax import Client, RangeParameterConfig
    from axsched_core import AxScheduler, hookimpl
    from axsched_core.events import TrialEnded
    from beside import objective  # by reference: jobs import it from where this script lies

    class Killer:
        ended = 0

        @hookimpl
        def axsched_on_event(self, event):
            self.ended += isinstance(event, TrialEnded)
            if self.ended == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    client = Client(random_seed=1)
    client.configure_experiment(
        parameters=[RangeParameterConfig(name="x", bounds=(0, 1), parameter_type="float")]
    )
    client.configure_optimization("-loss")
    client.configure_generation_strategy(method="random_search")
    config = {"job_output_dir": sys.argv[1], "progress": False}
    scheduler = AxScheduler(client, "joblib", config, {"n_jobs": 1}, plugins=[Killer()])
    scheduler.set_objective_function(objective)
    scheduler.run_optimization(max_trials=4)
"""


@pytest.mark.ax
@pytest.mark.filterwarnings("ignore")
def test_a_killed_run_is_finished_from_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    (project / "driver.py").write_text(textwrap.dedent(DRIVER))
    (project / "beside.py").write_text("def objective(x):\n    return (x - 0.5) ** 2\n")
    out = tmp_path / "out"
    killed = subprocess.run(
        [sys.executable, str(project / "driver.py"), str(out)],
        capture_output=True,
        text=True,
        check=False,
        cwd=elsewhere,
    )
    assert killed.returncode == -9, killed.stderr
    (run_dir,) = out.iterdir()
    # Who goes on has another module of that name.
    (elsewhere / "beside.py").write_text("def objective(x):\n    return 7.0\n")
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))
    again = Path(shutil.copytree(run_dir, tmp_path / "again" / run_dir.name))

    axsched_command = Path(sys.executable).with_name("axsched")
    done = subprocess.run(
        [str(axsched_command), "resume", os.path.relpath(run_dir, elsewhere)],
        capture_output=True,
        text=True,
        check=False,
        cwd=elsewhere,
    )
    assert done.returncode == 0, done.stderr
    best = json.loads(done.stdout)
    assert best["observed"]["parameters"].keys() == {"x"}
    assert 0 <= best["observed"]["parameters"]["x"] <= 1
    assert best["observed"]["values"].keys() == {"loss"}
    assert best["modelled"] is None
    assert "initial phase" in best["why_not_modelled"]
    outcomes = [
        line for _, _, line in lines.read_lines(run_dir / lines.NAME) if line["k"] == "outcome"
    ]
    assert [line["i"] for line in outcomes] == [0, 1, 2, 3]
    assert {line["state"] for line in outcomes} == {"SUCCEEDED"}
    assert all(line["results"]["loss"][0] < 1 for line in outcomes), outcomes
    assert not (run_dir / "lock.json").exists()

    # The same once more in this process, after the journal was damaged and salvaged.
    damage(again)
    assert axsched("salvage", again).exit_code == 0
    done_here = axsched("resume", again)
    assert done_here.exit_code == 0, done_here.stderr
    assert json.loads(done_here.stdout) == best


# ---- salvage -------------------------------------------------------------------------------


def test_salvage_says_what_it_kept_and_where_the_rest_lies(finished: Path):
    number = damage(finished)
    written = len((finished / lines.NAME).read_bytes().splitlines())
    result = axsched("salvage", finished)
    assert result.exit_code == 0, result.stderr
    assert f"{number - 1} lines are kept, {written - number + 1} are lost." in result.stdout
    assert str(finished / "journal.jsonl.damaged") in result.stdout
    assert f"axsched resume {finished}" in result.stdout
    assert not (finished / "lock.json").exists()
    assert replay.read(finished / lines.NAME).trials.keys() == {0, 1}


def test_salvage_leaves_a_whole_journal_alone(finished: Path):
    before = (finished / lines.NAME).read_bytes()
    result = axsched("salvage", finished)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "not damaged" in result.stderr
    assert (finished / lines.NAME).read_bytes() == before
    assert not (finished / "lock.json").exists()


def test_salvage_of_no_run_directory(tmp_path: Path):
    result = axsched("salvage", tmp_path)
    assert result.exit_code == 1
    assert "is not a run directory" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_salvage_not_under_a_living_driver(finished: Path):
    damage(finished)
    before = (finished / lines.NAME).read_bytes()
    lock = RunLock(finished)
    lock.acquire()
    try:
        result = axsched("salvage", finished)
    finally:
        lock.release()
    assert result.exit_code == 1
    assert f"pid {os.getpid()}" in result.stderr
    assert (finished / lines.NAME).read_bytes() == before


def test_help_does_not_load_ax():
    for arguments in (["--help"], ["resume", "--help"], ["salvage", "--help"]):
        code = (
            "import sys\nfrom axsched_core.cli.main import main\n"
            f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code\n"
            "assert not any(name.partition('.')[0] == 'ax' for name in sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
