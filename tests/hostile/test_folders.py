"""`Folder` alone, with trees that attack."""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axsched_core import jobfolder
from axsched_core.folders import DEEPEST, Folder, NotAFile, remove_tree
from axsched_core.jobs import JobResult, NotReady
from support.hostile_jobs import digest, make_victim, special

PR_SET_DUMPABLE = 4


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "job").mkdir()
    with Folder(tmp_path / "job") as made:
        yield made


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


# ---- reading ---------------------------------------------------------------------------------


def test_a_part_of_a_file(folder: Folder) -> None:
    (folder.path / "f").write_bytes(b"0123456789")
    assert folder.read("f", 100) == b"0123456789"
    assert folder.read("f", 3, 4) == b"456"
    assert folder.read("f", 3, 9) == b"9"
    assert folder.read("f", 0) == folder.read("f", 3, 99) == b""
    with pytest.raises(FileNotFoundError):
        folder.read("g", 1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (os.mkfifo, "FIFO"),
        (os.mkdir, "folder"),
        (make_socket, "socket"),
        (lambda path: os.symlink("/etc/passwd", path), "symbolic link"),
        (lambda path: os.symlink("none", path), "symbolic link"),
        (lambda path: os.link(path.with_name("one"), path), "second name"),
    ],
)
def test_what_is_no_regular_file_is_not_opened(folder: Folder, make, words: str) -> None:
    (folder.path / "one").write_text("1")
    make(folder.path / "f")
    with pytest.raises(NotAFile, match=words):
        folder.read("f", 10)
    with pytest.raises(NotAFile), folder.open("f"):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_not_opened(folder: Folder) -> None:
    os.mknod(folder.path / "f", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    with pytest.raises(NotAFile, match="device"):
        folder.read("f", 10)


def test_a_link_in_the_folder_s_place_is_no_folder(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "job").symlink_to(victim)
    with pytest.raises(NotADirectoryError):
        Folder(tmp_path / "job")
    with Folder(tmp_path) as parent, pytest.raises(NotADirectoryError):
        parent.sub("job")
    assert isinstance(jobfolder.read_result(tmp_path / "job", 99), NotReady)
    assert jobfolder.read_exit(tmp_path / "job") is None
    assert not jobfolder.has(tmp_path / "job", "secret")
    assert jobfolder.read_part(tmp_path / "job", "secret", 0, 9) == b""
    with pytest.raises(FileNotFoundError):
        jobfolder.try_claim(tmp_path / "job", "me")


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path, over = tmp_path / "result.json", threading.Event()

    def change() -> None:
        while not over.is_set():
            for make in (os.mkfifo, os.mkdir, lambda p: os.symlink("/etc/passwd", p)):
                make(path.with_name("new"))
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)
                path.with_name("new").rename(path)
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            path.write_text('{"loss": 1}')

    thread = threading.Thread(target=change)
    thread.start()
    try:
        seen = [jobfolder.read_result(tmp_path, 1000) for _ in range(3000)]
    finally:
        over.set()
        thread.join()
    raw = {one.raw for one in seen if isinstance(one, JobResult)}
    assert raw <= {b"", b'{"loss": 1}'}
    assert any(isinstance(one, NotReady) for one in seen)


# ---- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["f", "f.tmp", f"f.{os.getpid()}.tmp"])
def test_nothing_is_written_through_a_link(folder: Folder, victim: Path, name: str) -> None:
    before = digest(victim)
    (folder.path / name).symlink_to(victim / "secret")
    folder.replace("f", b"new", sync=True)
    assert (folder.path / "f").read_bytes() == b"new"
    assert not (folder.path / "f").is_symlink()
    assert digest(victim) == before


def test_a_folder_in_a_file_s_place_is_set_aside(folder: Folder) -> None:
    (folder.path / "f" / "x").mkdir(parents=True)
    folder.replace("f", b"new")
    assert (folder.path / "f").read_bytes() == b"new"
    (aside,) = folder.path.glob("f.*.aside")
    assert (aside / "x").is_dir()


def test_a_block_that_raises_leaves_no_file(folder: Folder) -> None:
    with pytest.raises(ZeroDivisionError), folder.new_file("f") as file:
        file.write(b"1")
        raise ZeroDivisionError
    assert folder.names() == []


def test_a_file_is_made_one_of_its_own(folder: Folder) -> None:
    (folder.path / "a").write_text("1")
    os.link(folder.path / "a", folder.path / "b")
    folder.separate("a")
    assert folder.read("a", 9) == folder.read("b", 9) == b"1"
    for name in ("a", "none"):
        folder.separate(name)  # there is nothing to do
    assert folder.names() == ["a", "b"]


# ---- removing and taking over ----------------------------------------------------------------


def test_folders_deeper_than_a_path_can_be_are_removed(folder: Folder, victim: Path) -> None:
    before, here = digest(victim), Path.cwd()
    os.chdir(folder.path)
    try:
        for _ in range(3000):
            os.mkdir("d")
            os.symlink(victim, "out")
            os.chdir("d")
    finally:
        os.chdir(here)
    remove_tree(folder.path)
    assert not folder.path.exists()
    assert digest(victim) == before


