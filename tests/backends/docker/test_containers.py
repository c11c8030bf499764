"""What a container is given, how it ends, and what is left of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axsched_docker import spec

from axsched_core import AxScheduler, TrialState, jobfolder
from axsched_core.errors import InvalidInput, WrongConfiguration
from axsched_core.jobs import (
    Cause,
    ContainerObjective,
    JobState,
    NotReady,
    Resources,
    ScriptObjective,
)
from axsched_core.testing import RandomSearch
from support import early, native
from support.container_images import BUSYBOX, PYTHON
from support.docker_engine import DockerEngine

RESULT = '{"loss": 0.25}'
WRITE = f"echo '{RESULT}' > $AXSCHED_RESULT_FILE"


def test_a_container_objective_gets_the_protocol(bench) -> None:
    copy = "cat $AXSCHED_PARAMS_FILE; env | grep AXSCHED_ >&2; cd $AXSCHED_JOB_DIR; cat params.json"
    handle = bench.sh(f"{copy}; {WRITE}")
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert bench.metrics(handle) == {"loss": (0.25, None)}
    assert bench.log(handle, "stdout") == b'{"x": 0.5}{"x": 0.5}'
    told = dict(line.split("=") for line in bench.log(handle, "stderr").decode().splitlines())
    assert told["AXSCHED_TRIAL_INDEX"] == "1"
    assert told["AXSCHED_ATTEMPT"] == "1"
    assert told["AXSCHED_PROGRESS_FILE"] == "/axsched/job/progress.jsonl"


def test_placeholders_are_replaced_in_the_command_and_nothing_else_is(bench) -> None:
    words = ("sh", "-c", 'cp "$1" "$2.tmp"; mv "$2.tmp" "$2"; echo "$3"', "-")
    objective = ContainerObjective(
        BUSYBOX, (*words, "{params_file}", "{output_file}", "{x} {params_file}!")
    )
    handle = bench.start({"loss": 0.5}, objective=objective)
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert bench.metrics(handle) == {"loss": (0.5, None)}
    assert bench.log(handle, "stdout") == b"{x} /axsched/job/params.json!\n"


def test_options_of_the_objective_go_before_those_of_the_runner(make_bench) -> None:
    bench = make_bench(env={"A": "runner", "B": "runner"}, env_vars={"C": "3"}, working_dir="/tmp")
    handle = bench.sh(f"echo $A $B $C $PWD; {WRITE}", env_vars={"B": "objective"})
    bench.status(handle)
    assert bench.log(handle, "stdout") == b"runner objective 3 /tmp\n"


def test_entrypoint_and_tmpfs_and_read_only(make_bench) -> None:
    bench = make_bench(read_only=True, tmpfs={"/scratch": "size=1m"})
    words = f"touch /x 2>/dev/null || echo ro; touch /scratch/x && echo rw; {WRITE}"
    objective = ContainerObjective(BUSYBOX, (words,), {"entrypoint": ["sh", "-c"]})
    handle = bench.start({}, objective=objective)
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert bench.log(handle, "stdout") == b"ro\nrw\n"
    assert "loss" in bench.metrics(handle)


@pytest.mark.parametrize("user", ["nobody", "1234:1234"])
@pytest.mark.parametrize("read_only", [False, True])
def test_any_user_may_write_into_the_job_folder(make_bench, user: str, read_only: bool) -> None:
    bench = make_bench(user=user, read_only=read_only)
    done = bench.start({"do": "succeed"})
    other = bench.sh(f"id -u; {WRITE}")
    assert bench.status(done).state is JobState.SUCCEEDED
    assert bench.status(other).state is JobState.SUCCEEDED
    assert bench.log(other, "stdout").decode().strip() == {"nobody": "65534"}.get(user, "1234")
    for path in bench.folder(other).iterdir():
        assert path.stat().st_uid == os.getuid()


def test_limits_are_what_the_engine_is_told(make_bench, engine: DockerEngine) -> None:
    bench = make_bench(cpus=1.5, memory="64m", pids=50, shm_size="8m", network="none")
    handle = bench.sh("sleep 600", labels={"mine": "1"}, log_size="1m")
    bench.running(handle)
    found = engine.client().inspect_container(handle.backend_id)
    host = found["HostConfig"]
    assert host["NanoCpus"] == 1_500_000_000
    assert host["Memory"] == host["MemorySwap"] == 64 << 20
    assert (host["PidsLimit"], host["ShmSize"], host["NetworkMode"]) == (50, 8 << 20, "none")
    assert host["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": str(1 << 20), "max-file": "1"},
    }
    assert found["Config"]["Labels"]["mine"] == "1"


def test_a_request_s_resources_go_before_the_options(make_bench, engine: DockerEngine) -> None:
    import attrs

    bench = make_bench(cpus=2, memory="64m")
    request = bench.request({"do": "hang"})
    request = attrs.evolve(request, resources=Resources(cpus=1, memory_bytes=128 << 20))
    (handle,) = bench.submit(request)
    bench.running(handle)
    host = engine.client().inspect_container(handle.backend_id)["HostConfig"]
    assert (host["NanoCpus"], host["Memory"]) == (10**9, 128 << 20)


def test_no_right_is_given_that_was_not_asked_for(bench, engine: DockerEngine) -> None:
    handle = bench.sh("sleep 600")
    bench.running(handle)
    host = engine.client().inspect_container(handle.backend_id)["HostConfig"]
    assert not host["Privileged"]
    assert not any(host.get(key) for key in ("CapAdd", "SecurityOpt", "Devices", "Binds"))
    assert [mount["Target"] for mount in host["Mounts"]] == ["/axsched"]


def test_capabilities_are_given_by_name(make_bench) -> None:
    bench = make_bench(cap_drop=["ALL"], cap_add=["CHOWN"])
    handle = bench.sh(f"grep CapEff /proc/self/status; {WRITE}")
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert int(bench.log(handle, "stdout").split()[1], 16) == 1


# ---- volumes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [list, dict])
def test_volumes(bench, tmp_path: Path, form: type) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    for folder in (data, out):
        folder.mkdir()
    (data / "n").write_text("7")
    volumes: Any = [f"{data}:/data:ro", f"{out}:/out"]
    if form is dict:
        volumes = {str(data): {"bind": "/data", "mode": "ro"}, str(out): "/out"}
    words = f"cp /data/n /out/n; touch /data/x 2>/dev/null || echo ro; {WRITE}"
    handle = bench.sh(words, volumes=volumes)
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert (out / "n").read_text() == "7"
    assert bench.log(handle, "stdout") == b"ro\n"


def test_a_host_path_that_does_not_exist_is_refused_and_not_made(bench, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    status = bench.status(bench.sh("true", volumes=[f"{absent}:/data"]))
    assert (status.state, status.cause) == (JobState.FAILED, Cause.CONFIGURATION)
    assert str(absent) in status.message
    assert not absent.exists()


@pytest.mark.parametrize("target", ["/axsched", "/axsched/job", "/"])
def test_a_volume_over_the_job_s_own_files_is_refused(bench, tmp_path: Path, target: str) -> None:
    objective = ContainerObjective(BUSYBOX, ("true",), {"volumes": [f"{tmp_path}:{target}"]})
    (answer,) = bench.session.submit([bench.request({}, objective=objective)])
    assert "the job's own files" in answer.message
    assert not answer.transient


# ---- how containers end ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "cause", "code", "signal"),
    [
        ("exit 3", Cause.EXIT_CODE, 3, None),
        ("kill -9 $$", Cause.SIGNAL, 137, 9),
        ("kill -11 $$", Cause.SIGNAL, 139, 11),
    ],
)
def test_causes(bench, command: str, cause: Cause, code: int, signal: int | None) -> None:
    status = bench.status(bench.sh(command))
    assert (status.state, status.cause) == (JobState.FAILED, cause)
    assert (status.exit_code, status.signal) == (code, signal)
    assert status.started_at is not None
    assert status.ended_at is not None
    assert abs(status.ended_at - time.time()) < 600


EATS_MEMORY = "dd if=/dev/zero of=/dev/null bs=200M count=1"


@pytest.mark.parametrize(
    "command",
    [
        f"exec {EATS_MEMORY}",
        f"{EATS_MEMORY}; exit 1",  # only a child was killed
        f"{EATS_MEMORY}; true",  # and nobody has noticed, but there is no result
    ],
)
def test_out_of_memory(bench, command: str) -> None:
    status = bench.status(bench.sh(command, memory="32m"))
    assert (status.state, status.cause) == (JobState.FAILED, Cause.OUT_OF_MEMORY)
    assert "memory" in status.message


def test_a_killed_child_does_not_spoil_a_result(bench) -> None:
    handle = bench.sh(f"{EATS_MEMORY}; {WRITE}", memory="32m")
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert "loss" in bench.metrics(handle)


def test_a_function_out_of_memory(make_bench) -> None:
    bench = make_bench(memory="48m")
    objective = ScriptObjective(("/bin/sh", "-c", EATS_MEMORY))
    status = bench.status(bench.start({}, objective=objective))
    assert (status.state, status.cause) == (JobState.FAILED, Cause.OUT_OF_MEMORY)


def test_no_result_is_told_in_words(bench) -> None:
    handle = bench.sh("true")
    assert bench.status(handle).state is JobState.SUCCEEDED
    result = bench.fetch(handle)
    assert isinstance(result, NotReady)
    assert "result.json" in result.reason


@pytest.mark.parametrize(
    ("image", "command", "cause", "words"),
    [
        ("no/such:image", ("true",), Cause.CONFIGURATION, "no image no/such:image"),
        (BUSYBOX, ("no-such-program",), Cause.EXIT_CODE, "no-such-program"),
        (BUSYBOX, ("/etc/passwd",), Cause.EXIT_CODE, "ermission denied"),
    ],
)
@pytest.mark.parametrize("init", [False, True])
def test_what_cannot_be_started_leaves_nothing(
    make_bench, containers, image: str, command: tuple[str, ...], cause: Cause, words: str, init
) -> None:
    bench = make_bench(pull="never")
    objective = ContainerObjective(image, command, {"init": init})
    handle = bench.start({}, objective=objective)
    status = bench.status(handle)
    assert (status.state, status.cause) == (JobState.FAILED, cause)
    assert words in status.message
    bench.close()
    assert containers(bench.run_id) == []


def test_a_stranger_s_container_is_left_alone(make_bench, engine: DockerEngine) -> None:
    bench = make_bench(max_containers=1)
    bench.running(bench.sh("sleep 600"))
    handle = bench.sh("true")
    client = engine.client()
    client.create_container_from_config({"Image": BUSYBOX, "Cmd": ["true"]}, handle.backend_id)
    try:
        bench.session.cancel(bench.handles[:1], "make room")
        status = bench.status(handle)
        assert (status.state, status.cause) == (JobState.FAILED, Cause.SUBMIT_REFUSED)
        assert "taken by a container that is not ours" in status.message
    finally:
        client.remove_container(handle.backend_id)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"user": "nobody-of-that-name"}, "does not have the user 'nobody-of-that-name'"),
        ({"user": "0:nogroup-of-that-name"}, "does not have the user '0:nogroup-of-that-name'"),
        ({"gpus": 1}, "the engine has no GPUs for containers"),
        ({"memory": "1m"}, "memory"),
        ({"network": "no-such-net"}, "no-such-net"),
    ],
)
def test_what_image_or_machine_lack_is_no_fault_of_the_machine_s(
    bench, containers, options: dict[str, Any], words: str
) -> None:
    status = bench.status(bench.sh("true", **options))
    assert (status.state, status.cause) == (JobState.FAILED, Cause.CONFIGURATION), status
    assert words in status.message
    assert containers(bench.run_id) == []


def test_what_no_container_of_the_run_can_have_ends_the_run_and_costs_no_trial(
    engine: DockerEngine, tmp_path: Path
) -> None:
    config = {"job_output_dir": tmp_path, "progress": False, "max_parallelism": 4}
    options = {"host": engine.url, "pull": "never"}
    optimizer = RandomSearch({"x": (0, 1)})
    command = ("sh", "-c", "echo 1 >$AXSCHED_RESULT_FILE")
    with AxScheduler(optimizer, "docker", config, options) as scheduler:
        with pytest.raises(InvalidInput, match=r"unknown key 'memroy'.*'memory'"):
            scheduler.set_container_objective(BUSYBOX, command, {"memroy": "1g"})
        scheduler.set_container_objective("no/such:image", command)
        with pytest.raises(WrongConfiguration, match="the engine has no image no/such:image"):
            scheduler.run_optimization(max_trials=8)
        assert {t.state for t in scheduler.trials.values()} == {TrialState.CANDIDATE}
        scheduler.set_container_objective(BUSYBOX, command)
        scheduler.finish()
        assert [t.state for t in scheduler.trials.values()] == [TrialState.SUCCEEDED] * 8


def test_an_engine_s_own_trouble_is_one_of_the_machines(bench, containers, monkeypatch) -> None:
    monkeypatch.setattr("axsched_docker.lifecycle._missing", lambda *_: None)
    status = bench.status(bench.sh("true", user="nobody-of-that-name"))
    assert (status.state, status.cause) == (JobState.FAILED, Cause.NODE_FAIL)
    assert "nobody-of-that-name" in status.message
    assert containers(bench.run_id) == []


def test_more_cpus_than_there_are(make_bench, bench) -> None:
    with pytest.raises(InvalidInput, match="the engine's machine has only"):
        make_bench(cpus=4000)
    objective = ContainerObjective(BUSYBOX, ("true",), {"cpus": 4000})
    (answer,) = bench.session.submit([bench.request({}, objective=objective)])
    assert "cpus=4000: the engine's machine has only" in answer.message


def test_wrong_options_are_refused_at_once(bench) -> None:
    objective = ContainerObjective(BUSYBOX, ("true",), {"memry": "1g"})
    (answer,) = bench.session.submit([bench.request({}, objective=objective)])
    assert "'memory'" in answer.message
    assert not answer.transient


# ---- functions and scripts -------------------------------------------------------------------


def test_a_script_travels_into_the_image(bench, tmp_path: Path) -> None:
    script = tmp_path / "measure it.sh"
    script.write_text('#!/bin/sh\necho "{\\"loss\\": $1$SECRET}" > "$AXSCHED_RESULT_FILE"\n')
    objective = ScriptObjective(("sh", str(script), "1."), {"SECRET": "5"}, script=str(script))
    handle = bench.start({}, objective=objective)
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert bench.metrics(handle) == {"loss": (1.5, None)}
    assert not (bench.folder(handle) / script.name).exists()


def test_a_python_that_is_too_old_is_told_in_words(bench, monkeypatch) -> None:
    monkeypatch.setattr(spec, "OLDEST_PYTHON", (99, 1))
    status = bench.status(bench.start({"do": "succeed"}))
    assert (status.state, status.cause) == (JobState.FAILED, Cause.LOAD_ERROR)
    assert "needs 99.1 or newer" in status.message


@pytest.mark.parametrize("init", [False, True])
def test_an_image_without_python_is_told_in_words(make_bench, init: bool) -> None:
    bench = make_bench(image=BUSYBOX, init=init)
    status = bench.status(bench.start({"do": "succeed"}))
    assert (status.state, status.exit_code) == (JobState.FAILED, 127)
    assert "'python'" in status.message


def test_without_an_image_functions_are_refused(make_bench) -> None:
    bench = make_bench(image=None)
    (answer,) = bench.session.submit([bench.request({"do": "succeed"})])
    assert "runner_options={'image': ...}" in answer.message


# ---- what comes back, and what stays ---------------------------------------------------------


@pytest.mark.parametrize("files", ["copy", "mount"])
def test_files_come_back_and_links_lead_nowhere(make_bench, tmp_path: Path, files: str) -> None:
    bench = make_bench(files=files)
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    words = [
        "cd $AXSCHED_JOB_DIR; mkdir -p sub/deep; echo 1 > sub/deep/model; ln sub/deep/model again",
        "ln -s sub/deep/model inside; ln -s /etc/passwd outside; ln -s .. up; mkfifo pipe",
        "ln -s /etc/passwd result.json; ln -s ../../../etc/passwd sub/far",
        f"ln -s {victim} stdout.log; ln -s {victim} exit.json; echo printed",
    ]
    handle = bench.sh("; ".join(words))
    assert bench.status(handle).state is JobState.SUCCEEDED
    folder = bench.folder(handle)
    assert (folder / "sub" / "deep" / "model").read_text() == "1\n"
    assert (folder / "again").read_text() == "1\n"
    assert (folder / "inside").read_text() == "1\n"
    for name in ("outside", "up", "result.json", "sub/far"):
        assert not os.path.lexists(folder / name), name
    assert isinstance(bench.fetch(handle), NotReady)
    assert victim.read_text() == "untouched"
    assert bench.log(handle, "stdout") == b"printed\n"
    made = {"again", "inside", "sub", "claim", "exit.json", "stdout.log", "stderr.log"}
    given = {"job.json", "params.json", "axsched_worker.py"}
    assert {path.name for path in folder.iterdir()} - {"pipe"} == made | given


def test_a_container_is_removed_when_its_results_are_safe(
    bench, containers, engine: DockerEngine, monkeypatch
) -> None:
    from axsched_docker import lifecycle

    seen = []
    real = lifecycle.write_exit

    def full_disk(folder: Path, ending) -> None:
        seen.append(containers(bench.run_id))
        if len(seen) == 1:
            raise OSError(28, "No space left on device")
        real(folder, ending)

    monkeypatch.setattr(lifecycle, "write_exit", full_disk)
    handle = bench.sh(WRITE)
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert seen == [[handle.backend_id]] * 2  # it was still there when there was room again
    assert "loss" in bench.metrics(handle)
    deadline = time.monotonic() + 30
    while containers(bench.run_id):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("keep", "kept"), [("none", set()), ("failed", {"bad"}), ("all", {"good", "bad", "cut"})]
)
def test_keep_containers(make_bench, containers, keep: str, kept: set[str]) -> None:
    bench = make_bench(keep_containers=keep)
    good, bad, cut = bench.sh(WRITE), bench.sh("exit 1"), bench.sh("sleep 600")
    bench.running(cut)
    bench.session.cancel([cut], "enough")
    bench.wait([good, bad, cut])
    bench.close()
    names = {"good": good.backend_id, "bad": bad.backend_id, "cut": cut.backend_id}
    assert set(containers(bench.run_id)) == {names[one] for one in kept}
    assert len(bench.session.find_leftovers(bench.run_id)) == len(kept)
    assert len(bench.session.remove_leftovers(bench.run_id)) == len(kept)
    assert containers(bench.run_id) == []


# ---- while they run --------------------------------------------------------------------------


def test_who_ignores_sigterm_is_killed_within_the_grace_period(make_bench) -> None:
    bench = make_bench(stop_grace=1.0)
    handle = bench.sh("trap '' TERM; echo ready; while true; do sleep 1; done", init=False)
    while bench.session.read_log(handle, "stdout", 0, 100) != b"ready\n":
        bench.wait([handle], lambda status: not status.state.ended)
    bench.session.cancel([handle], "the user wishes it")
    status = bench.status(handle)
    assert (status.state, status.message) == (JobState.CANCELLED, "the user wishes it")
    assert status.exit_code == 137


def test_who_hears_sigterm_may_tidy_up(bench) -> None:
    handle = bench.sh("trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.1; done")
    while bench.session.read_log(handle, "stdout", 0, 100) != b"ready\n":
        bench.wait([handle], lambda status: not status.state.ended)
    bench.session.cancel([handle], "enough")
    assert bench.status(handle).state is JobState.CANCELLED
    assert bench.log(handle, "stdout") == b"ready\nbye\n"


def test_a_script_has_the_grace_period_too(bench) -> None:
    words = "trap 'sleep 1; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    handle = bench.start({}, objective=ScriptObjective(("/bin/sh", "-c", words)))
    while bench.session.read_log(handle, "stdout", 0, 100) != b"ready\n":
        bench.wait([handle], lambda status: not status.state.ended)
    bench.session.cancel([handle], "enough")
    assert bench.status(handle).state is JobState.CANCELLED
    assert bench.log(handle, "stdout") == b"ready\nsaved\n"


@pytest.mark.parametrize("files", ["copy", "mount"])
def test_logs_and_progress_while_a_function_runs(make_bench, files: str) -> None:
    bench = make_bench(files=files)
    words = "echo one; echo two >&2; echo '{\"loss\": 1}' >> $AXSCHED_PROGRESS_FILE; sleep 600"
    handle = bench.start({}, objective=ScriptObjective(("/bin/sh", "-c", words)))
    deadline = time.monotonic() + 60
    line = b'{"loss": 1}\n'
    while bench.session.read_progress([handle], {handle.key: 0}).get(handle.key) != line:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert bench.log(handle, "stdout") == b"one\n"
    assert bench.session.read_log(handle, "stderr", 1, 2) == b"wo"
    after = bench.session.read_progress([handle], {handle.key: len(line)})
    assert after == {handle.key: b""}


def test_starts_are_bounded(make_bench, engine: DockerEngine, monkeypatch) -> None:
    from axsched_docker import lifecycle

    at_once, most = [], []
    real = lifecycle.start

    def start(*arguments: object) -> None:
        at_once.append(1)
        most.append(len(at_once))
        try:
            real(*arguments)
        finally:
            at_once.pop()

    monkeypatch.setattr(lifecycle, "start", start)
    bench = make_bench(start_concurrency=2, max_containers=8)
    handles = [bench.sh(WRITE) for _ in range(8)]
    bench.wait(handles)
    assert max(most) == 2


def test_no_more_containers_than_places(make_bench, containers: Callable) -> None:
    bench = make_bench(max_containers=2)
    handles = [bench.sh("sleep 600") for _ in range(4)]
    running = bench.wait(handles[:2], lambda status: status.state is JobState.RUNNING)
    assert len(running) == 2
    assert bench.session.capacity() == 0
    assert len(containers(bench.run_id)) == 2
    assert {s.state for s in bench.session.poll(handles[2:]).values()} == {JobState.QUEUED}


# ---- claims ----------------------------------------------------------------------------------


def test_a_job_whose_claim_is_taken_never_runs(make_bench, containers, tmp_path: Path) -> None:
    bench = make_bench(max_containers=1, volumes=[f"{tmp_path}:/marks"])
    first = bench.sh("sleep 600")
    second = bench.sh("touch /marks/ran")
    bench.running(first)
    assert jobfolder.try_claim(bench.folder(second), "driver: given up as lost")
    bench.session.cancel([first], "make room")
    assert bench.status(second).state is JobState.CANCELLED
    assert not (tmp_path / "ran").exists()


def test_a_container_that_somebody_removes_is_lost(bench, engine: DockerEngine) -> None:
    handle = bench.sh("sleep 600")
    bench.running(handle)
    engine.client().remove_container(handle.backend_id, force=True)
    status = bench.status(handle)
    assert status.state is JobState.LOST
    assert handle.backend_id in status.message
    assert bench.session.poll([handle])[handle.key].state is JobState.LOST
    assert not jobfolder.never_ran(bench.folder(handle))


def test_the_job_file_of_the_core_is_left_alone(bench) -> None:
    handle = bench.start({"do": "succeed"})
    bench.status(handle)
    job = json.loads((bench.folder(handle) / jobfolder.JOB).read_bytes())
    assert job["key"] == handle.key
    assert "threads" not in job
    assert PYTHON not in json.dumps(job)


@pytest.mark.parametrize("files", ["copy", "mount"])
def test_of_a_job_that_does_no_harm_nothing_is_said(
    make_bench, files: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench(files=files)
    handle = bench.start({"do": "succeed"})
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert caplog.messages == []


@pytest.mark.parametrize("files", ["copy", "mount"])
def test_containers_that_report_are_stopped_early(
    engine: DockerEngine, tmp_path: Path, files: str
) -> None:
    config = {"job_output_dir": tmp_path, "monitoring_interval": 0.5, "progress": False}
    options = {"host": engine.url, "files": files}
    with AxScheduler(early.StopsOdd(), "docker", config, options) as scheduler:
        scheduler.set_container_objective(BUSYBOX, ("sh", "-c", early.SHELL))
        early.check(scheduler)


@pytest.mark.ax
def test_ax_s_own_loop_on_docker(engine: DockerEngine, tmp_path: Path) -> None:
    container = {"container_image": BUSYBOX, "container_command": ["sh", "-c", native.SHELL]}
    native.check("docker", container, {"host": engine.url}, tmp_path)
