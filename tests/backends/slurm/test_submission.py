"""What reaches a real cluster: arrays, resources, environments, containers; and what it refuses."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from axsched_slurm import SlurmRunner
from click.testing import CliRunner

from axsched_core import AxScheduler, TrialState
from axsched_core.cli.main import main
from axsched_core.errors import WrongConfiguration
from axsched_core.jobs import (
    Cause,
    ContainerObjective,
    JobRequest,
    JobState,
    JobStatus,
    Resources,
    ScriptObjective,
    SubmitError,
)
from axsched_core.journal.view import Run
from axsched_core.testing import RandomSearch
from axsched_core.testing.bench import Bench
from support import early, native
from support import slurm_cluster as slurm
from support.missing_backends import need
from support.slurm_cluster import SlurmCluster
from support.slurm_commands import Commands, start_again
from support.toy import ToyOptimizer
from support.waiting import wait_until

OpenBench = Callable[..., Bench]
SUCCEED = {"do": "succeed"}
LIMIT = 4.0
"""Seconds of a trial."""


def script(bench: Bench, text: str, **env: str) -> JobRequest:
    return bench.request({}, objective=ScriptObjective(("/bin/sh", "-c", text), env))


def names(cluster: SlurmCluster, bench: Bench) -> list[str]:
    """The names of the bench's jobs in Slurm."""
    shown = cluster.run("squeue", "-h", "-t", "all", "-o", "%j").split()
    return [name for name in shown if name.startswith(bench.run_id)]


# ---- arrays ----------------------------------------------------------------------------------


