"""Clusters with settings that few have: no arrays, a short queue, names that the site changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from axsched_core.jobs import JobState
from axsched_core.testing.bench import Bench
from support import slurm_cluster as slurm
from support.daemons import environment
from support.missing_backends import need
from support.slurm_cluster import SlurmCluster

OpenBench = Callable[..., Bench]
SUCCEED = {"do": "succeed"}


@pytest.fixture
def make_cluster(
    tmp_path_factory: pytest.TempPathFactory, use: Callable[[SlurmCluster], None]
) -> Callable[..., SlurmCluster]:
    """Makes a small cluster without accounting and puts it in use; the test enters it."""

    def make(**given: object) -> SlurmCluster:
        need("Slurm", slurm.missing(accounting=False))
        folder: Path = tmp_path_factory.mktemp("odd")
        made = SlurmCluster(folder, accounting=False, nodes=1, settings=given)
        use(made)
        return made

    return make


@pytest.mark.parametrize("size", [0, 1])
def test_a_cluster_without_arrays(
    size: int, make_cluster: Callable[..., SlurmCluster], open_bench: OpenBench
) -> None:
    with make_cluster(MaxArraySize=size):
        bench = open_bench()
        handles = bench.submit(*[bench.request(SUCCEED) for _ in range(3)])
        assert {s.state for s in bench.wait(handles).values()} == {JobState.SUCCEEDED}


def test_a_queue_that_is_shorter_than_the_batch(
    make_cluster: Callable[..., SlurmCluster], open_bench: OpenBench
) -> None:
    # sbatch itself would sleep and try again for two minutes.
    with make_cluster(MaxJobCount=5) as cluster:
        bench = open_bench(command_timeout=60.0)
        began = time.monotonic()
        handles = bench.submit(*[bench.request(SUCCEED) for _ in range(12)])
        statuses = bench.session.poll(handles)
        assert time.monotonic() - began < 30
        assert not clients(cluster, "sbatch"), "none goes on by itself"
        waiting = [statuses[handle.key] for handle in handles[-7:]]
        assert {status.state for status in waiting} == {JobState.QUEUED}
        assert "temporarily unable to accept job" in waiting[0].message
        shown = cluster.run("squeue", "-hrt", "all", "-o", "%j").splitlines()
        assert len([name for name in shown if name.startswith(bench.run_id)]) >= 4
        assert bench.session.capacity() == 0
        ended = bench.wait(handles[:4])
        assert {status.state for status in ended.values()} == {JobState.SUCCEEDED}


def clients(cluster: SlurmCluster, name: str) -> list[psutil.Process]:
    """The cluster's clients of this name that live now."""
    conf = str(cluster.conf)
    return [
        process
        for process in psutil.process_iter(["name"])
        if process.info["name"] == name and environment(process.pid).get("SLURM_CONF") == conf
    ]
