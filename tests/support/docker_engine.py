"""A private Docker engine: its whole state is in one folder, and nothing is left on the host.

    with DockerEngine(Path("/tmp/engine")) as engine:
        engine.load(BUSYBOX, busybox_image())
        docker.DockerClient(base_url=engine.url)

Needs root, and Debian's docker.io and busybox-static. It uses no registry: images are made of this
machine's own files (`container_images.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from support.missing_backends import missing_packages, path

PATIENCE = 180.0
"""Seconds that an engine may take to start: ten after a SIGKILL, less than one otherwise, and many
times as long on a machine that is busy."""
CGROUPS = Path("/sys/fs/cgroup")


def missing() -> tuple[list[str], str]:
    """The arguments for `missing_backends.need`."""
    why = "" if os.geteuid() == 0 else "a private engine needs root"
    return missing_packages({"dockerd": "docker.io", "busybox": "busybox-static"}), why


def _which(program: str) -> str | None:
    return shutil.which(program, path=path())


class DockerEngine:
    """A private dockerd.

    Args:
        folder: for its state; at most 70 characters, because of the socket in it.
        arguments: further arguments of dockerd.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder.absolute()
        assert len(str(self.folder)) < 70, f"too long for a unix socket: {self.folder}"
        self.socket = self.folder / "docker.sock"
        self.url = f"unix://{self.socket}"
        self._arguments = arguments
        self._cgroup = f"axsched-{zlib.crc32(str(self.folder).encode()):08x}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def log(self) -> str:
        """Its output."""
        return (self.folder / "engine.log").read_text(errors="replace")

    def start(self) -> Self:
        """Start dockerd, also after `kill`; containers that it had are still there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in ("dockerd.pid", "docker.sock", "exec/containerd/containerd.pid"):
            (self.folder / stale).unlink(missing_ok=True)
        # Nothing of the machine's own engine may be read or written.
        own = {"deprecated-key-path": str(self.folder / "key.json")}
        (self.folder / "daemon.json").write_text(json.dumps(own))
        dockerd = _which("dockerd")
        assert dockerd is not None, missing()
        return self._launch([dockerd, *self._flags(), *self._arguments])

    def _launch(self, command: Sequence[str], **environment: str) -> Self:
        """Start the server, and wait until it answers."""
        with (self.folder / "engine.log").open("ab") as log:
            self._process = subprocess.Popen(
                # It gets a signal to end when the process that has started it is killed.
                ["setpriv", "--pdeathsig", "TERM", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                env={**os.environ, "PATH": path(), **environment},
            )
        self._wait_until_up()
        return self

    def _flags(self) -> Iterable[str]:
        here = self.folder
        yield from ("--data-root", f"{here}/data", "--exec-root", f"{here}/exec")
        yield from ("--pidfile", f"{here}/dockerd.pid", "-H", self.url)
        yield from ("--config-file", f"{here}/daemon.json", "--cgroup-parent", f"/{self._cgroup}")
        yield from ("--exec-opt", "native.cgroupdriver=cgroupfs", "--bridge=none")
        yield from ("--iptables=false", "--ip6tables=false", "--ip-forward=false")
        yield from ("--ip-masq=false", "--userland-proxy=false", "--shutdown-timeout=3")
        yield "--log-level=warn"

    def _wait_until_up(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            ended = self._process.poll() is not None
            late = time.monotonic() > deadline
            if ended or late:
                raise RuntimeError(f"no engine:\n{self.log[-3000:]}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """True if the engine answers a ping."""
        import docker

        try:
            client = docker.APIClient(base_url=self.url, timeout=5)
        except docker.errors.DockerException:
            return False
        with contextlib.closing(client):
            return bool(client.ping())

    def client(self) -> Any:
        """A low-level client of the SDK."""
        import docker

        return docker.APIClient(base_url=self.url)

    def load(self, image: str, tar: bytes) -> None:
        """Load an image of this name with the files in ``tar``."""
        repository, _, tag = image.partition(":")
        with contextlib.closing(self.client()) as client:
            client.import_image_from_data(
                tar,
                repository=repository,
                tag=tag,
                changes=['CMD ["sh"]', "ENV PATH=/usr/local/bin:/usr/bin:/bin"],
            )

    def kill(self) -> None:
        """Send SIGKILL to dockerd only, like a crash; containers continue."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """A context in which it accepts calls and does not answer."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End dockerd cleanly."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)

    def remove(self) -> None:
        """End everything, and undo every mount and cgroup. Also after another process's engine."""
        self.stop()
        self._end_processes()
        unmount_below(self.folder)
        for cgroup in self._cgroups():
            with contextlib.suppress(OSError):
                cgroup.rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_processes(self) -> None:
        deadline = time.monotonic() + 20
        while left := {*engine_processes(self.folder), *self._contained()}:
            assert time.monotonic() < deadline, f"these do not end: {left}"
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
            if self._process is not None:
                self._process.poll()

    def _contained(self) -> Iterable[int]:
        """Processes of containers; they outlive a killed shim."""
        for cgroup in self._cgroups():
            with contextlib.suppress(OSError):
                yield from map(int, (cgroup / "cgroup.procs").read_text().split())

    def _cgroups(self) -> list[Path]:
        """Ours, the innermost first. Others may come and go; os.walk ignores that."""
        places = [Path(place) for place, _, _ in os.walk(CGROUPS) if f"/{self._cgroup}" in place]
        return sorted(places, key=lambda cgroup: -len(cgroup.parts))


def remove_stale(pattern: str, kind: type[DockerEngine] = DockerEngine) -> None:
    """Remove the engines of killed processes: folders ``<pattern with {pid}>`` below /tmp."""
    for folder in Path("/tmp").glob(pattern.format(pid="*")):
        pid = folder.name.removeprefix(pattern.format(pid=""))
        if pid.isdigit() and not Path("/proc", pid).exists():
            kind(folder).remove()


def engine_processes(folder: Path) -> Iterable[int]:
    """The engine's own processes: their command lines name the folder."""
    mark = f"{folder}/".encode()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            name = (process / "comm").read_text().strip()
            ours = name.startswith(("dockerd", "containerd")) or name == "conmon"
            if ours and mark in (process / "cmdline").read_bytes():
                yield int(process.name)


def unmount_below(folder: Path) -> None:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "-l", place], check=False, capture_output=True)
