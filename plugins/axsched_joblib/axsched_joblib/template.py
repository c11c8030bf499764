"""A process that has imported what the objective needs, so that each job need not import it again.

Jobs are forked from it instead of from the pool's worker, which has imported nothing. It never runs
the user's code: only installed packages are imported here. A process with threads is not forked
from, since the children of some of them hang (OpenMP, CUDA); but OpenBLAS ends its threads before a
fork, and starts them again where they are needed.

    python template.py SOCKET MODULES FOLDER

``SOCKET`` is made when everything is imported; ``MODULES`` is a file with a JSON list of names;
``FOLDER`` is a job's, the others begin with the same ``sys.path``. It ends with its stdin. Standard
library only, as the worker.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.path[0] and __file__.startswith(sys.path[0]):
    del sys.path[0]  # this folder, which is no place for a job's imports

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

ANSWER_LIMIT = 10.0
"""Seconds that it may take to start a job."""
MESSAGE_LIMIT = 1 << 17
DRIVER_CHECK = 2.0
"""Seconds between two looks at whether the driver lives."""
LOOK_INTERVAL = 1.0
"""Seconds between two looks at whether the files of the modules have changed: they may be very
many."""
WITH_OPENBLAS = ("numpy", "scipy.linalg")
"""Modules that start threads of OpenBLAS, each of a library of its own."""
NAME = "axsched-modules"
"""Of the process, for people; Linux shows 15 characters."""
READY, STARTED = b"ready\n", b"started"
UNUSABLE = 3
"""The exit code of a process that must not be forked from: the next one would be the same."""


# ---- a pool's worker asks -----------------------------------------------------------------------


def start(path: str, folder: str, env: Mapping[str, str]) -> int | None:
    """Have the template start a job's supervisor.

    Args:
        path: of its socket.
        folder: the job's.
        env: variables of the job's environment, in addition to the template's.

    Returns:
        A file descriptor that reaches its end when the supervisor has ended. None: the template
        has not started it, or has not said so; the job's claim lets it run once.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.settimeout(ANSWER_LIMIT)
        try:
            channel.connect(path)
            channel.send(json.dumps([folder, dict(env)]).encode())
            answer, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_LIMIT, 1)
        except OSError:
            return None
    return descriptors[0] if answer == STARTED and descriptors else None


# ---- the process --------------------------------------------------------------------------------


def main(path: str, modules: str, folder: str) -> int:
    """Import, then start what is asked for until stdin is closed."""
    ready = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what packages print
    driver = os.getppid()
    worker = load_worker(folder)
    usual_name = worker.set_process_name(NAME)
    # Its children are the jobs' supervisors: nobody waits for them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    worker.take_import_path(json.loads(Path(folder, "job.json").read_bytes()))
    names = [str(name) for name in json.loads(Path(modules).read_bytes())]
    _import([name for name in WITH_OPENBLAS if name in names])
    threads = _threads()
    _import(names)
    files, looked = _files(), time.monotonic()
    if not _may_be_forked(threads):
        return UNUSABLE
    gc.collect()
    gc.freeze()  # else each child's collections would copy the pages that it shares with us
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen(128)
        os.write(ready, READY)
        while _is_asked(listener, driver):
            if time.monotonic() > looked + LOOK_INTERVAL:
                looked = time.monotonic()
                if _files() != files:
                    return 0
            if not _may_be_forked(threads):
                return UNUSABLE
            # A worker may have been killed while it asked.
            with contextlib.suppress(OSError, ValueError), listener.accept()[0] as channel:
                channel.settimeout(ANSWER_LIMIT)
                _start(worker, channel, usual_name)
    return 0


def _import(names: Sequence[str]) -> None:
    for name in names:
        # A job that needs it tries again, and says why it fails.
        with contextlib.suppress(BaseException):
            importlib.import_module(name)


def _is_asked(listener: socket.socket, driver: int) -> bool:
    """Wait for a worker; False: the driver has ended, or needs no more jobs."""
    poll = select.poll()
    for descriptor in (0, listener.fileno()):
        poll.register(descriptor, select.POLLIN)
    while not (found := poll.poll(1e3 * DRIVER_CHECK)):
        if os.getppid() != driver:  # another process has the other end of stdin too
            return False
    return all(descriptor != 0 for descriptor, _ in found)


def _start(worker: types.ModuleType, channel: socket.socket, name: str) -> None:
    folder, env = json.loads(channel.recv(MESSAGE_LIMIT))
    descriptor = worker.start_child(folder, env, name)
    try:
        socket.send_fds(channel, [STARTED], [descriptor])
    finally:
        os.close(descriptor)


def load_worker(folder: str) -> types.ModuleType:
    """Load the worker file from a job's folder."""
    path = Path(folder, "axsched_worker.py")
    module = types.ModuleType("axsched_worker")
    module.__file__ = str(path)
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    return module


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _may_be_forked(threads: int) -> bool:
    """True if this process has no more threads than these, and has not used a GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return False
    return _threads() <= threads


def _files() -> dict[str, int]:
    """The files of all loaded modules, with their times of change."""
    found = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str):
            try:
                found[file] = os.stat(file).st_mtime_ns
            except OSError:
                found[file] = 0
    return found


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
