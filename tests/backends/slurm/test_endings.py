"""How jobs end on a real cluster: each of Slurm's words becomes the right state and cause."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from axsched_core import jobfolder
from axsched_core.jobs import Cause, JobHandle, JobState, JobStatus, ScriptObjective
from axsched_core.testing.bench import Bench
from support import slurm_cluster as slurm
from support.missing_backends import need
from support.slurm_cluster import SlurmCluster
from support.slurm_commands import start_again
from support.waiting import wait_until

HANG = {"do": "hang"}
OpenBench = Callable[..., Bench]


def shell(bench: Bench, script: str) -> JobHandle:
    """Submit a script of the shell's; return its handle."""
    (handle,) = bench.submit(
        bench.request({}, objective=ScriptObjective(("/bin/sh", "-c", script)))
    )
    return handle


def wait_for_state(cluster: SlurmCluster, handle: JobHandle, state: str) -> None:
    def there() -> bool:
        shown = cluster.run("squeue", "-h", "-r", "-t", "all", "-o", "%i %T")
        return f"{handle.backend_id} {state}" in shown.splitlines()

    wait_until(there, 60, f"{handle.backend_id} is {state}")


def test_cancelled_by_somebody_else(either: SlurmCluster, open_bench: OpenBench) -> None:
    bench = open_bench()
    handle = bench.start(HANG)
    bench.running(handle)
    either.run("scancel", handle.backend_id)
    status = bench.status(handle)
    assert (status.state, status.backend_state) == (JobState.CANCELLED, "CANCELLED")


def test_slurms_time_limit(either: SlurmCluster, open_bench: OpenBench) -> None:
    bench = open_bench(time_limit="0:05:00")
    handle = bench.start(HANG)
    bench.running(handle)
    either.run("scontrol", "update", f"JobId={handle.backend_id}", "EndTime=now+2")
    status = bench.status(handle)
    assert (status.state, status.cause) == (JobState.FAILED, Cause.TIME_LIMIT)
    assert "TIMEOUT" in status.message
    # The worker was told to stop, and has left it to Slurm to say why.
    assert jobfolder.read_exit(bench.folder(handle)) is None


def test_out_of_memory(either: SlurmCluster, open_bench: OpenBench) -> None:
    bench = open_bench(memory="60M")
    handle = shell(bench, "x=$(head -c 300000000 /dev/zero | tr '\\0' x); echo ${#x}")
    status = bench.status(handle)
    assert status.state is JobState.FAILED
    if either.cgroups:
        assert status.cause is Cause.OUT_OF_MEMORY, status
    else:
        assert (status.cause, status.signal) == (Cause.SIGNAL, 9), status
        assert "memory" in status.message


def test_the_whole_job_is_killed(either: SlurmCluster, open_bench: OpenBench) -> None:
    # SIGKILL to everything, as Slurm's own memory watch sends it: nobody writes an exit.json.
    bench = open_bench()
    handle = bench.start(HANG)
    bench.running(handle)
    folder = bench.folder(handle)
    wait_until((folder / jobfolder.PID).exists, 60, "its supervisor has said who it is")
    os.kill(jobfolder.read_json(folder, jobfolder.PID)["pid"], signal.SIGKILL)
    status = bench.status(handle)
    assert (status.state, status.cause, status.signal) == (JobState.FAILED, Cause.SIGNAL, 9)
    assert "Slurm: FAILED" in status.message


