"""Which image a run uses: one for each name, from its first trial to its last."""

from __future__ import annotations

import json

import pytest

from axsched_core.jobs import Cause, ContainerObjective, JobState
from support.container_images import BUSYBOX, busybox_image, image
from support.docker_engine import DockerEngine
from support.image_registry import Registry
from support.waiting import wait_until

WRITE = "echo '{\"loss\": 1}' > $AXSCHED_RESULT_FILE"
MOVING = "axsched-test/moving:1"


@pytest.fixture
def moving(engine: DockerEngine):
    """An image whose tag a test moves."""
    client = engine.client()

    def move(mark: str) -> str:
        client.import_image_from_data(
            busybox_image(),
            repository="axsched-test/moving",
            tag="1",
            changes=["ENV PATH=/usr/bin:/bin", f"ENV MARK={mark}"],
        )
        return client.inspect_image(MOVING)["Id"]

    made = [move("one")]
    yield lambda mark: made.append(move(mark)) or made[-1]
    for one in client.images(all=True):
        if one["Id"] in made:
            client.remove_image(one["Id"], force=True)


def run(bench, image: str = MOVING) -> tuple[str, str]:
    """What a container of this image printed, and the id that its trial's exit file names."""
    handle = bench.sh(f"echo $MARK; {WRITE}", image=image)
    status = bench.status(handle)
    assert status.state is JobState.SUCCEEDED, status
    told = json.loads((bench.folder(handle) / "exit.json").read_bytes())
    return bench.log(handle, "stdout").decode().strip(), told["image"]


def test_a_tag_that_moves_does_not_change_a_run_s_image(bench, engine, moving) -> None:
    first = engine.client().inspect_image(MOVING)["Id"]
    assert run(bench) == ("one", first)
    assert moving("two") != first
    assert run(bench) == ("one", first)


def test_a_resumed_run_uses_the_image_with_which_it_began(bench, engine, moving) -> None:
    first = engine.client().inspect_image(MOVING)["Id"]
    run(bench)
    bench.session.close(True)
    moving("two")
    bench.session.open(bench.context)
    assert run(bench) == ("one", first)
    record = json.loads((bench.run_dir / "docker-images.json").read_bytes())
    assert record[MOVING]["id"] == first
    assert record[MOVING]["platform"].startswith("linux/")


def test_an_image_that_was_removed_is_called_what_it_is(bench, engine, containers, moving) -> None:
    run(bench)
    client = engine.client()
    wait_until(lambda: containers(bench.run_id) == [])
    client.remove_image(MOVING, force=True)
    moving("two")  # another one of that name is no help
    status = bench.status(bench.sh(WRITE, image=MOVING))
    assert (status.state, status.cause) == (JobState.FAILED, Cause.CONFIGURATION)
    assert f"the image {MOVING} with which this run began (sha256:" in status.message
    assert run(bench, BUSYBOX)[0] == ""


def test_an_image_that_was_removed_is_pulled_again(bench, engine, containers) -> None:
    here = Registry(busybox_image())
    name = f"{here.host}/app:1"
    client = engine.client()
    try:
        before = run(bench, name)
        wait_until(lambda: containers(bench.run_id) == [])
        client.remove_image(name, force=True)
        assert run(bench, name) == before
    finally:
        here.close()
        for one in client.images(f"{here.host}/app"):
            client.remove_image(one["Id"], force=True)


@pytest.mark.parametrize("name", ["Upper/Case:1", "a b", "x:y:z", "../up"])
def test_a_name_that_no_image_has_is_refused_at_once(bench, name: str) -> None:
    objective = ContainerObjective(name, ("true",))
    (answer,) = bench.session.submit([bench.request({}, objective=objective)])
    assert f"{name!r} is no image's name" in answer.message
    assert not answer.transient


@pytest.mark.parametrize("command", ["/foreign", "/none"])
def test_the_platform_that_was_wanted_is_told(bench, engine, tmp_path, command: str) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xff\x00" + bytes(100))
    foreign.chmod(0o755)
    here = Registry(image({"/foreign": foreign}), architecture="riscv64")
    name = f"{here.host}/app:1"
    try:
        for init in (False, True):
            objective = ContainerObjective(name, (command,), {"init": init})
            status = bench.status(bench.start({}, objective=objective))
            assert status.state is JobState.FAILED
            assert "the image is for linux/riscv64, but the engine's machine is" in status.message
    finally:
        here.close()
        client = engine.client()
        for one in client.images(f"{here.host}/app"):
            client.remove_image(one["Id"], force=True)
