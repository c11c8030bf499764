"""Servers for tests, in a separate folder, which never outlive the process that started them.

Each is started with the environment variable `MARK`, which its children inherit; it identifies the
servers of this folder. A separate keeper process ends them when the process that started them is
gone for any reason.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

MARK = "AXSCHED_DAEMON_OF"
ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGQUIT, signal.SIGABRT}


class Daemons:
    """The servers of one folder, by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        sweep(self.folder)  # servers that an earlier use of this folder has left
        (self.folder / "log").mkdir(parents=True, exist_ok=True)
        keeper = [sys.executable, __file__, str(os.getpid()), str(self.folder)]
        self._keeper = subprocess.Popen(
            keeper, stdin=subprocess.DEVNULL, env=_unmarked(os.environ), start_new_session=True
        )

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Start a server that stays in the foreground and prints to ``log/<name>.out``."""
        if self.runs(name):
            raise RuntimeError(f"{name} is already running in {self.folder}")
        # Last, because a process that changes its title overwrites the first variables.
        environment = {**_unmarked(env), MARK: f"{self.folder}:{name}"}
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=environment,
                start_new_session=True,  # not for the terminal's Ctrl-C
            )

    def runs(self, name: str) -> bool:
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    def kill(self, name: str, number: int = signal.SIGKILL, timeout: float = 30) -> None:
        """Send a signal to a server, but not to its children, and wait for its end if it ends
        it."""
        process = self._processes[name]
        process.send_signal(number)
        if number in ENDING:
            process.wait(timeout)

    def output(self, name: str, length: int = 2000) -> str:
        """The end of what a server has printed."""
        log = self.folder / "log" / f"{name}.out"
        return log.read_text(errors="replace")[-length:] if log.exists() else ""

    def close(self) -> None:
        sweep(self.folder)
        for process in self._processes.values():
            process.wait(30)
        self._keeper.kill()
        self._keeper.wait(30)


def _unmarked(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name != MARK}


def marked(folder: Path, name: str | None = None) -> Iterator[psutil.Process]:
    """The servers of a folder, or one of them, and what they have started."""
    mark = f"{folder}:{name or ''}"
    for process in psutil.process_iter():
        value = environment(process.pid).get(MARK, "")
        if value == mark if name else value.startswith(mark):
            yield process


def environment(pid: int) -> dict[str, str]:
    """The variables with which a process was started; empty if the process is gone or another
    user's.

    A process that shows a title has overwritten the first of them (`psutil` gives up there).
    """
    try:
        block = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition("=") for entry in block.decode(errors="replace").split("\0"))
    return {name: value for name, _, value in pairs}


def kill_all(find: Callable[[], Iterable[psutil.Process]], timeout: float = 30) -> None:
    """Kill processes and their descendants, again and again until none is found."""
    deadline = time.monotonic() + timeout
    while found := set(find()):
        for process in list(found):  # stop them first, so that they start no others
            try:
                process.suspend()
                children = process.children(recursive=True)
            except psutil.Error:
                continue
            for child in children:  # else one could write down how another has ended
                with contextlib.suppress(psutil.Error):
                    child.suspend()
            found.update(children)
        for process in found:
            try:
                process.kill()
            except psutil.Error:
                continue
        _, alive = psutil.wait_procs(found, timeout=5)
        if time.monotonic() > deadline:
            raise TimeoutError(f"these do not end: {alive}")


def sweep(folder: Path) -> None:
    """End all servers of a folder."""
    kill_all(lambda: marked(folder))


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that are free now, and that the system does not give to clients."""
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(10000, 32000)  # below the usual range of clients' ports
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.add(port)
    return sorted(found)


def keep(parent: int, folder: Path) -> None:
    """Wait for the end of a process, then end what it has left in a folder."""
    try:
        select.select([os.pidfd_open(parent)], [], [])
    except ProcessLookupError:
        pass  # the process has ended already
    sweep(folder)


if __name__ == "__main__":
    keep(int(sys.argv[1]), Path(sys.argv[2]))
