"""Full disks, folders without permission, missing and foreign files: said in words, and survived.

A driver's death is played by a copy of its run directory, made while it is at work: the copy's
lock is taken away, and it is resumed in the copy's place.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from axsched_core import AxScheduler
from axsched_core.errors import AxschedError, InvalidInput, JournalDamaged, RunLocked
from axsched_core.jobs import JobRequest
from axsched_core.journal import lines, salvage
from support.resuming import died
from support.toy import ToyOptimizer, ToyRunner

CONFIG = {"monitoring_interval": 0.05, "progress": False}


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a tmpfs, where that is allowed; else the test is skipped."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"mounted-{len(mounted)}"
        folder.mkdir()
        try:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
                check=True,
                capture_output=True,
            )
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("nothing can be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def read_only(mount: Callable[[str], Path], tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """A copy of a folder on which nothing can be written, by root neither."""
    changed: list[Path] = []

    def read_only(folder: Path) -> Path:
        if os.geteuid() == 0:
            place = mount("4m")
            copy = Path(shutil.copytree(folder, place / folder.name))
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
            return copy
        copy = Path(shutil.copytree(folder, tmp_path / "read-only" / folder.name))
        copy.chmod(0o500)
        changed.append(copy)
        return copy

    yield read_only
    for folder in changed:
        folder.chmod(0o700)


def scheduler(out: Path, runner: Any = None, **config: Any) -> AxScheduler:
    settings = {"job_output_dir": out, **CONFIG, **config}
    return AxScheduler(ToyOptimizer(), ToyRunner() if runner is None else runner, settings)


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The run directory of a driver that died with two of five trials told."""
    copies: list[Path] = []

    def submit(request: JobRequest) -> None:
        if request.trial_index == 2 and not copies:
            copies.append(died(made, tmp_path / "copies"))

    runner = ToyRunner()
    runner.on_submit = submit
    made = scheduler(tmp_path / "out", runner, max_parallelism=1)
    made.run_optimization(max_trials=5)
    made.close()
    return copies[0]


def resume(run_dir: Path, **more: Any) -> AxScheduler:
    more = {"optimizer": ToyOptimizer(), "runner": ToyRunner(), **more}
    return AxScheduler.resume(run_dir, **more)


def lines_of(run_dir: Path) -> list[dict[str, Any]]:
    return [line for _, _, line in lines.read_lines(run_dir / lines.NAME)]


def is_free(run_dir: Path) -> bool:
    return not (run_dir / "lock.json").exists()


# ---- what one finds ------------------------------------------------------------------------


def test_a_killed_run_ends_as_it_would_have(killed: Path):
    with resume(killed) as again:
        assert [t.state.value for t in again.trials.values()] == ["SUCCEEDED"] * 2 + ["QUEUED"]
        again.finish()
        assert [t.state.value for t in again.trials.values()] == ["SUCCEEDED"] * 5
        assert again.client.count("COMPLETED") == 5
    assert is_free(killed)


def test_a_torn_last_line_is_cut_off_before_anything_is_appended(killed: Path):
    path = killed / lines.NAME
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"k":"outcome","i":2,"sta')
    with resume(killed) as again:
        again.finish()
    assert path.read_bytes().startswith(whole + b'{"k":')
    assert len(lines_of(killed)) > len(whole.splitlines())


def test_damage_in_the_middle_is_refused_and_salvaged(killed: Path):
    path = killed / lines.NAME
    raw = path.read_bytes().splitlines(keepends=True)
    number = next(n for n, line in enumerate(raw, 1) if b'"i":1' in line)  # trial 1 is there
    path.write_bytes(b"".join([*raw[: number - 1], b"\0" * 30 + b"\n", *raw[number:]]))
    with pytest.raises(JournalDamaged, match=f"line {number}.*axsched salvage {killed}"):
        resume(killed)
    assert is_free(killed)
    done = salvage.salvage(path)
    assert done.kept == number - 1
    with resume(killed) as again:
        again.finish()
        assert again.client.count("COMPLETED") == 5


def test_a_newer_journal(killed: Path):
    path = killed / lines.NAME
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2', 1))
    with pytest.raises(InvalidInput, match="upgrade axsched-core"):
        resume(killed)
    assert is_free(killed)


@pytest.mark.parametrize("there", [True, False])
def test_no_journal(tmp_path: Path, there: bool):
    folder = tmp_path / "some folder"
    if there:
        folder.mkdir()
    with pytest.raises(InvalidInput, match=f"{folder} is not a run directory"):
        resume(folder)
    assert there == folder.exists()


def test_a_run_whose_driver_died_before_anything_was_begun(killed: Path):
    path = killed / lines.NAME
    for content in (path.read_bytes().splitlines(keepends=True)[0], b'{"k":"run",', b""):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match="before anything was begun"):
            resume(killed)
        assert is_free(killed)


def test_the_snapshot_is_missing(killed: Path):
    for snapshot in killed.glob("snapshot-*"):
        snapshot.unlink()
    with pytest.raises((AxschedError, FileNotFoundError), match="snapshot-0"):
        resume(killed)
    assert is_free(killed)


