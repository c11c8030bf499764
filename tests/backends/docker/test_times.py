"""When containers begin and end, where, and how long they may run."""

from __future__ import annotations

import json

import pytest

from axsched_core.jobs import Cause, ContainerObjective, JobState
from support.container_images import BUSYBOX
from support.docker_fixtures import second_runner
from support.waiting import wait_until

WRITE = "echo '{\"loss\": 1}' > $AXSCHED_RESULT_FILE"


def limited(bench, seconds: float, words: str = "sleep 600"):
    objective = ContainerObjective(BUSYBOX, ("sh", "-c", words))
    return bench.start({}, objective=objective, time_limit=seconds)


def test_where_and_when_a_container_ran(bench, engine) -> None:
    handle = bench.sh(WRITE)
    status = bench.status(handle)
    assert status.started_at <= status.ended_at
    assert status.host == engine.client().info()["Name"] != ""
    running = bench.sh("sleep 600")
    bench.running(running)
    assert bench.session.poll([running])[running.key].host == status.host


def test_a_limit_is_kept_to_the_second(bench) -> None:
    handle = limited(bench, 2.0)
    status = bench.status(handle)
    assert (status.state, status.cause) == (JobState.FAILED, Cause.TIME_LIMIT)
    assert "its limit of 2 s" in status.message
    assert 1.9 < status.ended_at - status.started_at < 5.0  # on a busy machine
    in_time = limited(bench, 60.0, WRITE)
    assert bench.status(in_time).state is JobState.SUCCEEDED


@pytest.mark.parametrize("enough", [True, False])
def test_the_time_that_a_container_was_paused_is_not_its_own(bench, engine, enough: bool) -> None:
    gate = "while ! [ -e /tmp/go ]; do sleep 0.1; done"
    handle = limited(bench, 3.0, f"{gate if enough else 'sleep 600'}; {WRITE}")
    bench.running(handle)
    client = engine.client()
    client.pause(handle.backend_id)
    polled = lambda: bench.session.poll([handle])[handle.key]  # noqa: E731
    wait_until(lambda: polled().backend_state == "paused")
    assert (polled().suspended, polled().message) == (True, "paused")
    began = client.inspect_container(handle.backend_id)["State"]["StartedAt"]
    assert began
    with pytest.raises(TimeoutError):  # it stays, over its limit by the clock on the wall
        wait_until(lambda: polled().state.ended, 4.0)
    client.unpause(handle.backend_id)
    if enough:
        client.exec_start(client.exec_create(handle.backend_id, "touch /tmp/go"))
        assert bench.status(handle).state is JobState.SUCCEEDED
    else:
        assert bench.status(handle).cause is Cause.TIME_LIMIT
    told = json.loads((bench.folder(handle) / "exit.json").read_bytes())
    assert 3.5 < told["paused"] < 30


def test_a_new_driver_keeps_the_limit(bench, engine) -> None:
    handle = limited(bench, 4.0)
    bench.running(handle)
    bench._closed = True
    bench.session.close(wait=False)
    other = second_runner(bench, engine)
    try:
        other.axsched_poll([handle])
        wait_until(lambda: other.axsched_poll([handle])[handle.key].state.ended)
        status = other.axsched_poll([handle])[handle.key]
        assert status.cause is Cause.TIME_LIMIT
        assert status.ended_at - status.started_at >= 3.9
    finally:
        other.axsched_close(wait=True)
