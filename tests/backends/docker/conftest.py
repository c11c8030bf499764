from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import docker_engine
import pytest
from docker_engine import DockerEngine
from engine_proxy import EngineProxy
from images import BUSYBOX, PYTHON, busybox_image, python_image

FOLDER = "axsched-docker-{pid}"


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    """A private engine with the two images; running containers survive its death."""
    if why := docker_engine.missing():
        if os.environ.get("AXSCHED_REQUIRE_BACKENDS") == "1":
            pytest.fail(why)
        pytest.skip(why)
    docker_engine.remove_stale(FOLDER)
    folder = Path("/tmp", FOLDER.format(pid=os.getpid()))
    with DockerEngine(folder, "--live-restore") as made:
        made.load(BUSYBOX, busybox_image())
        made.load(PYTHON, python_image())
        yield made


@pytest.fixture
def proxy(engine: DockerEngine) -> Iterator[EngineProxy]:
    """A proxy before the engine; a new one for each test."""
    path = engine.folder / f"proxy-{os.urandom(3).hex()}.sock"
    made = EngineProxy(path, engine.socket)
    yield made
    made.close()
    path.unlink()


@pytest.fixture
def containers(engine: DockerEngine) -> Callable[[str], list[str]]:
    """The names of a run's containers, ended ones too."""
    client = engine.client()

    def find(run_id: str) -> list[str]:
        found = client.containers(all=True, filters={"label": f"axsched.run={run_id}"})
        return [one["Names"][0].lstrip("/") for one in found]

    return find