def test_another_runs_journal(killed: Path, tmp_path: Path):
    with scheduler(tmp_path / "other") as other:
        other.run_optimization(max_trials=1)
    shutil.copy(other.run_directory / lines.NAME, killed)
    with pytest.raises(InvalidInput, match="journal of another run"):
        resume(killed)
    assert is_free(killed)


def test_a_folder_that_was_renamed(killed: Path):
    renamed = killed.rename(killed.parent / "the important one")
    with resume(renamed) as again:
        again.finish()
        assert again.client.count("COMPLETED") == 5


def test_a_runner_that_was_given_as_an_instance(killed: Path):
    with pytest.raises(InvalidInput, match=r"'toy'.*instance.*resume\(run_dir, runner="):
        resume(killed, runner=None)
    assert is_free(killed)


def test_changed_versions_are_said(killed: Path, caplog: pytest.LogCaptureFixture):
    path = killed / lines.NAME
    header = lines_of(killed)[0]
    old = json.dumps(header["versions"], separators=(",", ":")).encode()
    path.write_bytes(path.read_bytes().replace(old, b'{"axsched-core":"0.0.1"}'))
    with resume(killed):
        pass
    assert "begun with {'axsched-core': '0.0.1'}" in caplog.text
    caplog.clear()
    path.write_bytes(path.read_bytes().replace(b'{"axsched-core":"0.0.1"}', old))
    with resume(killed):
        pass
    assert "begun with" not in caplog.text


# ---- what cannot be written ----------------------------------------------------------------


def test_a_run_directory_without_write_permission(killed: Path, read_only: Callable[[Path], Path]):
    folder = read_only(killed)
    before = {path.name for path in folder.iterdir()}
    with pytest.raises(InvalidInput, match=f"run directory {folder} cannot be written"):
        resume(folder)
    assert {path.name for path in folder.iterdir()} == before


def test_an_output_folder_without_write_permission(
    tmp_path: Path, read_only: Callable[[Path], Path]
):
    (tmp_path / "empty").mkdir()
    with (
        scheduler(read_only(tmp_path / "empty") / "out") as made,
        pytest.raises(InvalidInput, match=r"cannot be made.*job_output_dir"),
    ):
        made.run_optimization(max_trials=1)