def test_a_link_is_removed_and_not_what_it_leads_to(folder: Folder, victim: Path) -> None:
    before = digest(victim)
    (folder.path / "link").symlink_to(victim)
    folder.remove("link")
    (folder.path / "link").symlink_to(victim)
    remove_tree(folder.path)
    folder.path.symlink_to(victim)
    remove_tree(folder.path)
    assert digest(victim) == before
    assert not os.path.lexists(folder.path)
    remove_tree(folder.path)  # is gone already


def test_what_is_too_deep_to_be_kept_goes(folder: Folder) -> None:
    place = folder.path.joinpath(*["d"] * (DEEPEST + 3))
    place.mkdir(parents=True)
    (place / "out").symlink_to("/")
    (removed,) = folder.sanitize()
    assert "deeper than" in removed
    assert not special(folder.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can pretend")
def test_another_user_s_files_are_not_taken_over(folder: Folder) -> None:
    (folder.path / "f").write_text("1")
    os.chown(folder.path, 65534, 65534)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError, match="another user"):
            folder.sanitize()
    finally:
        os.seteuid(0)


def test_a_job_that_locks_its_own_folder_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "job"
    job.mkdir()
    (job / jobfolder.RESULT).write_text("1")
    monkeypatch.chdir(tmp_path)  # what lies above is for root alone
    if os.geteuid() == 0:
        for path in (tmp_path, job, job / jobfolder.RESULT):
            os.chown(path, 65534, 65534)
        os.seteuid(65534)
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # as for any process of such a user
    try:
        for look, answer in (
            (lambda: jobfolder.has(Path("job"), jobfolder.CLAIM), False),
            (lambda: jobfolder.read_exit(Path("job")), None),
            (lambda: jobfolder.cancel_reason(Path("job")), None),
            (lambda: jobfolder.read_result(Path("job"), 1000), JobResult(raw=b"1")),
        ):
            Path("job").chmod(0)
            assert look() == answer
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


NAMES = st.sampled_from(
    [
        *("result.json", "exit.json", "stdout.log", "stderr.log", "progress.jsonl", "pid.json"),
        *("claim", "cancel", "params.json", "job.json", "axsched_worker.py", "function.pkl"),
        *("box", "incoming", "x", "y", "\udcff", "n" * 255, "a\nb", " "),
    ]
)
KINDS = ("file", "folder", "fifo", "socket", "link", "hard link", "device")
ENTRIES = st.tuples(
    st.lists(NAMES, min_size=1, max_size=4),
    st.sampled_from(KINDS),
    st.sampled_from(["{victim}", "{victim}/secret", "/", "..", "x", ".", "../../victim/d", "none"]),
    st.sampled_from([0o644, 0o000, 0o6755, 0o1777, 0o400, 0o100]),
)


def build(top: Path, entries: list[tuple[list[str], str, str, int]], victim: Path) -> None:
    """Make a tree of such entries, as far as they fit together."""
    paths, modes = [top], []
    for names, kind, target, mode in entries:
        path = top.joinpath(*names)
        try:
            if os.path.lexists(path) or not path.parent.resolve().is_relative_to(top):
                continue  # the victim is for the code under test to attack, not for us
            path.parent.mkdir(parents=True, exist_ok=True)
            to = target.format(victim=victim)
            match kind:
                case "file":
                    path.write_bytes(b'{"loss": 1}')
                case "folder":
                    path.mkdir()
                case "fifo":
                    os.mkfifo(path)
                case "socket":
                    make_socket(path)
                case "link":
                    path.symlink_to(to)
                case "hard link":
                    os.link(paths[len(names) % len(paths)], path)
                case "device":
                    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
        except OSError:
            continue
        paths.append(path)
        modes.append((path, mode))
    for path, mode in reversed(modes):
        if not path.is_symlink():
            path.chmod(mode)


@settings(
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(ENTRIES, max_size=12))
def test_nothing_outside_is_touched_whatever_lies_in_a_folder(
    tmp_path_factory: pytest.TempPathFactory, entries
) -> None:
    root = tmp_path_factory.mktemp("hostile")
    victim = make_victim(root / "victim")
    before = digest(victim)
    top = root / "jobs" / "00001-1"
    top.mkdir(parents=True)
    build(top, entries, victim)

    # What a running driver does with it, ...
    result = jobfolder.read_result(top, 1000)
    expected = top / "result.json"
    if not expected.is_symlink() and expected.is_file() and expected.lstat().st_nlink == 1:
        assert result == JobResult(raw=b'{"loss": 1}')
    else:
        assert isinstance(result, NotReady)
        assert result.reason
    jobfolder.read_exit(top)
    jobfolder.read_start(top)
    jobfolder.taken_back_by(top)
    jobfolder.cancel_reason(top)
    jobfolder.keep_from_running(top, "test")
    for name in (jobfolder.STDOUT, jobfolder.STDERR):
        jobfolder.read_part(top, name, 0, 1000)
        jobfolder.read_end(top, name, 1000)
    jobfolder.read_progress(top, 0)
    jobfolder.request_cancel(top, "test")
    jobfolder.write(top, jobfolder.EXIT, b'{"exit_code": 0}')
    assert jobfolder.read_exit(top) is not None
    assert digest(victim) == before

    # ... what one does that takes a container's files over, and what cleaning does.
    with Folder(top) as folder:
        folder.sanitize()
    assert special(top) == []
    assert digest(victim) == before
    remove_tree(top)
    assert not top.exists()
    assert digest(victim) == before
