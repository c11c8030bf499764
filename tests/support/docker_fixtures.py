"""Fixtures: a private Docker engine, and benches of the Docker runner on it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axsched_docker import DockerRunner

from axsched_core.jobs import ContainerObjective, JobHandle, RunnerContext
from axsched_core.testing import Bench
from support import docker_engine
from support.container_images import BUSYBOX, PYTHON, busybox_image, python_image
from support.docker_engine import DockerEngine
from support.engine_proxy import EngineProxy
from support.missing_backends import need

FOLDER = "axsched-docker-{pid}"


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    """A private engine with the two images; running containers survive its death."""
    with private_engine(FOLDER) as made:
        yield made


@contextlib.contextmanager
def private_engine(pattern: str) -> Iterator[DockerEngine]:
    """An engine in a folder of this name, which has ``{pid}`` in it, below ``/tmp``."""
    need("Docker", *docker_engine.missing())
    docker_engine.remove_stale(pattern)
    folder = Path("/tmp", pattern.format(pid=os.getpid()))
    with DockerEngine(folder, "--live-restore") as made:
        made.load(BUSYBOX, busybox_image())
        made.load(PYTHON, python_image())
        yield made


@pytest.fixture
def proxy(engine: DockerEngine) -> Iterator[EngineProxy]:
    """A proxy in front of the engine; a new one for each test."""
    path = engine.folder / f"proxy-{os.urandom(3).hex()}.sock"
    made = EngineProxy(path, engine.socket)
    yield made
    made.close()
    path.unlink()


@pytest.fixture
def containers(engine: DockerEngine) -> Callable[[str], list[str]]:
    """The names of a run's containers, also of ended ones."""
    client = engine.client()

    def find(run_id: str) -> list[str]:
        found = client.containers(all=True, filters={"label": f"axsched.run={run_id}"})
        return [one["Names"][0].lstrip("/") for one in found]

    return find


class DockerBench(Bench):
    """A bench for jobs that are shell commands in a container by default."""

    def sh(self, command: str, image: str = BUSYBOX, **options: Any) -> JobHandle:
        """Start a container that runs this in a shell."""
        objective = ContainerObjective(image, ("sh", "-c", command), options)
        return self.start({"x": 0.5}, objective=objective)


@pytest.fixture
def make_bench(engine: DockerEngine, tmp_path: Path) -> Iterator[Callable[..., DockerBench]]:
    """Makes open sessions on the private engine, with the given runner options."""
    made: list[DockerBench] = []

    def make(**options: Any) -> DockerBench:
        runner = DockerRunner(**{"host": engine.url, "image": PYTHON, **options})
        made.append(DockerBench(runner, tmp_path, patience=60.0))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., DockerBench]) -> DockerBench:
    """An open session with the runner's defaults."""
    return make_bench()


def second_runner(bench: Bench, engine: DockerEngine) -> DockerRunner:
    """A driver that has taken the run over from the bench's."""
    runner = DockerRunner(host=engine.url)
    runner.axsched_open(RunnerContext(bench.run_id, bench.run_dir, bench.woken.put, 0.1, 10**6))
    return runner


@pytest.fixture(scope="session")
def minor_version() -> str:
    return "{}.{}".format(*sys.version_info[:2])
