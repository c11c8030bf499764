"""What a job has written in the place of the protocol's own files, read by everybody who does."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from axsched_slurm import watch

from axsched_core import jobfolder
from axsched_core.worker import axsched_worker as worker

VALUES = {
    "a huge number": "1" + "0" * 400,
    "a number of 5000 digits": "9" * 5000,
    "64 bits": str(1 << 63),
    "minus one": "-1",
    "a fraction": "1.5",
    "infinity": "1e999",
    "no number": "NaN",
    "nothing": "null",
    "true": "true",
    "a list": "[]",
    "an object": "{}",
    "a deep list": "[" * 20_000 + "]" * 20_000,
    "half a character": '"\\ud800"',
    "a NUL": '"\\u0000"',
    "an escape": '"\\u001b[2J"',
    "a long text": json.dumps("x" * 100_000),
    "a way out of /proc": '"../..@@/process"',
}
FILES = ("exit.json", "stopped.json", "pid.json", "claim", "job.json")


def _documents(value: str, whole: dict[str, Any]) -> list[str]:
    """The value alone, and in the place of each key of a whole document."""
    found = [value]
    for key in (*whole, "cause", "signal", "by", "time_limit"):
        for start in (whole["start_time"], None):
            text = json.dumps({**whole, "start_time": start, key: "@here@"})
            found.append(text.replace('"@here@"', value))
    return found


def _read_everything(folder: Path) -> None:
    for name in (jobfolder.EXIT, jobfolder.STOPPED):
        status = jobfolder.read_exit(folder, name)
        for words in (status.message, status.host) if status is not None else ():
            words.encode()
            assert len(words) < 20_000
            assert "\x1b" not in words
    jobfolder.read_start(folder)
    jobfolder.taken_back_by(folder)
    jobfolder.never_ran(folder)
    watch._overdue(folder, 1.0)
    assert worker.owner_is_alive(str(folder)) in (True, False, None)
    worker._stay(str(folder))
    worker._claim(str(folder), 1)
    (folder / "claim.1").unlink(missing_ok=True)


@pytest.mark.parametrize("value", VALUES.values(), ids=list(VALUES))
def test_no_reader_stumbles_over_what_a_job_has_written(tmp_path: Path, value: str) -> None:
    (tmp_path / "process").mkdir()
    os.mkfifo(tmp_path / "process" / "stat")  # whoever opens it waits for ever
    folder = tmp_path / "00001-1"
    folder.mkdir()
    whole = {**worker.identity(), "exit_code": 0, "message": "", "start": 1.0, "end": 2.0}
    errors: list[BaseException] = []

    def read() -> None:
        try:
            for text in _documents(value.replace("@@", str(tmp_path)), whole):
                for name in FILES:
                    (folder / name).write_text(text)
                _read_everything(folder)
                (folder / "pid.json").unlink()
                _read_everything(folder)
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "a reader waits"
    assert errors == []