def test_a_node_that_dies(either: SlurmCluster, open_bench: OpenBench) -> None:
    bench = open_bench(sbatch_options={"no-requeue": True, "nodelist": "n2"})
    handle = bench.start(HANG)
    bench.running(handle)
    either.kill_node("n2")
    either.run("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
    status = bench.status(handle)
    assert (status.state, status.cause) == (JobState.FAILED, Cause.NODE_FAIL)
    assert "NODE_FAIL" in status.message


def test_a_node_that_dies_and_a_job_that_slurm_starts_again(
    either: SlurmCluster, open_bench: OpenBench, tmp_path: Path
) -> None:
    bench = open_bench(sbatch_options={"requeue": True})
    script = (
        f'echo $SLURM_RESTART_COUNT; echo ran >>{tmp_path}/log; [ "$SLURM_RESTART_COUNT" = 1 ] && '
        'echo \'{"loss": 2}\' >"$AXSCHED_RESULT_FILE" && exit; exec sleep 1000'
    )
    handle = shell(bench, script)
    bench.running(handle)
    folder = bench.folder(handle)
    wait_until(lambda: (tmp_path / "log").exists(), 60, "the script runs")
    node = bench.session.poll([handle])[handle.key].host
    if node not in either.nodes:
        node = either.run("squeue", "-h", "-j", handle.backend_id, "-o", "%N").strip()
    either.kill_node(node)
    either.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    again = bench.wait([handle], lambda status: status.state is JobState.QUEUED)[handle.key]
    assert "put back into the queue by Slurm (1)" in again.message
    start_again(either, handle)
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert bench.metrics(handle) == {"loss": (2.0, None)}
    assert (tmp_path / "log").read_text() == "ran\nran\n"
    # The claim carries Slurm's count, and what the first start left is set aside.
    assert jobfolder.read_json(folder, "claim.1")["restart"] == 1
    assert (folder / "stdout.log.0").read_text() == "\n"
    assert (folder / "stdout.log").read_text() == "1\n"


def test_requeued_by_hand_it_is_the_same_job(either: SlurmCluster, open_bench: OpenBench) -> None:
    bench = open_bench()
    handle = shell(bench, '[ -n "$SLURM_RESTART_COUNT" ] || exec sleep 1000')
    bench.running(handle)
    either.run("scontrol", "requeue", handle.backend_id)
    bench.wait([handle], lambda status: status.state is JobState.QUEUED)
    start_again(either, handle)
    assert bench.status(handle).state is JobState.SUCCEEDED


def test_a_job_that_has_ended_does_not_run_again(
    either: SlurmCluster, open_bench: OpenBench, tmp_path: Path
) -> None:
    bench = open_bench()
    handle = shell(bench, f"echo ran >>{tmp_path}/log; exec sleep 1000")
    bench.running(handle)
    wait_until(lambda: (tmp_path / "log").exists(), 60, "it runs")
    # As if its node had died just after the job's end.
    (bench.folder(handle) / jobfolder.EXIT).write_text('{"exit_code": 0, "cause": null}')
    assert bench.status(handle).state is JobState.SUCCEEDED
    either.run("scontrol", "requeue", handle.backend_id)
    wait_for_state(either, handle, "PENDING")
    start_again(either, handle)
    wait_for_state(either, handle, "COMPLETED")
    assert (tmp_path / "log").read_text() == "ran\n"
    assert jobfolder.read_exit(bench.folder(handle)).state is JobState.SUCCEEDED


def test_a_dependency_that_is_never_satisfied(either: SlurmCluster, open_bench: OpenBench) -> None:
    fails = either.run("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "exit 1").strip()
    bench = open_bench(sbatch_options={"dependency": f"afterok:{fails}"})
    handle = bench.start({"do": "succeed"})
    status = bench.status(handle)
    assert (status.state, status.cause) == (JobState.FAILED, Cause.SUBMIT_REFUSED)
    assert "DependencyNeverSatisfied" in status.message
    wait_for_state(either, handle, "CANCELLED")  # it does not stay in the queue for ever


def test_a_held_job_waits_until_it_is_released(either: SlurmCluster, open_bench: OpenBench) -> None:
    bench = open_bench(sbatch_options={"hold": True})
    handle = bench.start({"do": "succeed"})

    def told(status: JobStatus) -> bool:
        return "scontrol release" in status.remedy

    assert bench.wait([handle], told)[handle.key].state is JobState.QUEUED
    either.run("scontrol", "release", handle.backend_id)
    assert bench.status(handle).state is JobState.SUCCEEDED


def test_slurmd_alone_dies_and_the_job_goes_on(either: SlurmCluster, open_bench: OpenBench) -> None:
    bench = open_bench(sbatch_options={"nodelist": "n3"})
    handle = shell(bench, "until [ -e go ]; do sleep 0.1; done; echo 1 >$AXSCHED_RESULT_FILE")
    bench.running(handle)
    either.kill("n3")
    for _ in range(3):
        assert bench.session.poll([handle])[handle.key].state is JobState.RUNNING
    (bench.folder(handle) / "go").touch()
    assert bench.status(handle).state is JobState.SUCCEEDED


@pytest.fixture
def preempting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A cluster whose jobs in ``low`` give way to those in ``high``, by being put back or not."""
    need("Slurm", slurm.missing(accounting=False))
    settings = {"PreemptType": "preempt/partition_prio", "PreemptMode": "REQUEUE"}
    partitions = [
        "PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1",
        "PartitionName=kill Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL",
        "PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF",
    ]
    with SlurmCluster(
        tmp_path_factory.mktemp("preempting"),
        accounting=False,
        nodes=1,
        settings=settings,
        partitions=partitions,
    ) as cluster:
        yield cluster


@pytest.mark.parametrize("partition", ["low", "kill"])
def test_preempted(
    partition: str,
    preempting: SlurmCluster,
    use: Callable[[SlurmCluster], None],
    open_bench: OpenBench,
) -> None:
    use(preempting)
    bench = open_bench(partition=partition, cpus_per_task=8)
    handle = shell(bench, '[ -n "$SLURM_RESTART_COUNT" ] || exec sleep 1000')
    bench.running(handle)
    wait_until(lambda: (bench.folder(handle) / "pid.json").exists(), 60, "it runs")
    urgent = preempting.run(
        *("sbatch", "--parsable", "-p", "high", "-c", "8", "-o", "/dev/null", "--wrap", "true")
    ).strip()
    if partition == "kill":
        status = bench.status(handle)
        assert (status.state, status.cause) == (JobState.FAILED, Cause.PREEMPTED), status
        return
    again = bench.wait([handle], lambda status: status.state is not JobState.RUNNING)[handle.key]
    assert again.state is JobState.QUEUED, again
    wait_until(
        lambda: f"{urgent} COMPLETED" in preempting.run("squeue", "-ht", "all", "-o", "%i %T"),
        60,
        "the urgent job is done",
    )
    start_again(preempting, handle)
    assert bench.status(handle).state is JobState.SUCCEEDED
