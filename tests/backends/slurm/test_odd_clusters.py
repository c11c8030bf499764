"""Clusters with settings that few have: no arrays, a short queue, names that the site changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from axsched_core import jobfolder
from axsched_core.jobs import Cause, JobState, ScriptObjective
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


def test_a_site_that_puts_a_prefix_before_the_jobs_names(
    make_cluster: Callable[..., SlurmCluster], open_bench: OpenBench
) -> None:
    cluster = make_cluster(JobSubmitPlugins="lua")
    (cluster.folder / "job_submit.lua").write_text(
        "function slurm_job_submit(job, parts, uid) job.name = 'site_' .. job.name; "
        "return slurm.SUCCESS end\n"
        "function slurm_job_modify(job, rec, parts, uid) return slurm.SUCCESS end\n"
        "return slurm.SUCCESS\n"
    )
    with cluster:
        bench = open_bench(patience=1.0)
        handles = bench.submit(*[bench.request({"do": "hang"}) for _ in range(2)])
        handles.append(bench.start({"do": "hang"}))
        bench.running(*handles)
        shown = cluster.run("squeue", "-hr", "-o", "%j").split()
        assert all(name.startswith("site_") for name in shown), shown
        bench.session.cancel(handles, "enough")
        assert {s.state for s in bench.wait(handles).values()} == {JobState.CANCELLED}


def clients(cluster: SlurmCluster, name: str) -> list[psutil.Process]:
    """The cluster's clients of this name that live now."""
    conf = str(cluster.conf)
    return [
        process
        for process in psutil.process_iter(["name"])
        if process.info["name"] == name and environment(process.pid).get("SLURM_CONF") == conf
    ]


SAVES = (
    "trap 'echo told >>told; sleep 3; echo 1 >\"$AXSCHED_RESULT_FILE\"; exit 0' {signal}; "
    "touch up; while :; do sleep 0.1; done"
)
TO_ALL = {"ProctrackType": "proctrack/linuxproc", "TaskPlugin": "task/none"}
"""Settings of a cluster that sends its signals to all processes of a job."""


@pytest.mark.parametrize(
    ("python", "settings"), [(None, {}), ("/no/such/python", {}), (None, TO_ALL)]
)
def test_signals_reach_the_objective_and_it_has_slurms_own_grace(
    python: str | None,
    settings: dict[str, str],
    make_cluster: Callable[..., SlurmCluster],
    open_bench: OpenBench,
) -> None:
    with make_cluster(KillWait=30, **settings) as cluster:
        bench = open_bench(python=python)
        handles = bench.submit(
            *[
                bench.request({}, objective=ScriptObjective(("/bin/sh", "-c", body)))
                for body in (SAVES.format(signal=name) for name in ("USR1", "TERM", "TERM"))
            ]
        )
        for handle in handles:
            wait_until((bench.folder(handle) / "up").exists, 60, "it runs")
        warned, stopped, limited = (handle.backend_id for handle in handles)
        # As --signal=B:... does, in its time: the batch script alone.
        cluster.run("scancel", "--batch", "--signal=USR1", warned)
        cluster.run("scancel", stopped)
        cluster.run("scontrol", "update", f"JobId={limited}", "EndTime=now+2")
        ended = bench.wait(handles)
        assert {status.state for status in ended.values()} == {JobState.SUCCEEDED}, ended
        for handle in handles:
            assert (bench.folder(handle) / "told").read_text() == "told\n"


def test_an_early_sigterm_that_the_batch_script_alone_is_sent(
    make_cluster: Callable[..., SlurmCluster], open_bench: OpenBench
) -> None:
    with make_cluster(**TO_ALL) as cluster:
        bench = open_bench(sbatch_options={"signal": "B:TERM@60"})
        objective = ScriptObjective(("/bin/sh", "-c", SAVES.format(signal="TERM")))
        (handle,) = bench.submit(bench.request({}, objective=objective))
        wait_until((bench.folder(handle) / "up").exists, 60, "it runs")
        cluster.run("scancel", "--batch", "--signal=TERM", handle.backend_id)
        assert bench.status(handle).state is JobState.SUCCEEDED


def test_preempted_it_has_the_grace_time(
    tmp_path_factory: pytest.TempPathFactory,
    use: Callable[[SlurmCluster], None],
    open_bench: OpenBench,
) -> None:
    need("Slurm", slurm.missing(accounting=False))
    partitions = [
        "PartitionName=low Nodes=ALL Default=YES State=UP PriorityTier=1 GraceTime=30",
        "PartitionName=high Nodes=ALL State=UP PriorityTier=9 PreemptMode=OFF",
    ]
    with SlurmCluster(
        tmp_path_factory.mktemp("grace"),
        accounting=False,
        nodes=1,
        settings={"PreemptType": "preempt/partition_prio", "PreemptMode": "CANCEL"},
        partitions=partitions,
    ) as cluster:
        use(cluster)
        bench = open_bench(partition="low", cpus_per_task=8)
        objective = ScriptObjective(("/bin/sh", "-c", SAVES.format(signal="TERM")))
        (handle,) = bench.submit(bench.request({}, objective=objective))
        wait_until((bench.folder(handle) / "up").exists, 60, "it runs")
        cluster.run("sbatch", "-p", "high", "-c", "8", "-o", "/dev/null", "--wrap", "true")
        assert bench.status(handle).state is JobState.SUCCEEDED
