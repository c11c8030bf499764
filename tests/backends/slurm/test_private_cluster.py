"""The cluster of the tests is one: it runs jobs, and its parts can be killed and come back."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support import environment, missing_backends
from support import slurm_cluster as slurm
from support.daemons import marked, sweep
from support.slurm_cluster import SlurmCluster
from support.slurm_config import remove_cgroups
from support.waiting import wait_until


@pytest.fixture(params=["slurm_cluster", "slurm_cluster_plain"])
def cluster(request: pytest.FixtureRequest) -> SlurmCluster:
    return request.getfixturevalue(request.param)


def submit(cluster: SlurmCluster, script: str, *options: str) -> str:
    return cluster.run(
        "sbatch", "--parsable", "-o", "/dev/null", *options, "--wrap", script
    ).strip()


def field(cluster: SlurmCluster, job: str, name: str) -> str:
    words = cluster.run("scontrol", "show", "job", job).split()
    return next(word for word in words if word.startswith(f"{name}=")).partition("=")[2]


def wait_for_state(cluster: SlurmCluster, job: str, *states: str, timeout: float = 60) -> None:
    wait_until(lambda: field(cluster, job, "JobState") in states, timeout, f"{job} is {states}")


def test_a_job_runs_on_each_node(cluster: SlurmCluster, tmp_path: Path) -> None:
    jobs = [
        submit(cluster, f"echo $SLURMD_NODENAME >{tmp_path}/{node}", "-w", node)
        for node in cluster.nodes
    ]
    for job, node in zip(jobs, cluster.nodes, strict=True):
        wait_for_state(cluster, job, "COMPLETED")
        assert (tmp_path / node).read_text() == f"{node}\n"


def test_accounting_knows_a_job(slurm_cluster: SlurmCluster) -> None:
    job = submit(slurm_cluster, "exit 3")

    def known() -> str:
        return slurm_cluster.run("sacct", "-nPX", "-j", job, "-o", "state,exitcode").strip()

    wait_until(lambda: known() == "FAILED|3:0", 60, "sacct says FAILED|3:0")


def test_without_accounting_there_is_none(slurm_cluster_plain: SlurmCluster) -> None:
    with pytest.raises(RuntimeError, match="accounting storage is disabled"):
        slurm_cluster_plain.run("sacct")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_controller_comes_back(cluster: SlurmCluster, number: int) -> None:
    job = submit(cluster, "sleep 1000")
    wait_for_state(cluster, job, "RUNNING")
    later = f"later-than-{job}"
    submit(cluster, "true", "--job-name", later)
    wait_until(lambda: cluster.has_saved(later), 60, "the controller has saved that the job runs")
    cluster.kill("slurmctld", number)
    with pytest.raises(RuntimeError, match="DOWN"):
        cluster.run("scontrol", "ping")
    cluster.start("slurmctld")
    other = submit(cluster, "true")
    wait_for_state(cluster, other, "COMPLETED")
    assert field(cluster, job, "JobState") == "RUNNING"


def test_a_hanging_controller_goes_on(cluster: SlurmCluster) -> None:
    cluster.kill("slurmctld", signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        cluster.run("squeue", timeout=1)
    cluster.kill("slurmctld", signal.SIGCONT)
    wait_for_state(cluster, submit(cluster, "true"), "COMPLETED")


def test_a_killed_node_takes_its_jobs_along(cluster: SlurmCluster, tmp_path: Path) -> None:
    job = submit(cluster, f"echo $$ >{tmp_path}/pid; sleep 1000", "-w", "n2", "--no-requeue")
    wait_until(lambda: (tmp_path / "pid").exists(), 60, "the job runs")
    wait_until(lambda: (tmp_path / "pid").read_text().endswith("\n"), 60, "it has said its pid")
    cluster.kill_node("n2")
    assert not Path(f"/proc/{int((tmp_path / 'pid').read_text())}").exists()
    assert field(cluster, job, "JobState") == "RUNNING"  # nobody knows as yet
    cluster.run("scontrol", "update", "nodename=n2", "state=down", "reason=power")
    wait_for_state(cluster, job, "NODE_FAIL")
    cluster.start_node("n2")
    wait_for_state(cluster, submit(cluster, "true", "-w", "n2"), "COMPLETED")


def test_a_job_outlives_its_slurmd(cluster: SlurmCluster, tmp_path: Path) -> None:
    script = f"until [ -e {tmp_path}/go ]; do sleep 0.1; done; touch {tmp_path}/done"
    job = submit(cluster, script, "-w", "n2")
    wait_for_state(cluster, job, "RUNNING")
    cluster.kill("n2")
    (tmp_path / "go").touch()
    wait_until(lambda: (tmp_path / "done").exists(), 60, "the job has ended")
    cluster.start("n2")
    wait_for_state(cluster, job, "COMPLETED")


def test_too_much_memory(cluster: SlurmCluster) -> None:
    greedy = f"{sys.executable} -c 'import time; x = b\"x\" * 10**9; time.sleep(30)'"
    job = submit(cluster, greedy, "--mem=50")
    wait_for_state(cluster, job, "OUT_OF_MEMORY" if cluster.cgroups else "FAILED")


def test_messages_are_counted(cluster: SlurmCluster) -> None:
    before = cluster.sdiag_rpcs()
    submit(cluster, "true")
    submit(cluster, "true")
    after = cluster.sdiag_rpcs()
    key = "REQUEST_SUBMIT_BATCH_JOB"
    assert after[key] - before.get(key, 0) == 2
    assert "REQUEST_STATS_INFO" not in after


def test_nothing_outlives_who_started_it(tmp_path: Path) -> None:
    missing_backends.need("Slurm", slurm.missing(accounting=False))
    folder = tmp_path / "c"
    code = (
        "import sys, pathlib\nfrom support import slurm_cluster\n"
        "cluster = slurm_cluster.SlurmCluster(pathlib.Path(sys.argv[1]), False)\n"
        "cluster.__enter__()\n"
        "cluster.run('sbatch', '-o', '/dev/null', '--wrap', 'sleep 1000')\n"
        "print('up', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            assert list(marked(folder))
            process.kill()
            process.wait()
            wait_until(lambda: not list(marked(folder)), 60, "all servers are gone")
        finally:
            process.kill()
            sweep(folder)
            remove_cgroups(folder)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "PROGRAMS", {"no-such-program": "slurmctld", "sh": "dash"})
    packages = slurm.missing(accounting=False)
    assert packages == ["slurmctld"]
    monkeypatch.delenv(missing_backends.REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install .* slurmctld"):
        missing_backends.need("Slurm", packages)
    monkeypatch.setenv(missing_backends.REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match="apt-get install .* slurmctld"):
        missing_backends.need("Slurm", packages)
