"""Jobs in containers that attack the driver through their folders, and what becomes of them."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import axsched_docker
import pytest
from axsched_docker import DockerRunner, archive

import axsched_core
from axsched_core.jobs import (
    ContainerObjective,
    JobState,
    NotReady,
    Objective,
    ScriptObjective,
)
from axsched_core.testing import Bench
from support.container_images import BUSYBOX, PYTHON, image
from support.docker_engine import DockerEngine
from support.docker_fixtures import DockerBench, containers, make_bench, private_engine
from support.hostile_jobs import CASES, RESULT, WRITE, Attack, Case, digest, make_victim, special
from support.waiting import wait_until

__all__ = ["containers", "make_bench"]

PACKAGES = [Path(one.__file__).parent for one in (axsched_core, axsched_docker) if one.__file__]


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    """An engine of these tests' own, behind their wall."""
    with private_engine("axsched-hostile-{pid}") as made:
        yield made


@pytest.fixture(scope="module", params=["copy-image", "copy-script", "mount-image", "mount-script"])
def attack(
    request: pytest.FixtureRequest, engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attack]:
    files, kind = request.param.split("-")
    folder = tmp_path_factory.mktemp(request.param)
    victim = make_victim(folder / "victim")
    runner = DockerRunner(host=engine.url, image=PYTHON, files=files)
    bench = Bench(runner, folder / "runs", patience=240)

    def objective(words: tuple[str, ...]) -> Objective:
        return ContainerObjective(BUSYBOX, words) if kind == "image" else ScriptObjective(words)

    yield Attack(bench, victim, PACKAGES, objective, "cd $AXSCHED_JOB_DIR; ")
    bench.close()


def test_nothing_outside_is_touched(attack: Attack) -> None:
    assert attack.touches_nothing()


def test_nothing_in_a_job_s_folder_is_opened_by_a_path(attack: Attack) -> None:
    assert attack.paths == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_valid_result_counts_and_all_else_fails_alone(attack: Attack, case: Case) -> None:
    attack.result_of(case)
    assert special(attack.bench.folder(attack.handles[case])) == []


def test_no_container_is_left(attack: Attack, containers: Callable[[str], list[str]]) -> None:
    wait_until(lambda: containers(attack.bench.run_id) == [], 60, "they are removed")


def test_nothing_of_the_next_driver_s_look_is_harmed(attack: Attack, engine: DockerEngine) -> None:
    before = digest(attack.victim)
    attack.bench.session.close(True)
    attack.bench.session.open(attack.bench.context)
    handles = list(attack.handles.values())
    statuses = attack.bench.session.poll(handles)
    assert all(status.state is JobState.SUCCEEDED for status in statuses.values())
    assert digest(attack.victim) == before


# ---- what an image brings, what a mount shares, what a disk does not take -----------------------


def test_what_the_image_has_there_is_not_taken_for_the_job_s(
    make_bench: Callable[..., DockerBench], engine: DockerEngine, tmp_path: Path
) -> None:
    stale = tmp_path / "result.json"
    stale.write_text('{"loss": 666}')
    files = {"/axsched/job/result.json": stale, "/axsched/job/exit.json": stale}
    engine.load("axsched-test/stale:1", image(files))
    bench = make_bench()
    nothing, result = (
        bench.sh(words, image="axsched-test/stale:1")
        for words in ("true", "ls /axsched/job;" + WRITE)
    )
    assert bench.status(nothing).state is JobState.SUCCEEDED
    assert isinstance(bench.fetch(nothing, patience=0), NotReady)
    assert bench.status(result).state is JobState.SUCCEEDED
    assert bench.metrics(result) == {"loss": (0.25, None)}
    assert b"exit.json" not in bench.log(result, "stdout")


