"""One living driver a run directory, whoever has died, woken up or come at the same moment."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from axsched_core.errors import RunLocked
from axsched_core.journal import lock as locks
from axsched_core.journal.lock import RunLock
from axsched_core.worker import axsched_worker as worker
from support.lock_race import take_locks
from support.waiting import wait_until


@pytest.fixture
def gone() -> dict[str, Any]:
    """The identity of a process of this machine that has ended."""
    code = (
        "import json; from axsched_core.journal.lock import _identity\n"
        "print(json.dumps(_identity('old')))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    return dict(json.loads(out))


@pytest.fixture
def taken() -> Iterator[list[RunLock]]:
    locks_taken: list[RunLock] = []
    yield locks_taken
    for lock in locks_taken:
        lock.release()


def held_by(folder: Path, holder: dict[str, Any], silent: float = 0.0) -> Path:
    path = folder / "lock.json"
    path.write_text(json.dumps(holder))
    then = time.time() - silent
    os.utime(path, (then, then))
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def holder_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "lock.json").read_text()))


def test_taken_and_given_back_it_leaves_nothing(tmp_path: Path):
    lock = RunLock(tmp_path)
    lock.acquire()
    lock.check()
    assert holder_of(tmp_path)["pid"] == os.getpid()
    assert names(tmp_path) == {"lock.json"}
    lock.release()
    assert names(tmp_path) == set()
    lock.release()


def test_a_living_driver_is_named(tmp_path: Path, taken: list[RunLock]):
    code = (
        "import sys; from pathlib import Path; from axsched_core.journal.lock import RunLock\n"
        "lock = RunLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True)\n"
        "sys.stdin.read(); lock.release()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdin is not None
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == b"held\n"
        lock = RunLock(tmp_path)
        with pytest.raises(RunLocked) as caught:
            lock.acquire()
        words = str(caught.value)
        assert f"host {os.uname().nodename}, pid {other.pid}, since " in words
        assert re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\)", words)
        assert names(tmp_path) == {"lock.json"}
        lock.release()  # it never had it
        assert holder_of(tmp_path)["pid"] == other.pid
    finally:
        other.communicate(timeout=30)
    lock = RunLock(tmp_path)
    taken.append(lock)
    lock.acquire()


def test_its_age_does_not_matter_while_a_driver_of_this_host_lives(tmp_path: Path):
    mine = locks._identity("another of this process")
    held_by(tmp_path, mine, silent=10 * locks.STALE)
    with pytest.raises(RunLocked):
        RunLock(tmp_path).acquire()


def dead_pid(holder: dict[str, Any]) -> dict[str, Any]:
    return holder


def recycled_pid(holder: dict[str, Any]) -> dict[str, Any]:
    me = worker.identity()
    return {**holder, "pid": me["pid"], "start_time": me["start_time"] - 1}


def earlier_boot(holder: dict[str, Any]) -> dict[str, Any]:
    me = worker.identity()
    return {**holder, "pid": me["pid"], "start_time": me["start_time"], "boot_id": "another"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize("become", [dead_pid, recycled_pid, earlier_boot])
def test_a_dead_driver_of_this_host_is_followed_at_once(
    tmp_path: Path, gone: dict[str, Any], taken: list[RunLock], become: Any
):
    held_by(tmp_path, become(gone))
    lock = RunLock(tmp_path)
    taken.append(lock)
    began = time.monotonic()
    lock.acquire()
    assert time.monotonic() - began < 2
    lock.check()
    assert holder_of(tmp_path)["pid"] == os.getpid()
    assert names(tmp_path) == {"lock.json"}


def test_one_on_another_host_is_dead_when_it_is_silent(
    tmp_path: Path, gone: dict[str, Any], taken: list[RunLock], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(locks, "STALE", 50.0)
    elsewhere = {**gone, "host": "elsewhere", "boot_id": "its own"}
    held_by(tmp_path, elsewhere, silent=40)
    with pytest.raises(RunLocked, match=r"host elsewhere.*counts as dead after 50 s"):
        RunLock(tmp_path).acquire()
    held_by(tmp_path, elsewhere, silent=60)
    lock = RunLock(tmp_path)
    taken.append(lock)
    lock.acquire()


def test_one_in_another_container_of_this_host_is_judged_like_one_on_another_host(
    tmp_path: Path, gone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    held_by(tmp_path, {**gone, "pid_namespace": "pid:[1]"}, silent=40)
    with pytest.raises(RunLocked, match="not visible whether it lives"):
        RunLock(tmp_path).acquire()


def test_the_age_is_that_of_the_file_systems_clock(
    tmp_path: Path, gone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """This host's clock may be an hour off the file server's."""
    held_by(tmp_path, {**gone, "host": "elsewhere"})
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    with pytest.raises(RunLocked):
        RunLock(tmp_path).acquire()


def test_a_holder_gives_signs_of_life(
    tmp_path: Path, taken: list[RunLock], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(locks, "HEARTBEAT", 0.02)
    lock = RunLock(tmp_path)
    taken.append(lock)
    lock.acquire()
    path = tmp_path / "lock.json"
    for _ in range(2):
        os.utime(path, (1, 1))
        wait_until(lambda: path.stat().st_mtime > 1)


def test_signs_of_life_survive_a_file_system_that_fails_for_a_while(
    tmp_path: Path, taken: list[RunLock], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(locks, "HEARTBEAT", 0.02)
    lock = RunLock(tmp_path)
    taken.append(lock)
    lock.acquire()
    failures = threading.Semaphore(0)
    real = os.utime

    def fails(*args: Any, **more: Any) -> None:
        failures.release()
        raise OSError(errno.ESTALE, "stale handle")

    monkeypatch.setattr(os, "utime", fails)
    assert failures.acquire(timeout=10)
    monkeypatch.setattr(os, "utime", real)
    real(tmp_path / "lock.json", (1, 1))
    wait_until(lambda: (tmp_path / "lock.json").stat().st_mtime > 1)


def test_a_holder_that_was_followed_stops_and_leaves_the_new_lock_alone(
    tmp_path: Path, taken: list[RunLock], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(locks, "HEARTBEAT", 0.02)
    old = RunLock(tmp_path)
    old.acquire()
    asleep = {**holder_of(tmp_path), "host": "elsewhere"}  # so that the next one cannot see it
    held_by(tmp_path, asleep, silent=10 * locks.STALE)
    os.utime(tmp_path / "lock.json", (1, 1))
    monkeypatch.setattr(locks, "STALE", -1.0)  # whatever its heartbeat does meanwhile
    new = RunLock(tmp_path)
    taken.append(new)
    new.acquire()
    monkeypatch.undo()
    with pytest.raises(RunLocked, match=rf"taken over by another driver \(host .*{os.getpid()}"):
        old.check()
    old.release()
    new.check()
    assert names(tmp_path) == {"lock.json"}


def test_a_lock_that_was_removed_by_hand_is_lost(tmp_path: Path):
    lock = RunLock(tmp_path)
    lock.acquire()
    (tmp_path / "lock.json").unlink()
    with pytest.raises(RunLocked, match=r"somebody has removed lock\.json"):
        lock.check()
    lock.release()


@pytest.mark.parametrize("content", [b"", b'{"pid": 1', b"[]", b"\0" * 64, b'{"pid": "x"}'])
def test_a_torn_lock_counts_when_it_is_fresh(tmp_path: Path, taken: list[RunLock], content: bytes):
    """Nothing of ours leaves one: it came of another hand, or of a disk that has lost it."""
    path = tmp_path / "lock.json"
    path.write_bytes(content)
    with pytest.raises(RunLocked, match=r"wait 120 s, or remove|in use by another"):
        RunLock(tmp_path).acquire()
    os.utime(path, (1, 1))
    lock = RunLock(tmp_path)
    taken.append(lock)
    lock.acquire()
    assert names(tmp_path) == {"lock.json"}


def test_a_taker_that_died_in_between_is_followed_too(
    tmp_path: Path, gone: dict[str, Any], taken: list[RunLock]
):
    """It has made its file after the dead holder's, but has not put its own in place."""
    held_by(tmp_path, gone)
    second = json.dumps({**gone, "token": "second"})
    (tmp_path / "lock.json.after-old").write_text(second)
    lock = RunLock(tmp_path)
    taken.append(lock)
    lock.acquire()
    lock.check()
    assert holder_of(tmp_path)["pid"] == os.getpid()
    assert names(tmp_path) == {"lock.json"}


