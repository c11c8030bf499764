"""A real dask cluster on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import psutil
import pytest

from axsched_core import jobfolder
from axsched_core.errors import RunnerError
from axsched_core.jobs import JobState, ScriptObjective
from axsched_core.worker import axsched_worker as worker
from support.missing_backends import need
from support.waiting import wait_until

distributed = pytest.importorskip("distributed")
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, env={"ON_A_CLUSTER": "1"}
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_dask_cluster(session: Callable[..., Any], client: Any, tmp_path: Path) -> None:
    s = session(n_jobs=2, backend="dask")
    jobs = [s.submit(lambda p: p["x"] * 2, {"x": x}) for x in range(3)]
    # Equal in all but their folders: dask must not take them for one.
    count = ScriptObjective(("/bin/sh", "-c", f"echo >> {tmp_path}/count"))
    equal = [s.submit(count) for _ in range(3)]
    failing = s.submit(lambda _: 1 / 0)
    statuses = s.wait(*jobs, *equal, failing)
    assert [status.state for status in statuses[:-1]] == [JobState.SUCCEEDED] * 6
    assert statuses[-1].state is JobState.FAILED
    assert [s.result(job) for job in jobs] == [0, 2, 4]
    assert (tmp_path / "count").read_text() == "\n" * 3
    assert s.runner.axsched_capacity() == 2


def test_parallel_config_brings_its_cluster_and_n_jobs_1_uses_it(
    session: Callable[..., Any], client: Any, pipe: Callable[[str], Any]
) -> None:
    started, gate = pipe("started"), pipe("gate")
    command = f"echo > {started.path}; read l < {gate.path}"
    with joblib.parallel_config(backend="dask", n_jobs=1):
        s = session(n_jobs=None)
    jobs = [s.submit(ScriptObjective(("/bin/sh", "-c", command))) for _ in range(2)]
    started.read_lines(1)
    assert s.supervisor(jobs[0]).environ()["ON_A_CLUSTER"] == "1"
    assert s.status(jobs[1]).state is JobState.QUEUED
    s.cancel(jobs[0])
    assert s.wait(jobs[0])[0].state is JobState.CANCELLED
    started.read_lines(1)
    gate.let_go()
    assert s.wait(jobs[1])[0].state is JobState.SUCCEEDED


def test_after_close_nothing_starts_on_the_cluster(
    session: Callable[..., Any], client: Any, pipe: Callable[[str], Any]
) -> None:
    started, gate = pipe("started"), pipe("gate")
    command = f"echo > {started.path}; read l < {gate.path}"
    s = session(n_jobs=2, backend="dask")
    jobs = [s.submit(ScriptObjective(("/bin/sh", "-c", command))) for _ in range(3)]
    started.read_lines(2)
    s.close()
    gate.let_go(3)
    for job in jobs[:2]:
        assert s.ended(s.supervisor(job).pid)
    assert started.is_empty()
    assert not jobfolder.try_claim(s.folder(jobs[2]), "it can never run")
    s.open()
    assert [s.status(job).state for job in jobs[:2]] == [JobState.SUCCEEDED] * 2


def test_no_cluster_is_told_in_dask_s_words(session: Callable[..., Any]) -> None:
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.5s"}),
        pytest.raises(RunnerError, match="'dask' cannot be used"),
    ):
        session(n_jobs=2, backend="dask", backend_options={"scheduler_host": "tcp://127.0.0.1:1"})


# ---- machines that die ---------------------------------------------------------------------------


@pytest.fixture
def machines() -> Iterator[list[psutil.Process]]:
    """A cluster of three workers, each on what its jobs take for a machine of its own."""
    root = os.geteuid() == 0 and shutil.which("unshare")
    need("Host names of their own", [], "" if root else "unshare --uts needs root")
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        started = []
        for number in range(3):
            options = "--nthreads 1 --no-nanny --no-dashboard"
            run = f"exec {sys.executable} -m distributed.cli.dask_worker {options}"
            words = f"hostname machine-{number} && {run} {cluster.scheduler_address}"
            started.append(subprocess.Popen(["unshare", "--uts", "sh", "-c", words]))
        with distributed.Client(cluster) as client:
            client.wait_for_workers(3, timeout=60)
            yield [psutil.Process(one.pid) for one in started]
        for one in started:
            one.kill()
            one.wait()


def test_a_job_on_a_machine_that_dies_is_lost_and_no_other_is(
    session: Callable[..., Any],
    machines: list[psutil.Process],
    pipe: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("axsched_joblib.runner.SILENCE", 15.0)  # more than a beat
    started, gate = pipe("started"), pipe("gate")
    command = f"echo > {started.path}; read l < {gate.path}"
    s = session(n_jobs=3, backend="dask")
    jobs = [s.submit(ScriptObjective(("/bin/sh", "-c", command))) for _ in range(2)]
    started.read_lines(2)
    pid_file = s.folder(jobs[0]) / jobfolder.PID
    assert [worker.owner_is_alive(str(s.folder(job))) for job in jobs] == [None, None]
    supervisor, host = s.supervisor(jobs[0]), json.loads(pid_file.read_bytes())["host"]
    machine = machines[int(host.removeprefix("machine-"))]
    for process in [*supervisor.children(recursive=True), supervisor, machine]:
        process.kill()
    wait_until(lambda: s.status(jobs[0]).state is JobState.LOST, 60)
    assert s.status(jobs[1]).state is JobState.RUNNING
    assert started.is_empty()  # dask has moved it to another worker, which did not run it
    gate.let_go()
    assert s.wait(jobs[1])[0].state is JobState.SUCCEEDED
