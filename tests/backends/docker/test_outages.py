"""Outages, lost answers, dead drivers: no job changes state, none runs twice, none is forgotten."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from axsched_core import jobfolder
from axsched_core.errors import BackendUnavailable
from axsched_core.jobs import Cause, JobHandle, JobState, NotSubmitted
from axsched_core.testing.bench import through_json
from support.container_images import BUSYBOX, busybox_image
from support.docker_engine import DockerEngine
from support.docker_fixtures import second_runner
from support.engine_proxy import EngineProxy
from support.waiting import wait_until

WRITE = "echo '{\"loss\": 1}' > $AXSCHED_RESULT_FILE"


def next_wake(bench, seconds: float = 60.0) -> str:
    try:
        return bench.woken.get(timeout=seconds)
    except queue.Empty:
        pytest.fail("nobody was woken")


# ---- outages ---------------------------------------------------------------------------------


def test_an_end_during_an_outage_is_told_without_a_poll(bench, engine: DockerEngine) -> None:
    handle = bench.sh(f"while ! [ -e /tmp/go ]; do sleep 0.1; done; sleep 2; {WRITE}")
    bench.running(handle)
    client = engine.client()
    client.exec_start(client.exec_create(handle.backend_id, "touch /tmp/go"))
    while not bench.woken.empty():
        bench.woken.get()
    engine.kill()
    time.sleep(2.5)  # the container ends, and nobody is there to say so
    engine.start()
    assert next_wake(bench) == handle.key
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert bench.metrics(handle) == {"loss": (1.0, None)}


def test_what_was_submitted_in_an_outage_starts_after_it(bench, engine: DockerEngine) -> None:
    before = bench.sh("sleep 600")
    bench.running(before)
    engine.kill()
    try:
        during = bench.sh(WRITE)
        with pytest.raises(BackendUnavailable, match="does not answer"):
            bench.session.poll([before, during])
        cancelled = bench.sh(WRITE)
        bench.session.cancel([before, cancelled], "enough")
    finally:
        engine.start()
    statuses = bench.wait([before, during, cancelled])
    assert [statuses[one.key].state for one in (before, during, cancelled)] == [
        JobState.CANCELLED,
        JobState.SUCCEEDED,
        JobState.CANCELLED,
    ]


def test_an_engine_that_hangs_is_an_outage(bench, engine: DockerEngine, monkeypatch) -> None:
    monkeypatch.setattr("axsched_docker.engine.LOOK_TIMEOUT", 0.5)
    handle = bench.sh("sleep 600")
    bench.running(handle)
    with engine.frozen():
        other = bench.sh(WRITE)
        with pytest.raises(BackendUnavailable, match="timed out"):
            bench.session.poll([handle, other])
    assert bench.status(other).state is JobState.SUCCEEDED
    assert bench.session.poll([handle])[handle.key].state is JobState.RUNNING


@pytest.fixture
def mortal_engine(tmp_path: Path) -> Iterator[DockerEngine]:
    """An engine whose containers die with it, as Docker's do by default."""
    with DockerEngine(Path("/tmp", f"axsched-docker-{os.getpid()}", "mortal")) as made:
        made.load(BUSYBOX, busybox_image())
        yield made


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_who_dies_with_the_engine_is_tried_again(
    make_bench, mortal_engine: DockerEngine, end: str
) -> None:
    bench = make_bench(host=mortal_engine.url)
    handle = bench.sh("sleep 600")
    failed = bench.sh("exit 3")
    bench.running(handle)
    assert bench.status(failed).cause is Cause.EXIT_CODE
    getattr(mortal_engine, end)()
    mortal_engine.start()
    status = bench.status(handle)
    assert (status.state, status.cause) == (JobState.FAILED, Cause.NODE_FAIL)
    assert "engine went down" in status.message


def test_an_engine_that_is_down_refuses_to_open(make_bench, tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match=f"unix://{tmp_path}/none.sock does not answer"):
        make_bench(host=f"unix://{tmp_path}/none.sock")


# ---- lost answers, silent lines --------------------------------------------------------------


