"""A Ctrl-C at whatever moment leaves a journal that another driver can read."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest

from axsched_core.journal import lines, rundir
from axsched_core.journal.lock import RunLock
from axsched_core.journal.uninterrupted import uninterrupted
from axsched_core.journal.writer import Writer


def press_in_the_middle() -> None:
    """Ctrl-C, and time enough for the main thread to see it."""
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(0.2)


def test_it_is_raised_when_the_work_is_done():
    done = []
    with pytest.raises(KeyboardInterrupt):
        uninterrupted(lambda: (press_in_the_middle(), done.append(1)))
    assert done == [1]


def test_the_work_s_own_error_goes_before_it():
    def work() -> None:
        press_in_the_middle()
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        uninterrupted(work)


def test_a_line_is_written_once(tmp_path, monkeypatch):
    writer = Writer()
    writer.open(tmp_path, {"run_id": "r"})
    real = os.fdatasync

    def sync(descriptor: int) -> None:
        monkeypatch.setattr(os, "fdatasync", real)
        press_in_the_middle()
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    with pytest.raises(KeyboardInterrupt):
        writer.flush()
    writer.add("ended")
    writer.close()
    text = (tmp_path / lines.NAME).read_text()
    assert [json.loads(line)["k"] for line in text.splitlines()] == ["run", "ended"]


def test_what_was_opened_can_be_opened_again(tmp_path, monkeypatch):
    real = RunLock._follow

    def follow(lock: RunLock, beside) -> bool:
        press_in_the_middle()
        return real(lock, beside)

    monkeypatch.setattr(RunLock, "_follow", follow)
    writer = Writer()
    with pytest.raises(KeyboardInterrupt):
        writer.open(tmp_path, {"run_id": "r"})
    assert writer.opened
    writer.close()
    text = (tmp_path / lines.NAME).read_text()
    assert [json.loads(line)["k"] for line in text.splitlines()] == ["run"]


def test_a_folder_that_was_made_is_known(tmp_path, monkeypatch):
    folder = rundir.RunDirectory(tmp_path, "e")
    real = type(folder.path).mkdir

    def mkdir(path, *args, **more) -> None:
        real(path, *args, **more)
        press_in_the_middle()

    monkeypatch.setattr(type(folder.path), "mkdir", mkdir)
    with pytest.raises(KeyboardInterrupt):
        folder.make()
    assert folder.make() is False
