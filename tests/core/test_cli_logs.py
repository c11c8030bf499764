"""`axsched logs`: what it prints of the files in a job's folder, which are hostile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from axsched_core.cli.plain_text import without_control
from axsched_core.journal import lines
from axsched_core.journal.lock import RunLock
from support.command_line import axsched, failure, job, success, trial, write_journal


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose trial 0 has failed; its job's folder is empty."""
    path = write_journal(tmp_path / "r", trial(0, x=1.0), *job(0), *failure(0, "EXCEPTION", "no"))
    folder_of(path).mkdir(parents=True)
    return path


def folder_of(run: Path) -> Path:
    return run / "jobs" / "00000-1"


def test_both_streams(run: Path):
    (folder_of(run) / "stdout.log").write_text("one\ntwo\n")
    (folder_of(run) / "stderr.log").write_text("three")
    assert axsched("logs", run, 0).stdout == "one\ntwo\n"
    assert axsched("logs", run, 0, "--stderr").stdout == "three\n"


@pytest.mark.parametrize(
    ("content", "most", "shown"),
    [
        ("a\nb\nc\n", 2, "b\nc\n"),
        ("a\nb\nc", 2, "b\nc\n"),
        ("a\nb\n", 9, "a\nb\n"),
        ("a\nb", 0, "b\n"),  # a line that is not complete is always printed
        ("", 3, ""),
    ],
)
def test_the_last_lines(run: Path, content: str, most: int, shown: str):
    (folder_of(run) / "stdout.log").write_text(content)
    assert axsched("logs", run, 0, "-n", most).stdout == shown


def test_a_large_file_is_printed_whole(run: Path):
    text = "".join(f"{i} ä\n" for i in range(400_000))  # a character is cut by a read
    (folder_of(run) / "stdout.log").write_text(text)
    assert axsched("logs", run, 0).stdout == text
    assert axsched("logs", run, 0, "-n", 1).stdout == "399999 ä\n"


def test_no_code_for_the_terminal_is_printed(run: Path):
    hostile = b"\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b]8;;http://x\x1b\\link\x9b5m\xff\x00\x08\n"
    hostile += b"10%\r20%\r\n\x1b" + b"\x1bPq\x1b\\ end \x1b[2J\xe2\x80\xae.\tx\n"
    (folder_of(run) / "stdout.log").write_bytes(hostile)
    for more in ([], ["-n", "9"]):
        shown = axsched("logs", run, 0, *more).stdout
        assert all(c.isprintable() or c in "\n\t" for c in shown), shown
        assert shown.startswith("red ")
        assert "link" in shown
        assert "title" not in shown
        assert "10%\n20%\n" in shown
        assert ".\tx\n" in shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("\x1b[1;31mx\x1b[m", "x"),
        ("\x1b[?25lx", "x"),
        ("\x1b]0;never ends\nnext", "\nnext"),
        ("\x1b(Bx", "x"),
        ("\x1b\x1b[31mx", "x"),
        ("a\r\nb\rc", "a\nb\nc"),
    ],
)
def test_without_control(given: str, shown: str):
    assert without_control(given) == shown


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "hard link", "missing"])
def test_only_a_regular_file_is_read(run: Path, tmp_path: Path, kind: str):
    secret, log = tmp_path / "secret", folder_of(run) / "stdout.log"
    secret.write_text("the secret\n")
    if kind == "link":
        log.symlink_to(secret)
    elif kind == "hard link":
        os.link(secret, log)
    elif kind == "fifo":
        os.mkfifo(log)
    elif kind == "folder":
        log.mkdir()
    for command in (["logs", run, 0], ["logs", run, 0, "-n", 3], ["show", run, 0]):
        result = axsched(*command)
        assert result.exit_code == 0, result.output
        assert "the secret" not in result.output


def test_a_folder_that_is_a_link_is_not_followed(run: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "stdout.log").write_text("the secret\n")
    folder_of(run).rmdir()
    folder_of(run).symlink_to(tmp_path / "elsewhere")
    for command in (["logs", run, 0], ["logs", run, 0, "-n", 3], ["show", run, 0]):
        assert "the secret" not in axsched(*command).output


def test_what_is_not_there_is_said(run: Path):
    folder_of(run).rmdir()
    result = axsched("logs", run, 0)
    assert result.exit_code == 1
    assert "The folder of attempt 1 of trial 0 is not here" in result.stderr


def test_a_trial_without_a_job(tmp_path: Path):
    result = axsched("logs", write_journal(tmp_path / "r", trial(0, x=1.0)), 0)
    assert result.exit_code == 1
    assert "Trial 0 has had no job yet (CANDIDATE)." in result.stderr


def test_an_earlier_attempt(tmp_path: Path):
    again = {"k": "attempt", "t": 9.0, "i": 0, "n": 1, "state": "LOST", "again": True}
    run = write_journal(tmp_path / "r", trial(0, x=1.0), *job(0), again, *job(0, 2))
    for number in (1, 2):
        folder = run / "jobs" / f"00000-{number}"
        folder.mkdir(parents=True)
        (folder / "stdout.log").write_text(f"attempt {number}\n")
    assert axsched("logs", run, 0).stdout == "attempt 2\n"
    assert axsched("logs", run, 0, "--attempt", 1).stdout == "attempt 1\n"
    result = axsched("logs", run, 0, "--attempt", 3)
    assert result.exit_code == 1
    assert "Trial 0 has no attempt 3. It has: 1, 2." in result.stderr


def test_following_ends_with_the_job(tmp_path: Path):
    run = write_journal(tmp_path / "r", trial(0, x=1.0), *job(0))
    folder_of(run).mkdir(parents=True)
    log = folder_of(run) / "stdout.log"
    log.write_text("old\nfirst\nto")
    lock = RunLock(run)  # a driver lives
    lock.acquire()
    command = [sys.executable, "-m", "axsched_core.cli.main", "logs", "-f", "-n", "2"]
    follower = subprocess.Popen(
        [*command, str(run), "0"], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert follower.stdout.readline() == "first\n"
        with log.open("a") as file:
            file.write("rn\n\x1b[32mlater\n")
        assert follower.stdout.readline() == "torn\n"
        assert follower.stdout.readline() == "later\n"
        assert follower.poll() is None
        with log.open("a") as file:
            file.write("last words")
        write_journal(run, trial(0, x=1.0), *job(0), *success(0, loss=1.0))
        assert follower.stdout.read() == "last words\n"
        assert follower.wait(20) == 0
    finally:
        follower.kill()
        lock.release()
    assert (run / lines.NAME).exists()