@pytest.mark.parametrize("call", ["/containers/create", "/archive", "/start"])
def test_a_lost_answer_makes_no_second_container(
    make_bench, proxy: EngineProxy, engine: DockerEngine, tmp_path: Path, call: str
) -> None:
    bench = make_bench(host=proxy.url, volumes=[f"{tmp_path}:/marks"])
    proxy.lose_answer_to = call
    since = int(time.time()) - 1
    handle = bench.sh(f"echo ran >> /marks/mark; {WRITE}")
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert proxy.lose_answer_to == "", "no answer was lost"
    assert (tmp_path / "mark").read_text() == "ran\n"
    made = engine.client().events(
        since=since,
        until=int(time.time()) + 1,
        decode=True,
        filters={"event": "create", "container": handle.backend_id},
    )
    assert len(list(made)) == 1


@pytest.mark.parametrize("call", ["GET /v1.41/containers/", "DELETE"])
def test_a_line_that_is_cut_while_files_are_fetched(make_bench, proxy, containers, call) -> None:
    bench = make_bench(host=proxy.url)
    handle = bench.sh(f"sleep 1; {WRITE}")
    bench.running(handle)
    proxy.lose_answer_to = "/archive" if call.startswith("GET") else call
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert bench.metrics(handle) == {"loss": (1.0, None)}
    wait_until(lambda: bench.session.poll([bench.sh(WRITE)]) and not proxy.lose_answer_to)
    bench.close()
    assert handle.backend_id not in containers(bench.run_id)


def test_a_stream_that_has_died_silently_is_opened_anew(
    make_bench, proxy: EngineProxy, monkeypatch
) -> None:
    monkeypatch.setattr("axsched_docker.containers.STREAM_LAG", 0.2)
    proxy.deaf_to = "/events"
    bench = make_bench(host=proxy.url)
    handle = bench.sh(WRITE)
    bench.status(handle)  # found by a poll
    wait_until(lambda: proxy.count("/events") >= 2)
    proxy.deaf_to = ""
    first = proxy.count("/events")
    bench.status(bench.sh(WRITE))
    wait_until(lambda: proxy.count("/events") > first)  # the second was deaf too
    while not bench.woken.empty():
        bench.woken.get()
    handle = bench.sh(f"sleep 1; {WRITE}")
    assert next_wake(bench) == handle.key


def test_the_stream_tells_of_ends_and_nobody_polls(make_bench, proxy: EngineProxy) -> None:
    bench = make_bench(host=proxy.url, max_containers=4)
    handles = [bench.sh(WRITE) for _ in range(8)]
    assert {next_wake(bench) for _ in handles} == {handle.key for handle in handles}
    assert proxy.count("/containers/json") == 0
    statuses = bench.session.poll(handles)
    assert {status.state for status in statuses.values()} == {JobState.SUCCEEDED}
    assert proxy.count("/containers/json") == 0  # all is in their folders


# ---- other drivers ---------------------------------------------------------------------------

DRIVER = """
import sys, time
from pathlib import Path
from axsched_core.testing import RandomSearch
from axsched_core import AxScheduler

options = {"host": sys.argv[2], "max_containers": 3}
config = {"job_output_dir": sys.argv[1], "progress": False, "monitoring_interval": 0.2}
scheduler = AxScheduler(RandomSearch({"x": (0.0, 1.0)}, seed=1), "docker", config, options)
scheduler.set_container_objective(
    "axsched-test/busybox:1",
    ["sh", "-c", "while ! [ -e /gate/open ]; do sleep 0.1; done; " + sys.argv[3]],
    {"volumes": [sys.argv[4] + ":/gate"]},
)
print(scheduler.run_optimization(max_trials=5))
"""


RESUME = """
import sys
from axsched_core.testing import RandomSearch
from axsched_core import AxScheduler

optimizer = RandomSearch({"x": (0.0, 1.0)})
with AxScheduler.resume(sys.argv[1], optimizer=optimizer) as scheduler:
    print(scheduler.finish())
"""


