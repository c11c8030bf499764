"""What runs in a pool's warm worker: standard library only, and never the user's code.

A child that is forked from a process that has *run* OpenMP hangs. So the worker of a pool loads
only the job's worker file; the child loads the function, and all that it imports. What earlier jobs
have imported is loaded by a process of its own, see `template`.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import traceback
import types
from collections.abc import Callable, Mapping

from axsched_joblib import template

ENDED = "ended"
"""The job has ended, or will never run."""
READY = "ready"
"""A worker can run jobs."""
ELSEWHERE = "elsewhere"
"""The job runs on another machine; only its folder says when it has ended."""

DRIVER_CHECK = 0.5
"""Seconds between two checks of the driver, if the system cannot report its end."""

_worker: types.ModuleType | None = None


class Task:
    """One call, in the form for any joblib backend: a picklable callable without arguments."""

    def __init__(self, function: Callable[..., str], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    @property
    def items(self) -> list[tuple[object, list[object], dict[str, object]]]:
        """The calls that it consists of; the dask backend asks for them."""
        return [(self.function, list(self.arguments), {})]

    def __call__(self) -> list[str]:
        return [self.function(*self.arguments)]


def greet(isolation: str) -> str:
    """Check that jobs can run here: `READY`, or a text that says why they cannot."""
    if isolation != "spawn":
        return READY
    try:
        subprocess.run([sys.executable, "-c", ""], stdin=subprocess.DEVNULL, check=True)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        return f"the Python that is to run jobs ({sys.executable!r}) cannot be started: {error}"
    return READY


def run_job(folder: str, isolation: str, env: Mapping[str, str], socket: str = "") -> str:
    """Start the job unless it was claimed, and wait until it has ended.

    Args:
        folder: the job's folder.
        isolation: ``"fork"``, ``"spawn"`` or ``"none"``.
        env: variables for its environment in addition to this process's.
        socket: of the process that has imported what the job needs; "": there is none.

    Returns:
        `ENDED`, `ELSEWHERE`, or a text that says why the job could not be started.
    """
    try:
        worker = _load_worker(folder)
        if isolation == "none":
            worker.run_here(folder)
            return ENDED  # the owner is a process that continues: nothing to wait for
        if isolation == "fork":
            started = template.start(socket, folder, env) if socket else None
            if started is None:
                started = worker.start_detached(folder, env=env)
            worker.wait_for_end(started)
        else:
            worker.wait_for_end(worker.start_spawned(folder, env=env))
        # Another worker's supervisor may have made the claim, and may still be working.
        return ENDED if worker.wait_for_owner(folder) else ELSEWHERE
    except Exception:  # noqa: BLE001 - whatever it is, the driver reports it
        return traceback.format_exc()


def _load_worker(folder: str) -> types.ModuleType:
    """Load the worker file from the job's folder (once for each process)."""
    global _worker
    if _worker is None:
        _worker = template.load_worker(folder)
    return _worker


def initialize(driver: int, safe_path: str | None) -> None:
    """Make a worker process ignore Ctrl-C, keep nothing open, and end with its driver.

    Args:
        driver: process id of the driver that has started this process.
        safe_path: the driver's $PYTHONSAFEPATH, which jobs get in place of the worker's.
    """
    os.environ.pop("PYTHONSAFEPATH", None)
    if safe_path is not None:
        os.environ["PYTHONSAFEPATH"] = safe_path
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # Otherwise a pipe behind the driver (`driver | tee log`) would stay open as long as we live.
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    if null > 2:  # a pool may have closed stdin before us
        os.close(null)
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()


def _end_with(driver: int) -> None:
    """End this process when the driver has ended; a supervised job continues."""
    try:
        descriptor = os.pidfd_open(driver)
    except (AttributeError, OSError):  # not Linux, an old kernel, or it has ended already
        ended = threading.Event()
        while os.getppid() == driver:
            ended.wait(DRIVER_CHECK)
    else:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while os.getppid() == driver:
            poll.poll()
    os._exit(1)
