"""The docker runner passes the whole kit on a real engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker_engine import DockerEngine
from engine_proxy import EngineProxy
from images import PYTHON

from axsched_core.testing import RunnerConformance

pytestmark = pytest.mark.timeout(600)


class Kit(RunnerConformance):
    """What is the same however the files go."""

    runner_name = "docker"

    @pytest.fixture
    def runner_options(self, proxy: EngineProxy, tmp_path: Path):
        # The kit's jobs leave marks in the test's own folder.
        return {
            "host": proxy.url,
            "image": PYTHON,
            "max_containers": 6,
            "volumes": {str(tmp_path): str(tmp_path)},
        }

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
    """The files are copied: the engine may be anywhere."""


class TestMounted(Kit):
    """The files are mounted, root's file system is read-only, and the user is the caller."""

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
