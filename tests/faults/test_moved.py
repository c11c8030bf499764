"""A run directory that is moved, or copied, while jobs run and no driver lives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from toy import ToyOptimizer
from waiting import wait_until

from axsched_core import AxScheduler
from axsched_core.errors import InvalidInput
from axsched_core.trials import TrialState

SUPPORT = Path(__file__).parent.parent / "support"

DRIVER = """
    import sys
    sys.path.insert(0, {support!r})
    from toy import ToyOptimizer
    from axsched_core import AxScheduler

    scheduler = AxScheduler(
        ToyOptimizer(), "joblib", {{"job_output_dir": {out!r}, "progress": False}}, {{"n_jobs": 3}}
    )

    def objective(x, y):
        import os
        with open({mark!r}, "a") as file:
            file.write("began\\n")
        if int(os.environ["AXSCHED_TRIAL_INDEX"]) >= 3:
            os.read(os.open({gate!r}, os.O_RDONLY), 1)
        return 0.25

    scheduler.set_objective_function(objective)
    scheduler.run_optimization(max_trials=6)
"""


@pytest.mark.parametrize("how", ["moved", "its parent renamed", "copied after the end"])
def test_no_result_is_lost_and_no_job_runs_twice(tmp_path: Path, how: str) -> None:
    out, mark, gate = tmp_path / "scratch" / "out", tmp_path / "mark", tmp_path / "gate"
    os.mkfifo(gate)
    keep_open = os.open(gate, os.O_RDWR)
    program = textwrap.dedent(DRIVER).format(
        support=str(SUPPORT), out=str(out), mark=str(mark), gate=str(gate)
    )
    driver = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.DEVNULL)
    try:
        # Three have ended and three wait at the gate.
        wait_until(lambda: mark.exists() and mark.read_text().count("began") == 6, 60, "all began")
        driver.send_signal(signal.SIGKILL)
        driver.wait(60)
        (run_dir,) = out.iterdir()
        if how == "copied after the end":
            os.write(keep_open, b"\n" * 3)
            wait_until(lambda: len(list(run_dir.glob("jobs/*/exit.json"))) == 6, 60, "all ended")
            new = Path(shutil.copytree(run_dir, tmp_path / "home" / run_dir.name, symlinks=True))
            shutil.rmtree(run_dir)
        elif how == "moved":
            new = tmp_path / "home" / run_dir.name
            new.parent.mkdir()
            run_dir.rename(new)
        else:
            (tmp_path / "scratch").rename(tmp_path / "renamed")
            new = tmp_path / "renamed" / "out" / run_dir.name
        with AxScheduler.resume(new, optimizer=ToyOptimizer()) as scheduler:
            if how != "copied after the end":
                os.write(keep_open, b"\n" * 3)
            scheduler.finish()
            trials = scheduler.trials
        assert [trial.state for trial in trials.values()] == [TrialState.SUCCEEDED] * 6
        assert mark.read_text().count("began") == 6
        assert not list((tmp_path / "scratch").glob("out/*/jobs/*"))
        for trial in trials.values():
            assert trial.folder is not None
            assert trial.folder.is_relative_to(new)
            assert json.loads((trial.folder / "result.json").read_text()) == 0.25
    finally:
        driver.kill()
        os.close(keep_open)


def test_a_copy_takes_no_job_of_the_original_s(tmp_path: Path) -> None:
    out, mark, gate = tmp_path / "out", tmp_path / "mark", tmp_path / "gate"
    os.mkfifo(gate)
    keep_open = os.open(gate, os.O_RDWR)
    program = textwrap.dedent(DRIVER).format(
        support=str(SUPPORT), out=str(out), mark=str(mark), gate=str(gate)
    )
    driver = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: mark.exists() and mark.read_text().count("began") == 6, 60, "all began")
        driver.send_signal(signal.SIGKILL)
        driver.wait(60)
        (run_dir,) = out.iterdir()
        copy = Path(shutil.copytree(run_dir, tmp_path / "copy" / run_dir.name, symlinks=True))
        before = (run_dir / "journal.jsonl").read_bytes()
        with pytest.raises(InvalidInput, match="is a copy of .* still there"):
            AxScheduler.resume(copy, optimizer=ToyOptimizer())
        assert (run_dir / "journal.jsonl").read_bytes() == before
        os.write(keep_open, b"\n" * 3)
        with AxScheduler.resume(run_dir, optimizer=ToyOptimizer()) as scheduler:
            scheduler.finish()
        assert mark.read_text().count("began") == 6
        # Moved away, the original has another place; the copy is then one on its own.
        run_dir.rename(tmp_path / "elsewhere")
        with AxScheduler.resume(copy, optimizer=ToyOptimizer()) as scheduler:
            assert len(scheduler.trials) == 6
    finally:
        driver.kill()
        os.close(keep_open)


def test_the_folders_of_an_earlier_version_are_found(tmp_path: Path) -> None:
    from axsched_core import jobfolder

    new = tmp_path / "new"
    (new / "jobs" / "00001-1").mkdir(parents=True)
    old = tmp_path / "old" / "jobs" / "00001-1"
    assert jobfolder.located(str(old), new) == new / "jobs" / "00001-1"
    assert jobfolder.located(str(old), tmp_path / "other") == old
    assert jobfolder.located("jobs/00001-1", new) == new / "jobs" / "00001-1"
    assert jobfolder.recorded(new / "jobs" / "00001-1", new) == "jobs/00001-1"
    assert jobfolder.recorded(old, new) == str(old)