def test_a_taker_in_between_that_lives_holds_it(tmp_path: Path, gone: dict[str, Any]):
    held_by(tmp_path, gone)
    (tmp_path / "lock.json.after-old").write_text(json.dumps(locks._identity("second")))
    with pytest.raises(RunLocked, match=f"pid {os.getpid()}"):
        RunLock(tmp_path).acquire()


def test_a_taker_that_saw_the_dead_lock_before_another_was_through(
    tmp_path: Path, gone: dict[str, Any], taken: list[RunLock], monkeypatch: pytest.MonkeyPatch
):
    """It finds the name free again, and must not believe that it is the first."""
    held_by(tmp_path, gone)
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    taken.append(first)
    real, stopped = RunLock._refuse_living, threading.Event()
    go_on = threading.Event()

    def refuse(self: RunLock, holder: dict[str, Any], beside: Path) -> None:
        real(self, holder, beside)
        if self is second:
            stopped.set()
            assert go_on.wait(10)

    monkeypatch.setattr(RunLock, "_refuse_living", refuse)
    caught: list[BaseException] = []

    def come() -> None:
        try:
            second.acquire()
        except RunLocked as error:
            caught.append(error)

    thread = threading.Thread(target=come)
    thread.start()
    assert stopped.wait(10)
    first.acquire()
    go_on.set()
    thread.join(10)
    assert len(caught) == 1
    first.check()
    assert names(tmp_path) == {"lock.json"}


