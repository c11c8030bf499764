"""A private Podman that speaks Docker's API: its whole state lies in one folder.

Needs root, and Debian's podman, runc, catatonit and busybox-static.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import time
from typing import Self

from support.docker_engine import PATIENCE, DockerEngine, engine_processes, unmount_below
from support.missing_backends import missing_packages

CONFIG = """\
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
pids_limit = 0
init_path = "/usr/bin/catatonit"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
static_dir = "{folder}/static"
tmp_dir = "{folder}/tmp"
"""


def missing() -> tuple[list[str], str]:
    """What `missing_backends.need` is to be told."""
    why = "" if os.geteuid() == 0 else "a private Podman needs root"
    names = {name: name for name in ("podman", "runc", "catatonit")}
    return missing_packages({**names, "busybox": "busybox-static"}), why


class PodmanEngine(DockerEngine):
    """A Podman service of our own, to be used like a `DockerEngine`."""

    def start(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        # By itself it asks for limits that not even root may have everywhere.
        limits = {
            "files": min(1 << 20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
            "processes": 4096,
        }
        config = CONFIG.format(folder=self.folder, **limits)
        (self.folder / "containers.conf").write_text(config)
        storage = [f"--root={self.folder}/root", f"--runroot={self.folder}/run"]
        service = ["system", "service", "--time=0", self.url]
        return self._launch(
            ["podman", *storage, *service],
            CONTAINERS_CONF=str(self.folder / "containers.conf"),
            TMPDIR=str(self.folder),
        )

    def load(self, image: str, tar: bytes) -> None:
        super().load(image, tar)
        repository, _, tag = image.partition(":")
        with contextlib.closing(self.client()) as client:
            client.tag(repository, repository, tag)  # an import loses the tag

    def remove(self) -> None:
        with contextlib.suppress(Exception), contextlib.closing(self.client()) as client:
            for container in client.containers(all=True):
                client.remove_container(container["Id"], force=True)
        self.stop()
        deadline = time.monotonic() + PATIENCE
        while left := self._monitors():
            assert time.monotonic() < deadline, f"these do not end: {left}"
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        unmount_below(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _monitors(self) -> list[int]:
        """conmon processes, which watch over containers; their command lines name the folder."""
        return list(engine_processes(self.folder))
