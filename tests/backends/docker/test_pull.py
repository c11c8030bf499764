"""Images that have to be pulled, from a registry on this machine."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axsched_docker import DockerOptions
from axsched_docker.diagnose import diagnose

from axsched_core.jobs import Cause, JobState
from support.container_images import BUSYBOX, PYTHON, busybox_image
from support.docker_engine import DockerEngine
from support.image_registry import Registry

WRITE = "echo '{\"loss\": 1}' > $AXSCHED_RESULT_FILE"


@pytest.fixture
def registry(engine: DockerEngine) -> Iterator[Callable[..., Registry]]:
    """Makes registries; what was pulled from them is removed."""
    made: list[Registry] = []

    def make(**more: str) -> Registry:
        made.append(Registry(busybox_image(), **more))
        return made[-1]

    yield make
    client = engine.client()
    for one in made:
        one.close()
        for image in client.images(f"{one.host}/app"):
            client.remove_image(image["Id"], force=True)


def test_a_missing_image_is_pulled_once(bench, registry) -> None:
    here = registry()
    handles = [bench.sh(WRITE, image=f"{here.host}/app:1") for _ in range(6)]
    assert {s.state for s in bench.wait(handles).values()} == {JobState.SUCCEEDED}
    assert here.asked.count("/v2/app/manifests/1") == 1
    assert bench.status(bench.sh(WRITE, image=f"{here.host}/app:1")).state is JobState.SUCCEEDED


@pytest.mark.parametrize(("policy", "asks"), [("missing", 0), ("never", 0), ("always", 1)])
def test_an_image_that_is_there(make_bench, registry, engine, policy: str, asks: int) -> None:
    here = registry()
    engine.client().pull(f"{here.host}/app", tag="1")
    here.asked.clear()
    bench = make_bench(pull=policy)
    for _ in range(2):
        status = bench.status(bench.sh(WRITE, image=f"{here.host}/app:1"))
        assert status.state is JobState.SUCCEEDED
    assert here.asked.count("/v2/app/manifests/1") == asks


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("{host}/app:2", "manifest"),
        ("{host}/other:1", "manifest"),
        ("127.0.0.1:1/app:1", "refused"),
    ],
)
def test_a_pull_that_is_refused(bench, registry, containers, image: str, words: str) -> None:
    image = image.format(host=registry().host)
    status = bench.status(bench.sh(WRITE, image=image))
    assert (status.state, status.cause) == (JobState.FAILED, Cause.SUBMIT_REFUSED)
    assert f"the image {image} could not be pulled: " in status.message
    assert words in status.message
    assert containers(bench.run_id) == []


@pytest.mark.parametrize("password", ["right", "wrong"])
def test_credentials_are_those_of_docker_login(
    make_bench, registry, monkeypatch, tmp_path: Path, password: str
) -> None:
    here = registry(password="right")
    auth = base64.b64encode(f"me:{password}".encode()).decode()
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {here.host: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    bench = make_bench()
    status = bench.status(bench.sh(WRITE, image=f"{here.host}/app:1"))
    if password == "right":
        assert status.state is JobState.SUCCEEDED
    else:
        assert (status.state, status.cause) == (JobState.FAILED, Cause.SUBMIT_REFUSED)


# ---- doctor ----------------------------------------------------------------------------------


def seen(engine: DockerEngine, **options: str) -> dict[str, tuple[bool, str]]:
    checks = diagnose(DockerOptions(**{"host": engine.url, **options}))
    return {check.name: (check.ok, check.message) for check in checks}


def test_the_doctor_finds_all_well(engine: DockerEngine, minor_version: str) -> None:
    found = seen(engine, image=PYTHON)
    assert all(ok for ok, _ in found.values())
    assert "API 1." in found["engine"][1]
    assert found["container"][1] == f"python3 is Python {minor_version}"
    assert not engine.client().containers(all=True, filters={"name": "axsched-doctor"})


@pytest.mark.parametrize(
    ("options", "check", "words"),
    [
        ({"host": "unix:///no/such.sock"}, "engine", "group docker"),
        ({"image": "127.0.0.1:1/none:1"}, "image", "could not be pulled"),
        ({"image": "none:1", "pull": "never"}, "image", "No such image"),
        ({"image": BUSYBOX}, "container", "python3 does not run"),
        ({"context": "none"}, "engine", "no Docker context"),
    ],
)
def test_the_doctor_finds_what_is_wrong(engine, options, check: str, words: str) -> None:
    if "context" in options:
        options = {**options, "host": None}
    found = seen(engine, **options)
    assert [name for name, (ok, _) in found.items() if not ok] == [check]
    assert words in found[check][1]
