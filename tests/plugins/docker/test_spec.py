"""The create call, as it is shown and as it is sent; no engine is asked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from axsched_docker import DockerOptions, DockerRunner
from axsched_docker.spec import make_plan

from axsched_core.jobs import (
    ContainerObjective,
    FunctionObjective,
    JobRequest,
    Resources,
    ScriptObjective,
)

FUNCTION = FunctionObjective("f", False, (3, 11))
OWN_VOLUME = {"Type": "volume", "Target": "/axsched", "VolumeOptions": {"NoCopy": True}}


def request(objective: Any, **more: Any) -> JobRequest:
    return JobRequest("abc-1-1", 1, 1, {"x": 1}, Path("/runs/abc/jobs/1"), objective, **more)


def body(objective: Any, resources: Resources | None = None, **options: Any) -> dict[str, Any]:
    more = {"resources": resources} if resources else {}
    plan = make_plan(request(objective, **more), DockerOptions(**options))
    return dict(plan.body)


def test_a_container_gets_no_more_than_it_needs() -> None:
    made = body(ContainerObjective("img", ("run", "{params_file}")))
    assert made["Image"] == "img"
    assert made["Cmd"] == ["run", "/axsched/job/params.json"]
    assert not {"Entrypoint", "User", "WorkingDir"} & made.keys()
    assert made["HostConfig"] == {
        "Init": True,
        "LogConfig": {"Type": "json-file", "Config": {}},
        "Mounts": [OWN_VOLUME],
    }
    assert made["Labels"] == {
        "axsched.run": "abc",
        "axsched.key": "abc-1-1",
        "axsched.folder": "/runs/abc/jobs/1",
        "axsched.files": "copy",
        "axsched.kind": "container",
    }


def test_the_image_s_own_command_is_left_alone() -> None:
    assert "Cmd" not in body(ContainerObjective("img"))


def test_what_is_asked_for_is_in_the_call() -> None:
    made = body(
        FUNCTION,
        Resources(gpus=1),
        image="img",
        cpus=2,
        memory="1g",
        shm_size="1m",
        pids=9,
        network="host",
        user=1000,
        tmpfs=["/t"],
        privileged=True,
        cap_add=["SYS_PTRACE"],
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        volumes=["data:/data:ro"],
        read_only=True,
        init=False,
        log_size="1m",
    )
    assert made["User"] == "1000"
    assert made["HostConfig"] == {
        "NanoCpus": 2 * 10**9,
        "Memory": 1 << 30,
        "MemorySwap": 1 << 30,
        "DeviceRequests": [{"Count": 1, "Capabilities": [["gpu"]]}],
        "ShmSize": 1 << 20,
        "PidsLimit": 9,
        "NetworkMode": "host",
        "Mounts": [
            {"Type": "volume", "Source": "data", "Target": "/data", "ReadOnly": True},
            OWN_VOLUME,
        ],
        "Tmpfs": {"/t": ""},
        "ReadonlyRootfs": True,
        "CapAdd": ["SYS_PTRACE"],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": True,
        "LogConfig": {"Type": "json-file", "Config": {}},
    }


def test_mounted_files_belong_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1000)
    monkeypatch.setattr("os.getgid", lambda: 100)
    made = body(FUNCTION, image="img", files="mount")
    assert made["User"] == "1000:100"
    box = "/runs/abc/jobs/1/box"
    assert [(m["Source"], m["Target"], m["ReadOnly"]) for m in made["HostConfig"]["Mounts"]] == [
        (box, "/axsched", True),
        (f"{box}/job", "/axsched/job", False),
    ]


def test_a_script_s_command_is_that_of_the_container() -> None:
    objective = ScriptObjective(
        (sys.executable, "/home/me/a b.py", "--fast"), script="/home/me/a b.py"
    )
    plan = make_plan(request(objective), DockerOptions(image="img", python="python3.12", cpus=2.5))
    assert plan.job_changes == {
        "argv": ["python3.12", "/axsched/a b.py", "--fast"],
        "threads": 2,
        "stop_grace": 4.5,
    }
    assert plan.body["Entrypoint"] == ["python3.12"]


def test_the_preview_is_the_call_without_secrets() -> None:
    objective = ContainerObjective("img", ("run",), {"env_vars": {"AXSCHED_TOKEN": "geheim"}})
    runner = DockerRunner(env={"PASSWORD": "auch geheim"}, memory="1g")
    shown = runner.axsched_preview([request(objective)])["abc-1-1"]
    first, _, rest = shown.partition("\n")
    assert first == "POST /containers/create?name=axsched-abc-1-1"
    call, _, last = rest.rpartition("\n")
    made = json.loads(call)
    assert "geheim" not in shown
    assert {"PASSWORD=***", "AXSCHED_TOKEN=***"} <= set(made["Env"])
    assert "AXSCHED_RESULT_FILE=/axsched/job/result.json" in made["Env"]
    assert made["HostConfig"]["Memory"] == 1 << 30
    assert "/runs/abc/jobs/1" in last


def test_the_preview_says_what_is_refused() -> None:
    runner = DockerRunner()
    shown = runner.axsched_preview([request(FUNCTION)])["abc-1-1"]
    assert shown.startswith("refused: A function needs an image")
    shown = runner.axsched_preview([request(ContainerObjective("img", None, {"cpu": 1}))])
    assert "Did you mean 'cpus'?" in shown["abc-1-1"]
