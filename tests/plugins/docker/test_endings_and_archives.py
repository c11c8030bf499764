"""Parts that need no engine: endings, archives, the engine's times, its threads."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axsched_docker import DockerOptions, archive, logs
from axsched_docker.endings import Ending, ending_of
from axsched_docker.engine import Engine, EngineError, seconds
from axsched_docker.thread_pool import ThreadPool

from axsched_core.errors import BackendUnavailable, InvalidInput
from axsched_core.folders import Folder
from axsched_core.jobs import Cause, JobState, JobStatus

# ---- endings ---------------------------------------------------------------------------------


def ending(code: int = 0, worker: JobStatus | None = None, **more: Any) -> Ending:
    oom = more.pop("oom", False)
    known = {
        "with_worker": worker is not None,
        "has_result": False,
        "cancelled": None,
        "engine_was_down": False,
        "last_words": "",
        **more,
    }
    return ending_of({"ExitCode": code, "OOMKilled": oom}, worker, **known)


FAILED = JobStatus(JobState.FAILED, Cause.EXCEPTION, "ValueError: no", exit_code=1)
KILLED = JobStatus(JobState.FAILED, Cause.SIGNAL, "killed by SIGKILL", signal=9)
LATE = JobStatus(JobState.FAILED, Cause.TIME_LIMIT, "ran too long", signal=15)
DONE = JobStatus(JobState.SUCCEEDED, exit_code=0)


@pytest.mark.parametrize(
    ("given", "cause", "words"),
    [
        ({}, None, ""),
        ({"code": 3}, Cause.EXIT_CODE, "exit code 3"),
        ({"code": 139}, Cause.SIGNAL, "139 (SIGSEGV)"),
        ({"code": 200}, Cause.EXIT_CODE, "exit code 200"),
        ({"code": 137, "oom": True}, Cause.OUT_OF_MEMORY, "137 (SIGKILL)"),
        ({"oom": True}, Cause.OUT_OF_MEMORY, "out of memory"),
        ({"oom": True, "has_result": True}, None, ""),
        ({"code": 137, "cancelled": "why"}, Cause.CANCELLED, "why"),
        ({"code": 137, "cancelled": "why", "oom": True}, Cause.CANCELLED, "why"),
        ({"cancelled": "why", "has_result": True}, None, ""),
        ({"code": 137, "engine_was_down": True}, Cause.NODE_FAIL, "went down"),
        ({"code": 3, "engine_was_down": True}, Cause.EXIT_CODE, "exit code 3"),
        ({"worker": DONE, "has_result": True}, None, ""),
        ({"worker": FAILED, "code": 1}, Cause.EXCEPTION, "ValueError: no"),
        ({"worker": FAILED, "code": 1, "oom": True}, Cause.OUT_OF_MEMORY, "out of memory"),
        ({"worker": KILLED, "code": 137, "oom": True}, Cause.OUT_OF_MEMORY, "out of memory"),
        ({"worker": LATE, "code": 143, "oom": True}, Cause.TIME_LIMIT, "ran too long"),
        ({"worker": LATE, "code": 143, "cancelled": "why"}, Cause.TIME_LIMIT, "ran too long"),
        ({"code": 137, "with_worker": True}, Cause.NODE_FAIL, "killed from outside"),
        ({"code": 1, "with_worker": True, "last_words": "no"}, Cause.LOAD_ERROR, "image: no"),
        ({"code": 143, "over_limit": 3.0}, Cause.TIME_LIMIT, "its limit of 3 s"),
        ({"code": 143, "over_limit": 3.0, "cancelled": "why"}, Cause.TIME_LIMIT, "of 3 s"),
        ({"over_limit": 3.0, "has_result": True}, None, ""),
        ({"restarted": True, "has_result": True}, Cause.NODE_FAIL, "of two runs"),
        ({"worker": DONE, "has_result": True, "restarted": True}, None, ""),
        ({"worker": FAILED, "code": 75, "restarted": True}, Cause.EXCEPTION, "ValueError: no"),
        ({"worker": KILLED, "code": 75, "restarted": True}, Cause.NODE_FAIL, "of two runs"),
        ({"with_worker": True, "code": 75, "restarted": True}, Cause.NODE_FAIL, "of two runs"),
        ({"code": 127, "with_worker": True, "last_words": "no"}, Cause.EXIT_CODE, "'python'"),
    ],
)
def test_endings(given: dict[str, Any], cause: Cause | None, words: str) -> None:
    found = ending(**given)
    assert found.cause == cause
    assert words in found.message


def test_no_end_comes_before_its_start() -> None:
    state = {"StartedAt": "2024-01-01T00:00:00.002Z", "FinishedAt": "2024-01-01T00:00:00.001Z"}
    found = ending_of(
        state,
        None,
        with_worker=False,
        has_result=False,
        cancelled=None,
        engine_was_down=False,
        last_words="",
    )
    assert found.end == found.start == seconds(state["StartedAt"])


# ---- archives --------------------------------------------------------------------------------


def packed(*entries: tuple[str, bytes, str]) -> list[bytes]:
    """An archive of entries (name, type, content or target), in small pieces."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, kind, text in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
            else:
                info.linkname = text
                tar.addfile(info)
    data = target.getvalue()
    return [data[at : at + 700] for at in range(0, len(data), 700)]


def unpacked(target: Path, *entries: tuple[str, bytes, str]) -> list[str]:
    """Unpack such an archive; what was left out."""
    target.mkdir()
    with Folder(target) as folder:
        return archive.unpack(packed(*entries), folder)