def test_like_jobs_are_arrays_and_others_are_alone(
    cluster: SlurmCluster,
    commands: Commands,
    open_bench: OpenBench,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # that of the tests themselves
    bench = open_bench()
    small, large = Resources(cpus=1, memory_bytes=50 << 20), Resources(cpus=3)
    requests = [
        attrs.evolve(script(bench, "echo $SLURM_CPUS_ON_NODE $OMP_NUM_THREADS"), resources=need)
        for need in (small, large, small, small)
    ]
    handles = bench.submit(*requests)
    assert commands.calls("sbatch") == 2
    assert {s.state for s in bench.wait(handles).values()} == {JobState.SUCCEEDED}
    printed = [bench.log(handle, "stdout").split()[-1] for handle in handles]
    assert printed == [b"1", b"3", b"1", b"1"]
    assert sorted(set(names(cluster, bench))) == sorted([requests[1].key, f"{bench.run_id}-b1"])
    shown = cluster.run("scontrol", "show", "job", handles[0].backend_id)
    assert "MinMemoryNode=50M" in shown
    # Which index is which key is written down.
    table = json.loads((bench.run_dir / "slurm" / f"{bench.run_id}-b1.json").read_text())
    assert table == [requests[0].key, requests[2].key, requests[3].key]
    assert [handle.backend_id.partition("_")[2] for handle in handles] == ["0", "", "1", "2"]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A cluster with small limits: arrays of 4, and 5 submitted jobs for each user."""
    need("Slurm with accounting", slurm.missing())
    settings = {"MaxArraySize": 4, "AccountingStorageEnforce": "associations,limits,qos"}
    folder = tmp_path_factory.mktemp("strict")
    with SlurmCluster(folder, nodes=1, settings=settings) as cluster:
        user = cluster.run("id", "-un").strip()
        for words in (
            "add account lab",
            f"add user {user} account=lab",
            "modify qos normal set MaxSubmitJobsPerUser=5",
        ):
            cluster.run("sacctmgr", "--immediate", "--quiet", *words.split())
        yield cluster


def test_limits_of_the_cluster_are_waited_out(
    strict: SlurmCluster,
    use: Callable[[SlurmCluster], None],
    commands: Commands,
    open_bench: OpenBench,
) -> None:
    use(strict)
    bench = open_bench()
    wait = "until [ -e ../../go ]; do sleep 0.1; done; echo 1 >$AXSCHED_RESULT_FILE"
    handles = bench.submit(*[script(bench, wait) for _ in range(12)])
    assert len(set(names(strict, bench))) == 2  # an array of 4, and one more
    assert bench.session.capacity() == 0
    waiting = bench.session.poll(handles)[handles[-1].key]
    assert waiting.state is JobState.QUEUED
    assert "SubmitJob" in waiting.message
    # One that waits here is cancelled like any other.
    bench.session.cancel(handles[-1:], "too many")
    (bench.run_dir / "go").touch()
    ended = bench.wait(handles)
    assert ended.pop(handles[-1].key).state is JobState.CANCELLED
    assert {status.state for status in ended.values()} == {JobState.SUCCEEDED}
    wait_until(lambda: bench.session.capacity() is None, 30, "there are places again")


def test_what_comes_within_a_second_goes_out_together(
    cluster: SlurmCluster, open_bench: OpenBench
) -> None:
    bench = open_bench()
    assert bench.session.capacity() is None
    wait = "until [ -e ../../go ]; do sleep 0.1; done; echo 1 >$AXSCHED_RESULT_FILE"
    handles = bench.submit(script(bench, wait))
    assert bench.session.capacity() == 0
    wait_until(lambda: bench.session.capacity() is None, 30, "the second is over")
    handles += bench.submit(script(bench, wait))
    assert bench.session.capacity() == 0
    (bench.run_dir / "go").touch()
    bench.wait(handles)
    assert bench.session.capacity() is None  # nobody is kept waiting for others that are not there


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"partition": "nowhere"}, "invalid partition"),
        ({"memory": "900G"}, "Memory|node configuration"),
        ({"sbatch_options": {"no-such-option": True}}, "unrecognized option"),
    ],
)
def test_refused(
    options: dict[str, object],
    words: str,
    either: SlurmCluster,
    open_bench: OpenBench,
) -> None:
    bench = open_bench(**options)
    (answer,) = bench.session.submit([bench.request(SUCCEED)])
    assert isinstance(answer, SubmitError)
    assert re.search(words, answer.message), answer
    assert not answer.transient
    alive = either.run("squeue", "-h", "-o", "%j").split()
    assert not [name for name in alive if name.startswith(bench.run_id)]


# ---- what a job is given ---------------------------------------------------------------------


def test_the_drivers_own_slurm_variables_do_nothing(
    cluster: SlurmCluster, open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "SLURM_JOB_ID": "1",
        "SLURM_LEAKED": "yes",
        "SBATCH_PARTITION": "nowhere",
        "SQUEUE_PARTITION": "nowhere",
        "SQUEUE_STATES": "FAILED",
        "SACCT_FORMAT": "user",
        "MINE": "kept",
    }.items():
        monkeypatch.setenv(name, value)
    bench = open_bench()
    (handle,) = bench.submit(script(bench, "env", SECRET="as it is"))
    assert bench.status(handle).state is JobState.SUCCEEDED
    printed = bench.log(handle, "stdout").decode()
    env = dict(line.partition("=")[::2] for line in printed.split("\n"))
    assert env["MINE"] == "kept"
    assert env["SECRET"] == "as it is"
    assert env["SLURM_JOB_ID"] == handle.backend_id
    assert not {"SLURM_LEAKED", "SBATCH_PARTITION", "SQUEUE_PARTITION"} & env.keys()


def test_only_what_is_exported(
    cluster: SlurmCluster, open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", "kept")
    monkeypatch.setenv("OTHER", "not")
    bench = open_bench(export=["MINE", "PATH"])
    (handle,) = bench.submit(script(bench, "/usr/bin/env", SECRET="as it is"))
    assert bench.status(handle).state is JobState.SUCCEEDED
    printed = bench.log(handle, "stdout")
    assert b"MINE=kept" in printed
    assert b"SECRET=as it is" in printed
    assert b"OTHER" not in printed


def test_set_up_and_what_fails_in_it(either: SlurmCluster, open_bench: OpenBench) -> None:
    bench = open_bench(setup=["export FROM_SETUP='a b'", "cd /", "set -- gone"])
    (handle,) = bench.submit(script(bench, 'echo "$FROM_SETUP"'))
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert bench.log(handle, "stdout") == b"a b\n"

    # Neither a test nor a command of a script that is sourced is a failure; the line's own end is.
    (bench.run_dir / "env.sh").write_text("false\nexport SOURCED=yes\n")
    sourced = [
        f". {bench.run_dir}/env.sh",
        "[ -e /no/such ] && false",
        "if false; then",
        "false",
        "fi",
    ]
    bench = open_bench(setup=sourced)
    (handle,) = bench.submit(script(bench, 'echo "$SOURCED"'))
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert bench.log(handle, "stdout") == b"yes\n"

    bench = open_bench(setup=["export A=1", "cp /no/such/file .", "export B=2"])
    status = bench.status(bench.start(SUCCEED))
    assert status.state is JobState.FAILED
    assert "set-up: exit code 1 of: cp /no/such/file ." in status.message

    bench = open_bench(modules=["no/such/module"])
    status = bench.status(bench.start(SUCCEED))
    assert (status.state, status.cause) == (JobState.FAILED, Cause.NODE_FAIL)
    assert "module" in status.message

    bench = open_bench(python="/no/such/python")
    status = bench.status(bench.start(SUCCEED))
    assert (status.state, status.cause) == (JobState.FAILED, Cause.NODE_FAIL)
    assert "/no/such/python" in status.message


@pytest.mark.parametrize(
    ("text", "state", "cause", "code", "number"),
    [
        ('echo 2 >"$AXSCHED_RESULT_FILE"; echo "$TOKEN"', JobState.SUCCEEDED, None, 0, None),
        ("exit 3", JobState.FAILED, Cause.EXIT_CODE, 3, None),
        ("kill -9 $$", JobState.FAILED, Cause.SIGNAL, None, 9),
    ],
)
def test_a_node_without_python_runs_scripts(
    text: str,
    state: JobState,
    cause: Cause | None,
    code: int | None,
    number: int | None,
    cluster: SlurmCluster,
    open_bench: OpenBench,
) -> None:
    bench = open_bench(python="/no/such/python")
    handles = bench.submit(*[script(bench, text, TOKEN="it's") for _ in range(3)])
    for status in bench.wait(handles).values():
        assert (status.state, status.cause) == (state, cause)
        assert (status.exit_code, status.signal) == (code, number)
        assert status.ended_at is not None
    if state is JobState.SUCCEEDED:
        assert [bench.log(handle, "stdout") for handle in handles] == [b"it's\n"] * 3
        assert bench.metrics(handles[0]) == {"loss": (2.0, None)}


def test_a_node_without_python_cancels_and_starts_again(
    cluster: SlurmCluster, open_bench: OpenBench
) -> None:
    bench = open_bench(python="/no/such/python")
    text = 'echo ran; [ -n "$SLURM_RESTART_COUNT" ] || exec sleep 1000'
    (handle,) = bench.submit(script(bench, text))
    (other,) = bench.submit(script(bench, "sleep 1000"))
    bench.running(handle, other)
    folder = bench.folder(handle)
    wait_until((folder / "pid.json").exists, 60, "it runs")
    bench.session.cancel([other], "enough")
    assert bench.status(other).state is JobState.CANCELLED
    cluster.run("scontrol", "requeue", handle.backend_id)
    bench.wait([handle], lambda status: status.state is JobState.QUEUED)
    start_again(cluster, handle)
    assert bench.status(handle).state is JobState.SUCCEEDED
    for name in ("stdout.log.0", "stdout.log"):
        assert (folder / name).read_text() == "ran\n"
    assert (folder / "claim.1").exists()


def test_a_folder_that_the_node_cannot_see(either: SlurmCluster, open_bench: OpenBench) -> None:
    bench = open_bench(sbatch_options={"hold": True})
    handle = bench.start(SUCCEED)
    folder = bench.folder(handle)
    folder.rename(folder.with_name("elsewhere"))
    either.run("scontrol", "release", handle.backend_id)
    status = bench.status(handle)
    assert (status.state, status.cause) == (JobState.FAILED, Cause.NODE_FAIL)
    assert "all nodes share" in status.message


def test_a_node_that_fails_every_job_gets_no_more(
    either: SlurmCluster, open_bench: OpenBench
) -> None:
    hole = either.nodes[0]
    bench = open_bench(setup=[f'[ "$SLURMD_NODENAME" != {hole} ]'], cpus_per_task=4)
    wait = "until [ -e ../../go ]; do sleep 0.1; done; echo 1 >$AXSCHED_RESULT_FILE"
    handles = bench.submit(*[script(bench, wait) for _ in range(4)])  # two of three nodes
    handles += bench.submit(*[script(bench, wait) for _ in range(30)])
    found: dict[str, JobStatus] = {}

    def learnt() -> bool:
        found.update(bench.session.poll(handles))
        failed = [status for status in found.values() if status.cause is not None]
        assert all(status.cause is Cause.NODE_FAIL for status in failed)
        shown = either.run("squeue", "-hrt", "pending", "-o", "%x").split()
        return bool(failed) and bool(shown) and all(hole in one for one in shown)

    wait_until(learnt, 60, "waiting jobs keep away from the node")
    (bench.run_dir / "go").touch()
    ended = bench.wait(handles)
    lost = [status for status in ended.values() if status.state is not JobState.SUCCEEDED]
    assert lost
    assert {status.host for status in lost} == {hole}
    again = bench.wait(bench.submit(*[script(bench, wait) for _ in range(9)]))
    assert {status.state for status in again.values()} == {JobState.SUCCEEDED}


def test_where_all_nodes_fail_none_is_avoided(either: SlurmCluster, open_bench: OpenBench) -> None:
    bench = open_bench(setup=["false"])
    causes = [bench.status(bench.start(SUCCEED)).cause for _ in range(4)]
    assert causes[0] is Cause.NODE_FAIL
    assert causes[-1] is Cause.LOAD_ERROR  # not a machine's fault


def test_a_folder_that_the_node_cannot_write(either: SlurmCluster, open_bench: OpenBench) -> None:
    bench = open_bench(sbatch_options={"hold": True})
    handle = bench.start(SUCCEED)
    (bench.folder(handle) / "slurm.log").mkdir()
    either.run("scontrol", "release", handle.backend_id)
    status = bench.status(handle)
    assert (status.state, status.cause) == (JobState.FAILED, Cause.NODE_FAIL)
    assert "cannot write into" in status.message


# ---- containers ------------------------------------------------------------------------------


def test_a_container_by_a_stand_in(
    cluster: SlurmCluster, open_bench: OpenBench, tmp_path: Path
) -> None:
    """apptainer's command line, seen by an executable that takes its place."""
    engine = tmp_path / "apptainer"
    engine.write_text(
        '#!/bin/sh\nfor word; do echo "$word"; done\n'
        'echo "$TOKEN" | wc -c >&2\necho \'{"loss": 4}\' >"$AXSCHED_RESULT_FILE"\n'
    )
    engine.chmod(0o755)
    bench = open_bench(container_engine=str(engine))
    options = {
        "volumes": {"/data": {"bind": "/data", "mode": "ro"}},
        "env": {"TOKEN": "1234"},
        "gpus": 0,
        "cpus": 2,
    }
    objective = ContainerObjective("python:3.12", ("python", "-c", "print('a b')"), options)
    request = bench.request({"x": 1}, objective=objective)
    handle = bench.submit(request)[0]
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert bench.metrics(handle) == {"loss": (4.0, None)}
    folder = str(request.folder)
    assert bench.log(handle, "stdout").decode().splitlines() == [
        *("exec", "--bind", f"{folder}:{folder}", "--bind", "/data:/data:ro", "--pwd", folder),
        *("docker://python:3.12", "python", "-c", "print('a b')"),
    ]
    assert bench.log(handle, "stderr").strip() == b"5"
    assert "NumCPUs=2" in cluster.run("scontrol", "show", "job", handle.backend_id)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image for ch-run, made of this machine's own shell."""
    need("charliecloud", [] if shutil.which("ch-run") else ["charliecloud-runtime"])
    root = tmp_path_factory.mktemp("image")
    for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "home", "root", "usr/bin"):
        (root / name).mkdir(parents=True)
    for name in ("passwd", "group", "hosts", "resolv.conf"):
        (root / "etc" / name).touch()
    for program in ("sh", "cat"):
        path = shutil.which(program)
        assert path is not None
        shutil.copy(path, root / "bin" / program)
        for word in subprocess.run(["ldd", path], capture_output=True, text=True).stdout.split():
            if word.startswith("/"):
                (root / word[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, root / word[1:])
    return root


@pytest.fixture
def outside_tmp() -> Iterator[Path]:
    """ch-run has a /tmp of its own, in which nothing can be bound."""
    with tempfile.TemporaryDirectory(prefix="axsched-", dir="/var/tmp") as folder:
        yield Path(folder)


def test_a_container_for_real(
    cluster: SlurmCluster,
    open_bench: OpenBench,
    image: Path,
    outside_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("USER", getpass.getuser())  # ch-run insists
    bench = open_bench(outside_tmp, container_engine="ch-run")
    text = 'ls / >&2; read -r x <"$AXSCHED_PARAMS_FILE"; echo "$x"; echo 3 >result.json'
    objective = ContainerObjective(str(image), ("/bin/sh", "-c", text))
    request = bench.request({"x": 1.5}, objective=objective)
    # As in any image for ch-run, there is a place for what is to be bound.
    (image / str(request.folder)[1:]).mkdir(parents=True)
    (handle,) = bench.submit(request)
    assert bench.status(handle).state is JobState.SUCCEEDED, bench.log(handle, "stderr")
    assert json.loads(bench.log(handle, "stdout")) == {"x": 1.5}
    assert bench.metrics(handle) == {"loss": (3.0, None)}


# ---- the pace, and the whole -----------------------------------------------------------------


def test_slurm_is_not_asked_more_often_than_it_is_to_be(
    cluster: SlurmCluster, commands: Commands, tmp_path: Path
) -> None:
    config = {"job_output_dir": tmp_path, "monitoring_interval": 600.0, "progress": False}
    runner = SlurmRunner()
    with AxScheduler(ToyOptimizer(), runner, config | {"max_parallelism": 6}) as scheduler:
        scheduler.set_objective_function(lambda x, y: x + y)
        scheduler.run_optimization(max_trials=18)
        assert {t.state.value for t in scheduler.trials.values()} == {"SUCCEEDED"}
    # All ends were seen in the jobs' folders; sbatch was called once for each refill.
    assert commands.calls("squeue") + commands.calls("sacct") <= 1
    assert commands.calls("sbatch") <= 18
    assert commands.calls("scancel") == 0


def test_why_jobs_wait_and_what_to_do_reaches_the_user(
    cluster: SlurmCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"job_output_dir": tmp_path, "monitoring_interval": 0.2, "progress": False}
    runner = SlurmRunner(sbatch_options={"hold": True})
    with AxScheduler(ToyOptimizer(), runner, config) as scheduler:
        scheduler.set_objective_function(lambda x, y: x + y)
        index = scheduler.get_next_trial()
        scheduler.run_trial(index)
        wait_until(lambda: scheduler.monitor_trials()[index].message, 60, "the reason")
        job = cluster.run("squeue", "--noheader", "--Format=JobArrayID").split()[0]
        held = f"it is held; to release it: scontrol release {job}"
        assert scheduler.trials[index].message == f"JobHeldUser: {held}"
        assert f"1 job waits and will not start without help: JobHeldUser: {held}" in caplog.text
        run = Run(scheduler.run_directory)
        wait_until(lambda: (scheduler.monitor_trials(), run.look()) and run.trials[index].remedy)
        assert (run.trials[index].waits_for, run.trials[index].remedy) == ("JobHeldUser", held)
        cluster.run("scontrol", "release", job)
        trial = scheduler.wait_for_completed_trials()[index]
        assert (trial.state.value, trial.message) == ("SUCCEEDED", "")


def test_the_time_for_which_a_job_is_suspended_is_not_its_own(
    cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("axsched_core.run.timing.TIME_LIMIT_SLACK", 0.0)
    config = {"job_output_dir": tmp_path, "monitoring_interval": 0.2, "progress": False}
    gate = tmp_path / "gate"
    script = tmp_path / "script"
    words = f"while ! [ -e {gate} ]; do sleep 0.1; done; echo '{{\"loss\": 1}}'"
    script.write_text(f"#!/bin/sh\n{words} >$AXSCHED_RESULT_FILE\n")
    script.chmod(0o755)
    with AxScheduler(ToyOptimizer(), "slurm", config) as scheduler:
        scheduler.set_script_objective(script, {"timeout": LIMIT})
        index = scheduler.get_next_trial()
        scheduler.run_trial(index)
        looked = lambda: scheduler.monitor_trials()[index]  # noqa: E731
        wait_until(lambda: looked().state is TrialState.RUNNING, 60)
        job = cluster.run("squeue", "--noheader", "--Format=JobArrayID").split()[0]
        cluster.run("scontrol", "suspend", job)
        wait_until(lambda: looked().message == "suspended by Slurm", 60)
        over = time.monotonic() + LIMIT + 1.0
        wait_until(lambda: looked().state.ended or time.monotonic() > over)
        gate.touch()
        cluster.run("scontrol", "resume", job)
        trial = scheduler.wait_for_completed_trials()[index]
        assert (trial.state, trial.message) == (TrialState.SUCCEEDED, "")


def test_what_no_job_of_the_run_can_have_ends_the_run_and_costs_no_trial(
    either: SlurmCluster, tmp_path: Path
) -> None:
    config = {"job_output_dir": tmp_path, "progress": False, "max_parallelism": 4}
    optimizer = RandomSearch({"x": (0, 1)})
    with AxScheduler(optimizer, "slurm", config, {"partition": "nosuch"}) as scheduler:
        scheduler.set_objective_function(lambda x: x)
        with pytest.raises(WrongConfiguration, match="invalid partition specified"):
            scheduler.run_optimization(max_trials=8)
        assert {t.state for t in scheduler.trials.values()} == {TrialState.CANDIDATE}
        assert {t.attempts for t in scheduler.trials.values()} == {0}
        run_dir = scheduler.run_directory
    with AxScheduler.resume(
        run_dir, optimizer=RandomSearch({}), runner_options={"partition": "main"}
    ) as again:
        again.finish()
        assert [t.state for t in again.trials.values()] == [TrialState.SUCCEEDED] * 8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sbatch_options": {"reservation": "nosuch"}}, "[Rr]eservation"),
        ({"sbatch_options": {"nosuch-option": "1"}}, "nosuch-option"),
    ],
)
def test_kinds_of_what_no_job_can_have(
    cluster: SlurmCluster, open_bench: OpenBench, options: dict[str, Any], words: str
) -> None:
    bench = open_bench(**options)
    (answer,) = bench.session.submit([bench.request(SUCCEED)])
    assert isinstance(answer, SubmitError)
    assert answer.every_job, answer
    assert re.search(words, answer.message)


def test_a_job_is_kept_off_machines_that_failed_it_as_long_as_there_are_others(
    cluster: SlurmCluster, open_bench: OpenBench
) -> None:
    bench = open_bench()
    nodes = cluster.run("sinfo", "-h", "-N", "-o", "%N").split()
    one, other = [attrs.evolve(bench.request({"do": "hang"}), avoid=(node,)) for node in nodes[:2]]
    handles = bench.submit(one, other, bench.request({"do": "hang"}))
    excluded = [
        re.search(r"ExcNodeList=(\S+)", cluster.run("scontrol", "show", "job", h.backend_id))[1]
        for h in handles
    ]
    assert excluded == [*nodes[:2], "(null)"]
    bench.session.cancel(handles, "enough")
    everywhere = attrs.evolve(bench.request(SUCCEED), avoid=tuple(nodes))
    (handle,) = bench.submit(everywhere)
    assert bench.status(handle).state is JobState.SUCCEEDED


def test_scripts_and_tables_in_a_folder_of_the_users(
    cluster: SlurmCluster, open_bench: OpenBench, tmp_path: Path
) -> None:
    bench = open_bench(job_dir=str(tmp_path / "mine"))
    handles = bench.submit(*[bench.request(SUCCEED) for _ in range(3)])
    bench.wait(handles)
    made = sorted(path.name for path in (tmp_path / "mine" / bench.run_id).iterdir())
    assert made == [f"{bench.run_id}-b1.{kind}" for kind in ("id", "json", "sh")]


def test_leftovers_are_found(cluster: SlurmCluster, open_bench: OpenBench) -> None:
    bench = open_bench()
    handles = bench.submit(*[bench.request({"do": "hang"}) for _ in range(2)])
    bench.running(*handles)
    found = SlurmRunner().axsched_find_leftovers(bench.run_id)
    assert found == [f"{handle.backend_id} RUNNING {bench.run_id}-b1" for handle in handles]
    assert SlurmRunner().axsched_remove_leftovers(bench.run_id) == found
    assert {s.state for s in bench.wait(handles).values()} == {JobState.CANCELLED}
    wait_until(
        lambda: SlurmRunner().axsched_find_leftovers(bench.run_id) == [], 60, "nothing is left"
    )


def test_doctor(either: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = os.listdir(tmp_path)
    done = CliRunner().invoke(main, ["doctor", "slurm", "--option", "partition=main"])
    assert done.exit_code == 0, done.output
    marks = [line.split()[:2] for line in done.output.splitlines()[1:]]
    assert [name for _, name in marks] == [
        *("commands:", "controller:", "accounting:", "limits:", "partition:"),
        *("job:", "shared", "python:", "clocks:"),
    ]
    assert {mark for mark, _ in marks} == {"✓"}
    assert os.listdir(tmp_path) == before

    done = CliRunner().invoke(main, ["doctor", "slurm", "--option", "partition=nowhere"])
    assert done.exit_code == 1
    assert "✗ partition: " in done.output
    assert "✗ job: sbatch refuses it: " in done.output

    either.stop("slurmctld")
    done = CliRunner().invoke(main, ["doctor", "slurm"])
    assert done.exit_code == 1
    assert "✗ controller: " in done.output


def test_jobs_that_report_are_stopped_early(cluster: SlurmCluster, tmp_path: Path) -> None:
    script = tmp_path / "objective.sh"
    script.write_text(early.SHELL)
    config = {"job_output_dir": tmp_path, "monitoring_interval": 0.5, "progress": False}
    with AxScheduler(early.StopsOdd(), "slurm", config) as scheduler:
        scheduler.set_script_objective(script)
        early.check(scheduler)


@pytest.mark.ax
def test_ax_s_own_loop_on_slurm(cluster: SlurmCluster, tmp_path: Path) -> None:
    script = tmp_path / "objective.sh"
    script.write_text(native.SHELL)
    native.check("slurm", script, {}, tmp_path)
