"""Start a pool where that is difficult, and check that it has started before it gets a job."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing import process
from typing import Any, TextIO

from axsched_core.errors import RunnerError
from axsched_joblib import warm
from axsched_joblib.options import PROCESSES, Settings

START_LIMIT = 300.0
"""Seconds in which a worker process of ours must have answered. Ten thousand files on a slow
network drive are imported in less."""
ANSWER_LIMIT = 10.0
"""Seconds for a backend of another package; its cluster may just be starting machines."""
SAFE_PATH = "PYTHONSAFEPATH"
_WORKER_IMPORTS = "import axsched_joblib.warm, joblib.externals.loky.backend.popen_loky_posix"


def check(pool: Any, settings: Settings) -> None:
    """Make the pool answer once, so that no job goes to a pool that cannot start.

    Args:
        pool: a `axsched_joblib.pools.Pool`.
        settings: those that it was made with.

    Raises:
        RunnerError: it cannot run jobs; the message says why.
    """
    answered = threading.Event()
    answers: list[str] = []

    def done(answer: str) -> None:
        answers.append(answer)
        answered.set()

    ours = settings.backend in PROCESSES
    limit = START_LIMIT if ours else ANSWER_LIMIT
    try:
        pool.submit(warm.Task(warm.greet, settings.isolation), done)
    except Exception as error:  # noqa: BLE001 - whatever the backend raises
        done(f"{type(error).__name__}: {error}")
    if not answered.wait(limit):
        if not ours:
            return  # nothing is known
        done(f"no worker process has answered in {limit:g} s")
    if answers[0] == warm.READY:
        return
    why = (_why_workers_end() if ours else "") or _in_one_line(answers[0])
    other = (
        "backend='threading' with isolation='spawn' needs no pool of processes."
        if ours
        else "Its workers need axsched-joblib and the driver's minor version of Python."
    )
    raise RunnerError(
        f"The workers of joblib's backend {settings.backend!r} cannot run jobs: {why}\n"
        f"No job was started, and all trials are open. {other}"
    )


def _in_one_line(answer: str) -> str:
    """The error of a traceback, or the first line of a pool's long text."""
    lines = answer.strip().splitlines() or [""]
    return lines[-1 if lines[0].startswith("Traceback") else 0]


def _why_workers_end() -> str:
    """The error of a worker process while it starts; "" if there is none."""
    command = [sys.executable, "-P", "-c", _WORKER_IMPORTS]
    try:
        ran = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return f"{sys.executable!r} cannot be started: {error}"
    lines = ran.stderr.decode(errors="replace").strip().splitlines()
    return f"{lines[-1]} (in {sys.executable})" if ran.returncode and lines else ""


@contextlib.contextmanager
def fit_to_start() -> Iterator[None]:
    """Give this process temporarily what loky needs to start processes.

    These are streams that can be flushed, no daemonic process, and helpers that do not import files
    in the current directory in place of Python's own modules.
    """
    take_standard_descriptors()
    streams = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    config: dict[str, Any] = process.current_process()._config  # type: ignore[attr-defined]
    daemon, safe = config.get("daemon"), os.environ.get(SAFE_PATH)
    with open(os.devnull, "w", encoding="utf-8") as null:
        for name, stream in streams.items():
            if not _can_be_flushed(stream):
                setattr(sys, name, null)
        config["daemon"], os.environ[SAFE_PATH] = False, "1"
        try:
            yield
        finally:
            for name, stream in streams.items():
                if getattr(sys, name) is null:
                    setattr(sys, name, stream)
            config["daemon"] = daemon or False
            if safe is None:
                del os.environ[SAFE_PATH]
            else:
                os.environ[SAFE_PATH] = safe


def take_standard_descriptors() -> None:
    """If stdin, stdout or stderr was closed, put /dev/null in its place.

    Otherwise the next open file, a journal or a pipe, gets its number, and with it everything that
    is printed to that stream.
    """
    descriptor = 0
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(descriptor, descriptor <= 2)
    os.close(descriptor)


def _can_be_flushed(stream: TextIO | None) -> bool:
    try:
        stream.flush()  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):  # None, closed, or a terminal that is gone
        return False
    return True