def test_an_archive_writes_nowhere_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    left_out = unpacked(
        tmp_path / "in",
        ("job", tarfile.DIRTYPE, ""),
        ("job/../../escaped", tarfile.REGTYPE, "x"),
        ("job/link", tarfile.SYMTYPE, str(outside)),
        ("job/up", tarfile.SYMTYPE, "a/../../outside"),
        ("job/near", tarfile.SYMTYPE, "a"),
        ("job/far", tarfile.LNKTYPE, "job/../outside/secret"),
        ("job/result.json", tarfile.LNKTYPE, "job/../outside/secret"),
        ("job/null", tarfile.CHRTYPE, ""),
        ("job/pipe", tarfile.FIFOTYPE, ""),
        ("job/a", tarfile.REGTYPE, "1" * 5000),
        ("job/" + "n" * 300, tarfile.REGTYPE, "x"),
    )
    assert len(left_out) == 8
    assert sorted(os.listdir(tmp_path / "in")) == ["a", "near"]
    assert (outside / "secret").stat().st_nlink == 1
    assert (tmp_path / "in" / "near").read_text() == "1" * 5000
    assert sorted(os.listdir(tmp_path)) == ["in", "outside"]


@pytest.mark.parametrize("target", ["/", "."])
def test_a_link_that_is_written_through_leads_nowhere(tmp_path: Path, target: str) -> None:
    entries = [("job/d", tarfile.SYMTYPE, target), ("job/d/pwned-by-test", tarfile.REGTYPE, "x")]
    left_out = unpacked(tmp_path / "in", *entries)
    assert left_out[0].startswith("'d/pwned-by-test'")
    assert not list((tmp_path / "in").rglob("pwned-by-test"))
    assert not Path("/pwned-by-test").exists()


def test_second_names_are_kept_and_those_of_a_result_are_files_of_their_own(tmp_path: Path) -> None:
    left_out = unpacked(
        tmp_path / "in",
        ("job/result.json", tarfile.REGTYPE, "{}"),
        ("job/copy.json", tarfile.LNKTYPE, "job/result.json"),
        ("job/near", tarfile.SYMTYPE, "copy.json"),
        ("job/also", tarfile.LNKTYPE, "job/near"),
        ("job/a", tarfile.REGTYPE, "1"),
        ("job/b", tarfile.LNKTYPE, "job/a"),
    )
    assert left_out == []
    folder = tmp_path / "in"
    assert (folder / "result.json").stat().st_nlink == 1
    assert (folder / "copy.json").read_text() == "{}"
    assert os.readlink(folder / "also") == "copy.json"
    assert os.path.samefile(folder / "a", folder / "b")


def test_a_file_of_zeros_takes_no_room(tmp_path: Path) -> None:
    unpacked(tmp_path / "in", ("job/a", tarfile.REGTYPE, "\0" * (8 << 20)))
    found = (tmp_path / "in" / "a").stat()
    assert found.st_size == 8 << 20
    assert found.st_blocks * 512 < 1 << 20


def test_an_archive_that_is_cut_off_is_no_archive(tmp_path: Path) -> None:
    pieces = packed(("job/a", tarfile.REGTYPE, "1" * 5000))
    with pytest.raises(tarfile.TarError):
        (tmp_path / "in").mkdir()
        with Folder(tmp_path / "in") as target:
            archive.unpack(pieces[:3], target)


# ---- the engine ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T00:00:01.123456789Z", 1.123456),
        ("1970-01-01T01:00:02+01:00", 2.0),
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
        (None, 0.0),
    ],
)
def test_the_engine_s_times(text: str | None, moment: float) -> None:
    assert seconds(text) == moment


def test_which_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert Engine(DockerOptions()).url.endswith("docker.sock")
    with pytest.raises(InvalidInput, match="no Docker context named 'far'"):
        Engine(DockerOptions(context="far"))
    monkeypatch.setenv("DOCKER_HOST", "tcp://env:2375")
    assert Engine(DockerOptions()).url == "tcp://env:2375"
    assert Engine(DockerOptions(host="tcp://given:2375")).url == "tcp://given:2375"
    with pytest.raises(InvalidInput, match="TLS files"):
        Engine(DockerOptions(host="tcp://given:2376", tls={"cert": "/no", "key": "/no"}))


def test_no_engine_is_an_outage(tmp_path: Path) -> None:
    engine = Engine(DockerOptions(host=f"unix://{tmp_path}/none.sock"))
    with pytest.raises(BackendUnavailable, match=r"none\.sock does not answer"):
        engine.containers("run")
    assert engine.was_down(seconds("2000-01-01T00:00:00Z")) is False


# ---- thread pool ----------------------------------------------------------------------------


class _EndsJustNow:
    """Podman, asked for a file of a container in the moment in which that ends."""

    def __init__(self, *, runs: bool) -> None:
        self.runs = lambda name: runs

    @contextlib.contextmanager
    def get(self, name: str, path: str) -> Iterator[Iterator[bytes]]:
        raise EngineError(500, "open /proc/20905/ns/mnt: no such file or directory")
        yield iter(())


def test_a_container_that_ends_while_its_file_is_read() -> None:
    assert logs.read_running(_EndsJustNow(runs=False), "c", "/f", 0, 9) == b""
    with pytest.raises(EngineError, match="/proc/20905"):
        logs.read_running(_EndsJustNow(runs=True), "c", "/f", 0, 9)


def test_threads_survive_a_fault_and_do_later_what_is_later(caplog) -> None:
    pool, done, order = ThreadPool(1), threading.Event(), []
    pool.do(done.set, after=0.2)
    pool.do(lambda: order.append("now" if not done.is_set() else "late"))
    pool.do(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert done.wait(30)
    assert order == ["now"]
    assert "A fault in the docker runner" in caplog.text
    pool.close()
