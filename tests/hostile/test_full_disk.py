"""A job fills the disk that its folder lies on: it can still be stopped, and its end is told."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest
from axsched_joblib import JobLibRunner

from axsched_core import AxScheduler, jobfolder
from axsched_core.errors import InvalidInput
from axsched_core.jobs import Cause, JobState, ScriptObjective
from axsched_core.testing import Bench, RandomSearch
from axsched_core.worker import axsched_worker as worker
from support.waiting import wait_until

FILL = 'dd if=/dev/zero of="$AXSCHED_JOB_DIR/fill" bs=65536 2>/dev/null; '


@pytest.fixture
def bench(small_disk: Path) -> Iterator[Bench]:
    made = Bench(JobLibRunner(1), small_disk, patience=60)
    yield made
    made.close()


def _full(disk: Path) -> bool:
    return os.statvfs(disk).f_bavail == 0


def test_a_job_that_has_filled_the_disk_can_be_cancelled(bench: Bench, small_disk: Path) -> None:
    words = ("sh", "-c", f"{FILL} sleep 300")
    running = bench.start({"x": 1}, objective=ScriptObjective(words))
    waiting = bench.start({"x": 1}, objective=ScriptObjective(words))
    wait_until(lambda: _full(small_disk), 60, "the disk is full")
    bench.session.cancel([waiting, running], "test")
    assert bench.wait([running])[running.key].state is JobState.CANCELLED
    assert bench.wait([waiting])[waiting.key].state in (JobState.CANCELLED, JobState.LOST)
    assert not jobfolder.has(bench.folder(waiting), "fill")


@pytest.mark.parametrize("code", [0, 3])
def test_the_end_of_a_job_that_has_filled_the_disk_is_told(bench: Bench, code: int) -> None:
    words = ("sh", "-c", f"{FILL} exit {code}")
    handle = bench.start({"x": 1}, objective=ScriptObjective(words))
    status = bench.wait([handle])[handle.key]
    assert status.exit_code == code
    assert status.cause is (Cause.EXIT_CODE if code else None)


@pytest.mark.parametrize("isolation", ["spawn", "fork", "none"])
def test_a_function_whose_result_finds_no_room_fails_for_the_machine_s_sake(
    small_disk: Path, isolation: str
) -> None:
    def fill(parameters: dict[str, float]) -> float:
        try:
            with open(small_disk / "fill", "wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
        except OSError:
            return 1.0

    bench = Bench(JobLibRunner(1, isolation=isolation), small_disk, patience=60)
    (bench.run_dir / "function.pkl").write_bytes(cloudpickle.dumps(fill))
    handle = bench.start({"x": 1})
    status = bench.wait([handle])[handle.key]
    bench.close()
    assert status.cause is Cause.NODE_FAIL
    assert "No space left" in status.message


def test_a_run_s_timeout_is_kept_after_the_disk_was_full(small_disk: Path) -> None:
    script = small_disk / "script"
    script.write_text(f"#!/bin/sh\n{FILL} [ $AXSCHED_TRIAL_INDEX = 1 ] || sleep 300; kill -9 $PPID")
    script.chmod(0o755)
    config = {"job_output_dir": small_disk / "runs", "progress": False, "monitoring_interval": 0.2}
    scheduler = AxScheduler(RandomSearch({"x": (0.0, 1.0)}), "joblib", config, {"n_jobs": 2})
    scheduler.set_script_objective(script)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            scheduler.run_optimization(max_trials=20, timeout=10)
        except BaseException as error:  # noqa: BLE001 - told below
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    if thread.is_alive():
        (small_disk / "fill").unlink(missing_ok=True)
        scheduler.cancel()
        pytest.fail("the timeout is not kept")
    with contextlib.suppress(InvalidInput):  # the last lines may find no room: that is told
        scheduler.close()
    assert isinstance(raised[0], InvalidInput)
    folders = (small_disk / "runs").glob("*/jobs/*")
    assert not any(worker.owner_is_alive(str(folder)) for folder in folders)
