"""Containers that somebody else starts again: an objective runs once for each attempt."""

from __future__ import annotations

from pathlib import Path

import pytest

from axsched_core.jobs import Cause, JobState, ScriptObjective
from support.docker_fixtures import second_runner
from support.waiting import wait_until

WRITE = "echo '{\"loss\": 1}' > $AXSCHED_RESULT_FILE"
MARKED = f"echo begun >> /marks/m; {WRITE}; while ! [ -e /marks/go ]; do sleep 0.1; done; echo x"


@pytest.fixture
def marked(make_bench, tmp_path: Path):
    return make_bench(volumes=[f"{tmp_path}:/marks"])


def begun(tmp_path: Path) -> int:
    return (tmp_path / "m").read_text().count("begun") if (tmp_path / "m").exists() else 0


@pytest.mark.parametrize("grace", [0, 1])
def test_a_container_that_is_restarted_does_not_count(marked, engine, tmp_path, grace) -> None:
    handle = marked.sh(MARKED)
    marked.running(handle)
    wait_until(lambda: begun(tmp_path) == 1)
    engine.client().restart(handle.backend_id, timeout=grace)
    status = marked.status(handle)  # it has left a result, and nobody lets it end
    assert (status.state, status.cause) == (JobState.FAILED, Cause.NODE_FAIL)
    assert "started its container again" in status.message


@pytest.mark.parametrize("grace", [0, 2])
def test_a_worker_that_is_restarted_does_not_run_its_job_again(
    marked, engine, tmp_path, grace
) -> None:
    words = "echo begun >> /marks/m; sleep 600"
    handle = marked.start({}, objective=ScriptObjective(("/bin/sh", "-c", words)))
    wait_until(lambda: begun(tmp_path) == 1)
    engine.client().restart(handle.backend_id, timeout=grace)
    status = marked.status(handle)
    assert (status.state, status.cause) == (JobState.FAILED, Cause.NODE_FAIL)
    assert begun(tmp_path) == 1


def policy(engine, name: str) -> str:
    return engine.client().inspect_container(name)["HostConfig"]["RestartPolicy"]["Name"]


def test_a_restart_policy_is_taken_away(marked, engine, tmp_path, caplog) -> None:
    handle = marked.sh(MARKED)
    wait_until(lambda: begun(tmp_path) == 1)
    engine.client().update_container(handle.backend_id, restart_policy={"Name": "always"})
    wait_until(lambda: policy(engine, handle.backend_id) == "no")
    (tmp_path / "go").touch()
    assert marked.status(handle).state is JobState.SUCCEEDED
    assert begun(tmp_path) == 1
    assert "restart policy 'always'" in caplog.text


def test_a_restart_policy_that_nobody_has_heard_of(marked, engine, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("axsched_docker.containers.Containers._take_over", lambda *_: None)
    handle = marked.sh(MARKED)
    wait_until(lambda: begun(tmp_path) == 1)
    engine.client().update_container(handle.backend_id, restart_policy={"Name": "always"})
    (tmp_path / "go").touch()
    status = marked.status(handle)
    if begun(tmp_path) == 1:  # it was kept from starting again
        assert status.state is JobState.SUCCEEDED
    else:
        assert begun(tmp_path) == 2
        assert status.cause is Cause.NODE_FAIL


def test_a_policy_that_came_while_there_was_no_driver(marked, engine, tmp_path) -> None:
    handle = marked.sh(MARKED)
    wait_until(lambda: begun(tmp_path) == 1)
    marked._closed = True
    marked.session.close(wait=False)
    engine.client().update_container(handle.backend_id, restart_policy={"Name": "always"})
    other = second_runner(marked, engine)
    try:
        assert other.axsched_poll([handle])[handle.key].state is JobState.RUNNING
        wait_until(lambda: policy(engine, handle.backend_id) == "no")
        (tmp_path / "go").touch()
        wait_until(lambda: other.axsched_poll([handle])[handle.key].state is JobState.SUCCEEDED)
        assert begun(tmp_path) == 1
    finally:
        other.axsched_close(wait=True)
