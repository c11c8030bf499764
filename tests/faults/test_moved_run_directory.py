"""A run directory that is moved, or copied, while jobs run and no driver lives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from axsched_core import AxScheduler
from axsched_core.errors import InvalidInput
from axsched_core.trials import TrialState
from support import IMPORT_ROOT
from support.toy import ToyOptimizer
from support.waiting import wait_until

DRIVER = """
    import sys
    sys.path.insert(0, {root!r})
    from support.toy import ToyOptimizer
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


class Left:
    """What a driver leaves that was killed when three jobs had ended and three waited at a gate."""

    def __init__(self, tmp_path: Path, out: Path) -> None:
        self._mark, gate = tmp_path / "mark", tmp_path / "gate"
        os.mkfifo(gate)
        self._gate = os.open(gate, os.O_RDWR)
        program = textwrap.dedent(DRIVER).format(
            root=IMPORT_ROOT, out=str(out), mark=str(self._mark), gate=str(gate)
        )
        driver = subprocess.Popen([sys.executable, "-P", "-c", program], stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: self._mark.exists() and self.begun() == 6, 60, "all have begun")
        finally:
            driver.send_signal(signal.SIGKILL)
            driver.wait(60)
        (self.run_dir,) = out.iterdir()

    def begun(self) -> int:
        """How many jobs have begun, ever."""
        return self._mark.read_text().count("began")

    def let_go(self) -> None:
        """Let the three end."""
        os.write(self._gate, b"\n" * 3)

    def close(self) -> None:
        os.close(self._gate)


@pytest.fixture
def leave(tmp_path: Path) -> Iterator[Callable[[Path], Left]]:
    made: list[Left] = []

    def leave(out: Path) -> Left:
        made.append(Left(tmp_path, out))
        return made[-1]

    yield leave
    for one in made:
        one.close()


@pytest.mark.parametrize("how", ["moved", "its parent renamed", "copied after the end"])
def test_no_result_is_lost_and_no_job_runs_twice(
    leave: Callable[[Path], Left], tmp_path: Path, how: str
) -> None:
    left = leave(tmp_path / "scratch" / "out")
    run_dir = left.run_dir
    if how == "copied after the end":
        left.let_go()
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
            left.let_go()
        scheduler.finish()
        trials = scheduler.trials
    assert [trial.state for trial in trials.values()] == [TrialState.SUCCEEDED] * 6
    assert left.begun() == 6
    assert not list((tmp_path / "scratch").glob("out/*/jobs/*"))
    for trial in trials.values():
        assert trial.folder is not None
        assert trial.folder.is_relative_to(new)
        assert json.loads((trial.folder / "result.json").read_text()) == 0.25


def test_a_copy_takes_no_job_of_the_original_s(
    leave: Callable[[Path], Left], tmp_path: Path
) -> None:
    left = leave(tmp_path / "out")
    run_dir = left.run_dir
    copy = Path(shutil.copytree(run_dir, tmp_path / "copy" / run_dir.name, symlinks=True))
    before = (run_dir / "journal.jsonl").read_bytes()
    with pytest.raises(InvalidInput, match="is a copy of .* still there"):
        AxScheduler.resume(copy, optimizer=ToyOptimizer())
    assert (run_dir / "journal.jsonl").read_bytes() == before
    left.let_go()
    with AxScheduler.resume(run_dir, optimizer=ToyOptimizer()) as scheduler:
        scheduler.finish()
    assert left.begun() == 6
    # Moved away, the original has another place; the copy is then one on its own.
    run_dir.rename(tmp_path / "elsewhere")
    with AxScheduler.resume(copy, optimizer=ToyOptimizer()) as scheduler:
        assert len(scheduler.trials) == 6


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


def test_a_handle_finds_its_folder_where_the_run_directory_is_now(tmp_path: Path) -> None:
    from axsched_core.jobfolder import JobFolders
    from axsched_core.jobs import JobHandle, JobRequest

    request = JobRequest("r-1-1", 1, 1, {}, tmp_path / "old" / "jobs" / "00001-1", None)
    handle = JobFolders(tmp_path / "old").handle(request, "17", kind="script")
    assert handle == JobHandle("r-1-1", "17", {"folder": "jobs/00001-1", "kind": "script"})
    moved = JobFolders(tmp_path / "new")
    assert moved.of(handle) == tmp_path / "new" / "jobs" / "00001-1"
    assert moved.knows(handle)
    assert not moved.knows(JobHandle("r-1-1", "17"))
    with pytest.raises(KeyError):
        moved.of(JobHandle("r-1-1", "17"))
