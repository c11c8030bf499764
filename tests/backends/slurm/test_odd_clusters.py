"""Clusters with settings that few have: no arrays, a short queue, names that the site changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from axsched_core import jobfolder
from axsched_core.jobs import Cause, JobState
from axsched_core.testing.bench import Bench
from support import slurm_cluster as slurm
from support.daemons import environment
from support.missing_backends import need
from support.slurm_cluster import SlurmCluster
from support.waiting import wait_until

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


def test_what_slurm_stops_and_forgets_between_two_looks(
    make_cluster: Callable[..., SlurmCluster], open_bench: OpenBench
) -> None:
    with make_cluster(MinJobAge=2) as cluster:
        bench = open_bench(time_limit="0:05:00")
        handles = bench.submit(*[bench.request({"do": "hang"}) for _ in range(2)])
        bench.running(*handles)
        late, cancelled = handles
        for handle in handles:
            wait_until((bench.folder(handle) / jobfolder.PID).exists, 60, "its worker runs")
        cluster.run("scontrol", "update", f"JobId={late.backend_id}", "EndTime=now+5")
        # A last look sees until when it may run.
        due = bench.session._runner._watch._due
        before = due[late.key]
        bench.wait([late], lambda status: due[late.key] < before)
        cluster.run("scancel", cancelled.backend_id)

        def forgotten() -> bool:
            return not cluster.run("squeue", "-hrt", "all")

        wait_until(forgotten, 150, "Slurm has forgotten both")
        assert bench.status(late).cause is Cause.TIME_LIMIT
        assert bench.status(cancelled).state is JobState.CANCELLED


def clients(cluster: SlurmCluster, name: str) -> list[psutil.Process]:
    """The cluster's clients of this name that live now."""
    conf = str(cluster.conf)
    return [
        process
        for process in psutil.process_iter(["name"])
        if process.info["name"] == name and environment(process.pid).get("SLURM_CONF") == conf
    ]