@pytest.fixture
def killed_run(engine: DockerEngine, tmp_path: Path) -> tuple[Path, Path]:
    """The run directory of a driver that was killed with three containers, and their gate."""
    gate = tmp_path / "gate"
    gate.mkdir()
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "out"), engine.url, WRITE, str(gate)]
    client = engine.client()
    with subprocess.Popen(command) as driver:

        def runs() -> bool:
            assert driver.poll() is None, "the driver has ended"
            running = client.containers(filters={"label": "axsched.run"})
            return sum(str(tmp_path) in one["Labels"]["axsched.folder"] for one in running) == 3

        wait_until(runs)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    (run_dir,) = (tmp_path / "out").iterdir()
    return run_dir, gate


def test_a_new_driver_goes_on_with_the_containers_of_a_killed_one(
    killed_run, engine: DockerEngine, containers
) -> None:
    run_dir, gate = killed_run
    run_id = run_dir.name.rpartition("-")[2]
    before = set(containers(run_id))
    (gate / "open").touch()
    client = engine.client()
    for name in before:  # they end while no driver lives
        client.wait(name)
    subprocess.run([sys.executable, "-c", RESUME, str(run_dir)], check=True, timeout=120)
    folders = sorted((run_dir / "jobs").iterdir())
    assert [folder.name for folder in folders] == [f"{index:05d}-1" for index in range(5)]
    assert all(json.loads((f / "result.json").read_text()) == {"loss": 1} for f in folders)
    assert containers(run_id) == []


def test_axsched_clean_removes_what_a_killed_driver_has_left(killed_run, containers) -> None:
    run_dir, gate = killed_run
    run_id = run_dir.name.rpartition("-")[2]
    clean = [sys.executable, "-m", "axsched_core.cli.main", "clean", str(run_dir)]
    asked = subprocess.run(clean, input="n\n", capture_output=True, text=True, check=False)
    assert asked.returncode == 1
    for name in containers(run_id):
        assert f"container {name}: running" in asked.stdout
    assert len(containers(run_id)) == 3
    done = subprocess.run([*clean, "--yes"], capture_output=True, text=True, check=True)
    assert done.stdout.count("removed") == 3
    assert containers(run_id) == []
    again = subprocess.run([*clean, "--yes"], capture_output=True, text=True, check=True)
    assert "nothing" in again.stdout
    (gate / "open").touch()
    subprocess.run([sys.executable, "-c", RESUME, str(run_dir)], check=True, timeout=120)


def test_a_container_that_was_made_but_never_started(bench, engine, containers) -> None:
    """Its driver has died between the two calls."""
    request = bench.request({"do": "succeed"})
    (handle,) = bench.submit(request)
    bench.status(handle)
    bench.close()
    # The same state as a dead driver's: made, claimed, and not started.
    for name in (jobfolder.EXIT, jobfolder.RESULT):
        (request.folder / name).unlink()
    labels = {"axsched.run": bench.run_id, "axsched.key": request.key}
    body = {"Image": BUSYBOX, "Cmd": ["true"], "Labels": labels}
    engine.client().create_container_from_config(body, handle.backend_id)
    other = second_runner(bench, engine)
    try:
        assert isinstance(other.axsched_reattach([request])[request.key], JobHandle)
        status = other.axsched_poll([through_json(handle)])[handle.key]
        assert status.state is JobState.LOST
        assert jobfolder.never_ran(request.folder)
        wait_until(lambda: containers(bench.run_id) == [])
    finally:
        other.axsched_close(wait=True)


def test_a_job_that_waited_when_its_driver_died_was_never_submitted(make_bench, engine) -> None:
    bench = make_bench(max_containers=1)
    running, waiting = bench.request({"do": "hang"}), bench.request({"do": "hang"})
    handles = bench.submit(running, waiting)
    bench.running(handles[0])
    other = second_runner(bench, engine)
    try:
        found = other.axsched_reattach([running, waiting])
        assert found[running.key] == handles[0]
        assert found[waiting.key] == NotSubmitted()
        status = other.axsched_poll(handles)[waiting.key]
        assert status.state is JobState.LOST
        assert jobfolder.never_ran(waiting.folder)
    finally:
        other.axsched_close(wait=True)
    # Its claim is taken: the first driver, should it wake up, cannot start it any more.
    bench.session.cancel(handles[:1], "make room")
    assert bench.status(handles[1]).state is JobState.CANCELLED
