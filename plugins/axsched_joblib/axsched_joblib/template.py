"""A process that has imported what the objective needs, so that each job need not import it again.

Jobs are forked from it instead of from the pool's worker, which has imported nothing. It never runs
the user's code: only installed packages are imported here. A process that has more than one thread
is not forked from, since the children of some of them hang (OpenMP, CUDA).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
import types
from collections.abc import Mapping, Sequence

IMPORT_LIMIT = 120.0
"""Seconds that the imports may take."""
ANSWER_LIMIT = 10.0
"""Seconds that it may take to start a job."""
MESSAGE_LIMIT = 1 << 17
LOOK_INTERVAL = 1.0
"""Seconds between two looks at whether the files of the modules have changed: they may be very
many."""
NAME = "axsched-modules"
"""Of the process, for people; Linux shows 15 characters."""
READY, STARTED, STALE = b"ready", b"started", b"stale"


class Template:
    """Start a template process, which ends with this one, and ask it to start jobs.

    Args:
        worker: the job's worker file, as a module.
        modules: what it imports, in this order.
        folder: a job's folder; the others begin with the same ``sys.path``.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self, worker: types.ModuleType, modules: Sequence[str], folder: str) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # It is no child of the worker: when loky ends a worker, it ends all that comes from it, and
        # so from a child also the jobs.
        middle = os.fork()
        if middle == 0:
            try:
                if os.fork() == 0:
                    self._channel.close()
                    _serve(theirs, worker, modules, folder)
            finally:
                os._exit(0)
        os.waitpid(middle, 0)
        theirs.close()

    def is_ready(self) -> bool:
        """Wait until it has imported everything. False: jobs cannot be forked from it."""
        self._channel.settimeout(IMPORT_LIMIT)
        try:
            return self._channel.recv(MESSAGE_LIMIT) == READY
        except OSError:
            return False

    def start(self, folder: str, env: Mapping[str, str]) -> int | None:
        """Start a job's supervisor.

        Args:
            folder: the job's.
            env: variables of the job's environment, in addition to this process's.

        Returns:
            A file descriptor that reaches its end when the supervisor has ended. None: the template
            has not started it; it is of no use any more.
        """
        self._channel.settimeout(ANSWER_LIMIT)
        try:
            self._channel.send(json.dumps([folder, dict(env)]).encode())
            answer, descriptors, _, _ = socket.recv_fds(self._channel, MESSAGE_LIMIT, 1)
        except OSError:
            return None
        return descriptors[0] if answer == STARTED and descriptors else None

    def close(self) -> None:
        """End it. The jobs that it has started continue."""
        self._channel.close()


def _serve(
    channel: socket.socket, worker: types.ModuleType, modules: Sequence[str], folder: str
) -> None:
    """In the template: import, then start what is asked for until the worker closes or ends."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    usual_name = worker.set_process_name(NAME)
    # Loky takes it for a sign of life of its worker that these are open.
    os.closerange(3, channel.fileno())
    os.closerange(channel.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    with open(os.path.join(folder, "job.json"), "rb") as file:
        worker.take_import_path(json.load(file))
    for name in modules:
        _import(name)
    files, looked = _files(), time.monotonic()
    if not may_be_forked():
        return
    gc.collect()
    gc.freeze()  # else each child's collections would copy the pages that it shares with us
    channel.send(READY)
    while request := channel.recv(MESSAGE_LIMIT):
        if time.monotonic() > looked + LOOK_INTERVAL:
            looked = time.monotonic()
            if _files() != files:
                channel.send(STALE)
                return
        if not may_be_forked():
            channel.send(STALE)
            return
        folder, env = json.loads(request)
        descriptor = worker.start_child(folder, env, usual_name)
        socket.send_fds(channel, [STARTED], [descriptor])
        os.close(descriptor)


def _import(name: str) -> None:
    with contextlib.suppress(BaseException):  # a job that needs it tries again, and says why
        importlib.import_module(name)


def may_be_forked() -> bool:
    """True if this process has one thread, and has not used a GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return False
    return len(os.listdir("/proc/self/task")) == 1


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