@pytest.mark.parametrize("dead", [True, False])
def test_of_several_at_once_one_alone_wins(tmp_path: Path, gone: dict[str, Any], dead: bool):
    rounds, takers = 100, 4
    for number in range(rounds):
        folder = tmp_path / str(number)
        folder.mkdir()
        if dead:
            held_by(folder, gone)
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(takers), context.Queue()
    processes = [
        context.Process(target=take_locks, args=(str(tmp_path), rounds, barrier, results))
        for _ in range(takers)
    ]
    for process in processes:
        process.start()
    got = [results.get(timeout=120) for _ in range(rounds * takers)]
    for process in processes:
        process.join(60)
    for number in range(rounds):
        winners = [token for n, token in got if n == number and token is not None]
        assert len(winners) == 1, (number, winners)
        assert holder_of(tmp_path / str(number))["token"] == winners[0]
        assert names(tmp_path / str(number)) == {"lock.json"}


def test_a_file_system_without_hard_links(
    tmp_path: Path, gone: dict[str, Any], taken: list[RunLock], monkeypatch: pytest.MonkeyPatch
):
    def no_links(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    first = RunLock(tmp_path)
    first.acquire()
    with pytest.raises(RunLocked):
        RunLock(tmp_path).acquire()
    first.release()
    held_by(tmp_path, gone)
    second = RunLock(tmp_path)
    taken.append(second)
    second.acquire()
    second.check()
    assert names(tmp_path) == {"lock.json"}


def test_a_link_that_was_made_though_the_answer_said_no(
    tmp_path: Path, taken: list[RunLock], monkeypatch: pytest.MonkeyPatch
):
    """NFS, when the answer to the first request was lost."""
    real = os.link

    def twice(source: Path, target: Path) -> None:
        real(source, target)
        real(source, target)

    monkeypatch.setattr(os, "link", twice)
    lock = RunLock(tmp_path)
    taken.append(lock)
    lock.acquire()
    lock.check()


def test_a_forked_child_does_not_give_it_back(tmp_path: Path, taken: list[RunLock]):
    lock = RunLock(tmp_path)
    taken.append(lock)
    lock.acquire()
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    lock.check()
