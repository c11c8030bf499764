"""A real dask cluster on this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import pytest

from axsched_core import jobfolder
from axsched_core.errors import RunnerError
from axsched_core.jobs import JobState, ScriptObjective

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