def fill(folder: Path) -> Path:
    """Leave not one block free."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            while True:
                try:
                    file.write(b"\0" * size)
                except OSError:
                    break
    return filler


def test_a_disk_that_fills_up_loses_nothing(mount: Callable[[str], Path]):
    disk = mount("1m")
    fillers: list[Path] = []

    def submit(request: JobRequest) -> None:
        if request.trial_index == 3 and not fillers:
            fillers.append(fill(disk))

    runner = ToyRunner()
    runner.on_submit = submit
    made = scheduler(disk / "out", runner, max_parallelism=1)
    # The journal's last block may have room for some lines more.
    with pytest.raises(InvalidInput, match=r"cannot be written: .*No space left"):
        made.run_optimization(max_trials=60)
    text = (made.run_directory / lines.NAME).read_bytes()
    assert text.endswith(b"\n")
    kinds = [line["k"] for line in lines_of(made.run_directory)]
    assert kinds.count("trial") < 60
    by_then = lines_of(made.run_directory)

    fillers[0].unlink()
    missing = 60 - len(made.client.rows)
    made.run_optimization(max_trials=missing)
    assert made.client.count("COMPLETED") == 60
    assert len(runner.requests) == 60  # none was submitted twice
    made.close()
    assert lines_of(made.run_directory)[: len(by_then)] == by_then
    told = [line["i"] for line in lines_of(made.run_directory) if line["k"] == "outcome"]
    assert sorted(told) == list(range(60))


def test_a_run_that_begins_on_a_full_disk_can_be_tried_again(mount: Callable[[str], Path]):
    disk = mount("256k")
    made = scheduler(disk / "out")
    filler = fill(disk)
    with pytest.raises(InvalidInput, match="cannot be (made|written)"):
        made.run_optimization(max_trials=3)
    filler.unlink()
    made.run_optimization(max_trials=3)
    made.close()
    assert made.client.count("COMPLETED") == 3
    assert [line["k"] for line in lines_of(made.run_directory)].count("run") == 1


# ---- two drivers ---------------------------------------------------------------------------


def test_a_second_driver_is_refused(tmp_path: Path):
    with scheduler(tmp_path / "out") as made:
        made.run_optimization(max_trials=2)
        with pytest.raises(RunLocked, match=f"pid {os.getpid()}"):
            resume(made.run_directory)
        made.run_optimization(max_trials=1)
    with resume(made.run_directory) as again:
        again.run_optimization(max_trials=1)
        assert again.client.count("COMPLETED") == 4


def test_a_driver_that_was_taken_over_stops_and_touches_nothing(tmp_path: Path):
    runner = ToyRunner(lambda request: None)
    made = scheduler(tmp_path / "out", runner, max_parallelism=1)
    before: list[tuple[bytes, bytes]] = []

    def submit(request: JobRequest) -> None:
        lock = made.run_directory / "lock.json"
        holder = json.loads(lock.read_text())
        lock.write_text(json.dumps({**holder, "token": "another", "host": "elsewhere"}))
        runner.finish = lambda request: {"loss": 1.0}
        before.append(((made.run_directory / lines.NAME).read_bytes(), lock.read_bytes()))

    runner.on_submit = submit
    runner.finish = lambda request: {"loss": 1.0}
    with pytest.raises(RunLocked, match=r"taken over by another driver \(host elsewhere"):
        made.run_optimization(max_trials=3)
    made.close()
    assert len(before) == 1
    assert (made.run_directory / lines.NAME).read_bytes() == before[0][0]
    assert (made.run_directory / "lock.json").read_bytes() == before[0][1]
    assert len(runner.requests) == 1
    assert made.client.count("COMPLETED") == 0


# ---- faults that are known -----------------------------------------------------------------


def take_over(run_dir: Path) -> None:
    lock = run_dir / "lock.json"
    holder = json.loads(lock.read_text())
    lock.write_text(json.dumps({**holder, "token": "another", "host": "elsewhere"}))


def test_closing_one_that_was_taken_over_cancels_no_job(tmp_path: Path):
    runner = ToyRunner(lambda request: None)
    made = scheduler(tmp_path / "out", runner)
    made.run_trial(made.get_next_trial() or 0)
    take_over(made.run_directory)
    made.close()
    assert runner.cancels == []


def test_cancelling_in_one_that_was_taken_over_cancels_no_job(tmp_path: Path):
    runner = ToyRunner(lambda request: None)
    made = scheduler(tmp_path / "out", runner)
    made.run_trial(made.get_next_trial() or 0)
    take_over(made.run_directory)
    try:
        with pytest.raises(RunLocked):
            made.cancel()
        assert runner.cancels == []
    finally:
        made.close()


def test_one_that_was_taken_over_writes_no_snapshot(tmp_path: Path):
    with scheduler(tmp_path / "out") as made:
        made.run_optimization(max_trials=1)
        take_over(made.run_directory)
        (made.run_directory / "snapshot-1.json").write_text("the other's")
        made.client.attach({"x": 0.1, "y": 0.1})
        with pytest.raises(RunLocked):
            made.run_optimization(max_trials=1)
        assert (made.run_directory / "snapshot-1.json").read_text() == "the other's"


def with_function(tmp_path: Path) -> AxScheduler:
    config = {"job_output_dir": tmp_path / "out", **CONFIG}
    options = {"n_jobs": 1, "isolation": "none"}
    made = AxScheduler(ToyOptimizer(), "joblib", config, options)
    made.set_objective_function(lambda parameters: parameters["x"])
    return made


def test_the_function_is_missing(tmp_path: Path):
    with with_function(tmp_path) as made:
        made.run_optimization(max_trials=2)
    (function,) = made.run_directory.glob("function-*.pkl")
    function.unlink()
    with pytest.raises(InvalidInput, match=function.name):
        resume(made.run_directory, runner=None)
    assert is_free(made.run_directory)


def killed_when(made: AxScheduler, place: Any, name: str, to: Path) -> Path:
    """Run two trials; the run directory as it was at the first call of this method."""
    copies: list[Path] = []
    real = getattr(place, name)

    def called(*args: Any, **more: Any) -> Any:
        if not copies:
            copies.append(died(made, to))
        return real(*args, **more)

    setattr(place, name, called)
    with made:
        made.run_optimization(max_trials=2)
    return copies[0]


def test_killed_before_the_first_submit(tmp_path: Path):
    made = with_function(tmp_path)
    killed = killed_when(made, made.client, "ask", tmp_path / "copies")
    with resume(killed, runner=None) as again:
        again.finish()
        assert again.client.count("COMPLETED") == 2


def test_killed_between_a_jobs_folder_and_its_key(tmp_path: Path):
    made = with_function(tmp_path)
    killed = killed_when(made, made._run.recorder, "job_prepared", tmp_path / "copies")
    with resume(killed, runner=None) as again:
        again.finish()
        assert again.client.count("COMPLETED") == 2


def test_killed_after_another_function_was_set(tmp_path: Path):
    with with_function(tmp_path) as made:
        made.run_optimization(max_trials=1)
        made.set_objective_function(lambda parameters: 100 + parameters["x"])
        made.get_next_trial()
        made.get_next_trial()  # its `_write_down` puts the line on disk
        killed = died(made, tmp_path / "copies")
    with resume(killed, runner=None) as again:
        again.run_optimization(max_trials=1)
        assert again.trials[max(again.trials)].results["loss"][0] >= 100


def test_a_resume_that_fails_late_unlocks(killed: Path):
    class Fails(ToyOptimizer):
        def load(self, path: Path) -> ToyOptimizer:
            loaded = super().load(path)
            loaded.on_tell = fail
            return loaded

    def fail(_: Any) -> None:
        raise RuntimeError("cannot be told")

    with pytest.raises(RuntimeError, match="cannot be told"):
        resume(killed, optimizer=Fails())
    assert is_free(killed)
