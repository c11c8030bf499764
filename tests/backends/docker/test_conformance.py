"""The docker runner passes the whole kit on a real engine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from axsched_core.jobs import ContainerObjective
from axsched_core.testing import RunnerConformance
from support.container_images import PYTHON
from support.docker_engine import DockerEngine
from support.engine_proxy import EngineProxy

pytestmark = pytest.mark.timeout(600)


class Kit(RunnerConformance):
    """What is the same however the files go."""

    runner_name = "docker"

    @pytest.fixture
    def foreign_objective(self) -> ContainerObjective:
        return ContainerObjective(PYTHON, None, {"no such option": 1})

    @pytest.fixture
    def backend_calls(self, proxy: EngineProxy) -> Callable[[], int]:
        # Starts and fetches go on beside the poll: only what it costs itself is counted.
        return lambda: proxy.count("/containers/json")

    @pytest.fixture
    def calls_for_200_jobs(self) -> int:
        return 1

    @pytest.fixture
    def outage(self, engine: DockerEngine) -> Callable[[], contextlib.AbstractContextManager]:
        @contextlib.contextmanager
        def down() -> Iterator[None]:
            engine.kill()
            try:
                yield
            finally:
                engine.start()

        return down

    @pytest.fixture
    def leftovers(self, containers: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
        return containers


class TestCopied(Kit):
    """The engine may be anywhere: it sees no folder of this machine's."""

    @pytest.fixture
    def runner_options(self, proxy: EngineProxy, tmp_path: Path):
        # The kit's jobs leave marks in the test's own folder, or where that would be.
        return {
            "host": proxy.url,
            "image": PYTHON,
            "max_containers": 6,
            "tmpfs": [str(tmp_path)],
        }

    @pytest.fixture
    def jobs_made(self, engine: DockerEngine) -> Callable[[str], int]:
        since = int(time.time())

        def count(key: str) -> int:
            events = engine.client().events(
                since=since,
                until=int(time.time()) + 1,
                decode=True,
                filters={"event": "start", "container": f"axsched-{key}"},
            )
            return len(list(events))

        return count


class TestMounted(Kit):
    """The files are mounted, the root file system is read-only, and the user is the caller."""

    @pytest.fixture
    def runner_options(self, proxy: EngineProxy, tmp_path: Path):
        return {
            "host": proxy.url,
            "image": PYTHON,
            "max_containers": 6,
            "files": "mount",
            "read_only": True,
            "volumes": [f"{tmp_path}:{tmp_path}"],
        }
