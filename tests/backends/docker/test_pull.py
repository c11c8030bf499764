"""Images that have to be pulled, from a registry on this machine."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axsched_docker import DockerOptions
from axsched_docker.diagnose import diagnose
from axsched_docker.job import Job

from axsched_core import jobfolder
from axsched_core.jobs import Cause, JobState
from support.container_images import BUSYBOX, PYTHON, busybox_image, image
from support.docker_engine import DockerEngine
from support.image_registry import Registry
from support.waiting import wait_until

OLD = "axsched-test/old:1"
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
        for found in client.images(f"{one.host}/app"):
            client.remove_image(found["Id"], force=True)


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
    ],
)
def test_a_pull_that_is_refused(bench, registry, containers, image: str, words: str) -> None:
    image = image.format(host=registry().host)
    status = bench.status(bench.sh(WRITE, image=image))
    assert (status.state, status.cause) == (JobState.FAILED, Cause.CONFIGURATION)
    assert f"the image {image} could not be pulled: " in status.message
    assert words in status.message
    assert containers(bench.run_id) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_registry_that_is_down_is_waited_for(bench, registry, status: int) -> None:
    here = registry()
    here.down = status
    handles = [bench.sh(WRITE, image=f"{here.host}/app:1") for _ in range(4)]
    wait_until(lambda: here.turned_away > 4)
    found = bench.session.poll(handles)
    assert {one.state for one in found.values()} == {JobState.QUEUED}
    assert any("could not be pulled" in one.message for one in found.values())
    here.down = 0
    assert {one.state for one in bench.wait(handles).values()} == {JobState.SUCCEEDED}
    assert here.asked.count("/v2/app/manifests/1") == 1


def test_a_registry_that_stays_away_ends_the_run(bench, containers, monkeypatch) -> None:
    monkeypatch.setattr("axsched_docker.images.NotPulled.patience", 1.0)
    status = bench.status(bench.sh(WRITE, image="127.0.0.1:1/app:1"))
    assert (status.state, status.cause) == (JobState.FAILED, Cause.CONFIGURATION)
    assert "the image 127.0.0.1:1/app:1 could not be pulled: " in status.message
    assert "refused (tried for 1 s)" in status.message
    assert containers(bench.run_id) == []


def test_who_waits_for_a_registry_can_be_cancelled(bench, monkeypatch) -> None:
    in_trouble = Job.in_trouble

    def for_long(job: Job, why: object, patience: float) -> float | None:
        return in_trouble(job, why, patience) and 3600.0

    monkeypatch.setattr(Job, "in_trouble", for_long)
    handle = bench.sh(WRITE, image="127.0.0.1:1/app:1")
    wait_until(lambda: bench.session.poll([handle])[handle.key].message)
    bench.session.cancel([handle], "enough")
    assert bench.status(handle).state is JobState.CANCELLED


def test_who_waits_for_a_registry_is_withdrawn_by_close(bench) -> None:
    handle = bench.sh(WRITE, image="127.0.0.1:1/app:1")
    wait_until(lambda: bench.session.poll([handle])[handle.key].message)
    bench.close(wait=True)
    assert jobfolder.never_ran(bench.folder(handle))


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
        assert (status.state, status.cause) == (JobState.FAILED, Cause.CONFIGURATION)


# ---- doctor ----------------------------------------------------------------------------------


def seen(engine: DockerEngine, **options: Any) -> dict[str, tuple[bool, str]]:
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
        ({"image": BUSYBOX, "init": False}, "container", "python3 does not run"),
        ({"gpus": 1}, "container", "could not select device driver"),
        ({"user": "nosuch"}, "container", "nosuch"),
        ({"memory": "1m"}, "container", "emory limit"),
        ({"memory": "32m", "image": OLD, "python": "greedy"}, "container", "too little for"),
        ({"cpus": 4000}, "container", "CPUs"),
        ({"network": "no-such-net"}, "container", "no-such-net"),
        ({"volumes": ["/no/such/folder:/data"]}, "container", "/no/such/folder"),
        ({"image": OLD}, "container", "is Python 3.6; functions and scripts need 3.7"),
        ({"image": OLD, "python": "true"}, "container", "true is no Python"),
        ({"context": "none"}, "engine", "no Docker context"),
    ],
)
def test_the_doctor_finds_what_is_wrong(
    engine: DockerEngine, tmp_path: Path, options: dict[str, Any], check: str, words: str
) -> None:
    if options.get("image") == OLD:
        old, greedy = tmp_path / "python3", tmp_path / "greedy"
        old.write_text("#!/bin/sh\necho 3.6\n")
        greedy.write_text("#!/bin/sh\ndd if=/dev/zero of=/dev/null bs=200M count=1\n")
        for one in (old, greedy):
            one.chmod(0o755)
        engine.load(OLD, image({f"/usr/bin/{one.name}": one for one in (old, greedy)}))
    options = {"image": PYTHON, **options}
    if "context" in options:
        options = {**options, "host": None}
    found = seen(engine, **options)
    assert [name for name, (ok, _) in found.items() if not ok] == [check]
    assert words in found[check][1]
    assert not engine.client().containers(all=True, filters={"name": "axsched-doctor"})


@pytest.mark.parametrize("name", ["DOCKER_CONTEXT", "config.json"])
def test_a_context_that_does_not_exist_is_not_taken_for_this_machine_s(
    monkeypatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    if name == "DOCKER_CONTEXT":
        monkeypatch.setenv(name, "typo")
    else:
        (tmp_path / name).write_text('{"currentContext": "typo"}')
    checks = diagnose(DockerOptions())
    assert [(one.name, one.ok) for one in checks] == [("docker SDK", True), ("engine", False)]
    assert "no Docker context named 'typo'" in checks[-1].message
    assert name in checks[-1].message
