"""The same runner with Podman, through its API that is compatible with Docker's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from axsched_core.testing import RunnerConformance
from support import docker_engine, podman_engine
from support.container_images import PYTHON, python_image
from support.missing_backends import need
from support.podman_engine import PodmanEngine

pytestmark = pytest.mark.timeout(600)

FOLDER = "axsched-podman-{pid}"


@pytest.fixture(scope="module")
def podman() -> Iterator[PodmanEngine]:
    need("Podman", *podman_engine.missing())
    docker_engine.remove_stale(FOLDER, PodmanEngine)
    with PodmanEngine(Path("/tmp", FOLDER.format(pid=os.getpid()))) as made:
        made.load(PYTHON, python_image())
        yield made


class TestPodman(RunnerConformance):
    runner_name = "docker"

    @pytest.fixture
    def patience(self) -> float:
        return 60.0

    @pytest.fixture
    def runner_options(self, podman: PodmanEngine, tmp_path: Path):
        return {
            "host": podman.url,
            "image": PYTHON,
            "max_containers": 6,
            "network": "none",
            "volumes": {str(tmp_path): str(tmp_path)},
        }

    @pytest.fixture
    def outage(self, podman: PodmanEngine) -> Callable[[], contextlib.AbstractContextManager]:
        @contextlib.contextmanager
        def down() -> Iterator[None]:
            podman.kill()
            try:
                yield
            finally:
                podman.start()

        return down

    @pytest.fixture
    def leftovers(self, podman: PodmanEngine) -> Callable[[str], list[str]]:
        client = podman.client()
        return lambda run_id: client.containers(
            all=True, filters={"label": f"axsched.run={run_id}"}
        )