@pytest.mark.parametrize("files", ["copy", "mount"])
def test_a_job_cannot_change_what_other_jobs_run(
    make_bench: Callable[..., DockerBench], files: str
) -> None:
    bench = make_bench(files=files)
    before = digest(*PACKAGES)
    attack = (
        "for f in axsched_worker.py function.pkl cloudpickle.zip; do echo evil > /axsched/$f; "
        "ln -s ../$f /axsched/job/exit.json.tmp; done; true"
    )
    function_file = bench.run_dir / "function.pkl"
    content = function_file.read_bytes()
    evil = bench.start({}, objective=ScriptObjective(("sh", "-c", attack)))
    bench.status(evil)
    assert digest(*PACKAGES) == before
    assert function_file.read_bytes() == content
    after = bench.start({"do": "succeed"})
    assert bench.status(after).state is JobState.SUCCEEDED
    assert "loss" in bench.metrics(after)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_root_s_files_in_an_ordinary_user_s_mount_are_fetched_from_the_engine(
    engine: DockerEngine, tmp_path: Path
) -> None:
    """As an ordinary user would: a child of ours that has given its rights away."""
    os.chmod(engine.socket, 0o666)
    place = Path("/tmp", f"axsched-ordinary-{os.getpid()}")
    place.mkdir()
    os.chown(place, 65534, 65534)
    command = (
        f"umask 077; cd $AXSCHED_JOB_DIR; {WRITE} cp /bin/sh s; chmod 4755 s; echo 1 > mine; "
        "umask 022; mkdir d e; cp /bin/sh d; cp /bin/sh e; chmod 4755 d/sh e/sh; chmod 000 d"
    )
    try:
        pid = os.fork()
        if pid == 0:  # everything that it imports is imported already
            code = 1
            try:
                _as_nobody(engine, place, command)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        (folder,) = place.glob("*/jobs/*")
        assert (folder / "result.json").read_text() == f"{RESULT}\n"
        assert (folder / "mine").stat().st_uid == 65534
        assert (folder / "e" / "sh").stat().st_uid == 65534
        assert special(folder) == []
        assert not (folder / "box").exists()
    finally:
        os.chmod(engine.socket, 0o660)
        subprocess.run(["rm", "-rf", "--one-file-system", str(place)], check=True)


def _as_nobody(engine: DockerEngine, place: Path, command: str) -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    os.environ["HOME"] = str(place)
    bench = DockerBench(DockerRunner(host=engine.url, image=PYTHON, files="mount"), place, 60.0)
    handle = bench.sh(command, user="root")
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert bench.metrics(handle) == {"loss": (0.25, None)}
    bench.close()


def test_files_that_do_not_fit_stay_in_the_container_and_the_result_counts(
    engine: DockerEngine,
    small_disk: Path,
    containers: Callable[[str], list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    runner = DockerRunner(host=engine.url, image=PYTHON)
    bench = DockerBench(runner, small_disk, patience=60.0)
    words = f"cd $AXSCHED_JOB_DIR; head -c 90000000 /dev/urandom > big; echo out; {WRITE}"
    big, next_one = bench.sh(words), bench.sh(WRITE)
    assert bench.status(big).state is JobState.SUCCEEDED
    assert bench.metrics(big) == {"loss": (0.25, None)}
    assert bench.log(big, "stdout") == b"out\n"
    assert bench.status(next_one).state is JobState.SUCCEEDED
    assert "does not take all of its files" in caplog.text
    assert "The container is kept" in caplog.text
    free = os.statvfs(small_disk)
    assert free.f_bavail * free.f_frsize > 30 << 20
    # It stays for good, until somebody cleans.
    bench.session.close(True)
    bench.session.open(bench.context)
    bench.session.poll([big, next_one])
    wait_until(lambda: containers(bench.run_id) == [big.backend_id], 60, "only this one is left")
    bench.close()
    assert containers(bench.run_id) == [big.backend_id]
    assert runner.axsched_remove_leftovers(bench.run_id)
    assert containers(bench.run_id) == []


def test_a_job_that_is_cancelled_while_its_files_are_fetched_keeps_its_result(
    make_bench: Callable[..., DockerBench],
    containers: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    real = archive.copy_file

    def slowly(source: IO[bytes], target: IO[bytes]) -> None:
        if not begun.is_set():  # as it is with many gigabytes
            begun.set()
            go_on.wait(60)
        real(source, target)

    monkeypatch.setattr(archive, "copy_file", slowly)
    bench = make_bench()
    words = f"cd $AXSCHED_JOB_DIR; head -c 30000000 /dev/urandom > big; echo out; {WRITE}"
    handle = bench.sh(words)
    assert begun.wait(60)
    bench.session.cancel([handle], "the run's timeout")
    go_on.set()
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert bench.metrics(handle) == {"loss": (0.25, None)}
    assert not (bench.folder(handle) / "big").exists()
    assert "it was cancelled while its files were fetched" in caplog.text
    assert containers(bench.run_id) == [handle.backend_id]
