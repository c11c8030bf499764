"""Options: what is taken, what is refused and in which words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from axsched_docker import DockerOptions, DockerRunner
from axsched_docker.converters import Mount
from axsched_docker.spec import check_objective

from axsched_core.errors import InvalidInput
from axsched_core.jobs import ContainerObjective, FunctionObjective, Objective, ScriptObjective
from axsched_core.runners import discovery

README = Path(__file__).parents[3] / "plugins" / "axsched_docker" / "README.md"


def options(**values) -> DockerOptions:
    return discovery.load("docker").options(values)


@pytest.mark.parametrize(
    ("given", "size"),
    [(1024, 1024), ("512m", 512 << 20), ("2g", 2 << 30), ("1.5GiB", 3 << 29), ("64 kb", 65536)],
)
def test_sizes(given, size: int) -> None:
    assert options(memory=given).memory == size


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"memory": "lots"}, "'lots' is not a size"),
        ({"memory": 0}, "0 is not a size"),
        ({"memory": True}, "True is not a size"),
        ({"cpus": 0}, "'cpus' must be > 0"),
        ({"cpus": "two"}, "'cpus' must be float, not str"),
        ({"cpus": float("inf")}, "cpus=inf: give a number"),
        ({"cpus": float("nan")}, "'cpus' must be > 0: nan"),
        ({"cpus": 0.001}, "cpus=0.001: give a number from 0.01"),
        ({"memory": "9" * 400 + "T"}, "more than any machine has"),
        ({"memory": 1 << 63}, "is not a size"),
        ({"pids": 1 << 40}, "'pids' must be <"),
        ({"timeout": float("inf")}, "'timeout' must be <="),
        ({"user": "a b"}, "user='a b'"),
        ({"user": ""}, "user=''"),
        ({"user": True}, "user=True"),
        ({"user": ["me"]}, "user=['me']"),
        ({"network": "my net"}, "network='my net'"),
        ({"network": ""}, "network=''"),
        ({"working_dir": "app"}, "no absolute path"),
        ({"cap_add": ["SYS_PTRACK"]}, "Did you mean 'SYS_PTRACE'?"),
        ({"cap_drop": "ALL"}, "must be a list of strings"),
        ({"security_opt": ["no-new-privilege"]}, "Did you mean 'no-new-privileges'?"),
        ({"tmpfs": {"/t": "size=lots"}}, "'size=lots' is no option"),
        ({"tmpfs": {"/t": "noexecc"}}, "Did you mean 'noexec'?"),
        ({"env": {"A": "a\0b"}}, "the character NUL"),
        ({"env": {"A\0": "b"}}, "is no name"),
        ({"gpus": [""]}, "a device's id is empty"),
        ({"entrypoint": "a\0"}, "must be a list of strings"),
        ({"image": "Upper/Case:1"}, "is no image's name"),
        ({"image": "a b"}, "is no image's name"),
        ({"image": ""}, "is no image's name"),
        ({"max_containers": 0}, "'max_containers' must be > 0"),
        ({"pull": "sometimes"}, "'pull' must be in"),
        ({"files": "ftp"}, "'files' must be in"),
        ({"gpus": "some"}, "gpus='some'"),
        ({"env": ["A=1"]}, "a mapping from names"),
        ({"env": {"A": None}}, "the value of A must be text"),
        ({"env": {"A": "1"}, "env_vars": {"A": "2"}}, "do not agree about A"),
        ({"volumes": "/data:/data"}, "give a mapping or a list"),
        ({"volumes": ["/data"]}, "is not 'source:target'"),
        ({"volumes": ["/data:data"]}, "must be an absolute path"),
        ({"volumes": ["/data:/data:z"]}, "'z', not 'ro' or 'rw'"),
        ({"volumes": ["a b:/data"]}, "neither a path"),
        ({"volumes": ["/a:/data", "/b:/data/"]}, "more than one for /data"),
        ({"volumes": ["/a:/axsched"]}, "the job's own files are in /axsched"),
        ({"volumes": ["/a:/axsched/job:ro"]}, "the job's own files are in /axsched"),
        ({"volumes": {"/a": "//axsched/./job/"}}, "the job's own files are in /axsched"),
        ({"volumes": ["a1:/data/../axsched/job/sub"]}, "the job's own files are in /axsched"),
        ({"volumes": ["/a:/"]}, "the job's own files are in /axsched"),
        ({"volumes": ["/a:/data/.."]}, "the job's own files are in /axsched"),
        ({"volumes": ["/a:/data", "/b:/x/../data"]}, "more than one for /data"),
        ({"volumes": ["/a:/data"], "tmpfs": ["/data/"]}, "more than one for /data"),
        ({"tmpfs": ["/axsched/job"]}, "the job's own files are in /axsched"),
        ({"tmpfs": {"/": "size=1m"}}, "the job's own files are in /axsched"),
        ({"tmpfs": ["tmp"]}, "no absolute path"),
        ({"entrypoint": []}, "names no program"),
        ({"host": "tcp://x:1", "context": "y"}, "two ways to say the same"),
        ({"tls": {"ca": "x"}}, "tls goes with host"),
        ({"host": "tcp://x:1", "tls": {"key_file": "x"}}, "not ['key_file']"),
        ({"stop_grace": 60}, "'stop_grace' must be <= 8"),
        ({"imge": "x"}, "Did you mean 'image'?"),
    ],
)
def test_what_is_refused(values, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        options(**values)
    assert words in str(refused.value)
    assert "runner_options of 'docker'" in str(refused.value)


def test_a_secret_is_not_in_the_words_of_a_refusal() -> None:
    with pytest.raises(InvalidInput) as refused:
        options(env={"TOKEN": b"geheim"})
    assert "geheim" not in str(refused.value)


def test_volumes_in_every_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    wanted = (
        Mount(str(tmp_path / "data"), "/data", read_only=True),
        Mount("/home/me/x", "/x"),
        Mount("cache", "/cache"),
    )
    assert options(volumes=["./data:/data:ro", "~/x:/x:rw", "cache:/cache/"]).volumes == wanted
    mapping = {"./data": {"bind": "/data", "mode": "ro"}, "~/x": "/x", "cache": "/cache"}
    assert options(volumes=mapping).volumes == wanted
    assert [one.kind for one in wanted] == ["bind", "bind", "volume"]


def test_a_place_whose_name_only_begins_like_ours_may_be_mounted() -> None:
    given = options(volumes=["/a:/axsched-data"], tmpfs=["/data/axsched"])
    assert [one.target for one in given.volumes] == ["/axsched-data"]
    assert given.tmpfs == {"/data/axsched": ""}


@pytest.mark.parametrize(
    "name",
    [
        "sim",
        "sim:1.2",
        "my/simulation:latest",
        "ghcr.io/Org/x".lower(),
        "registry:5000/a/b-c_d.e:V1",
        "localhost/x",
        "127.0.0.1:1/none:1",
        "Registry.Example.com:5000/x",
        "x@sha256:" + "0" * 64,
        "sha256:" + "a" * 64,
        "0123456789ab",
    ],
)
def test_images_names(name: str) -> None:
    assert options(image=name).image == name


def test_what_docker_takes_is_taken() -> None:
    given = options(
        cpus=0.01,
        user=1000,
        network="container:x",
        cap_add=["CAP_SYS_PTRACE", "all"],
        security_opt=["seccomp=unconfined", "label:disable", "no-new-privileges"],
        tmpfs={"/t": "size=64m,mode=1777,uid=1000,noexec", "/u": "size=10%"},
    )
    assert (given.user, given.cap_add) == ("1000", ("CAP_SYS_PTRACE", "all"))


def test_gpus() -> None:
    capabilities = {"Capabilities": [["gpu"]]}
    assert options(gpus=2).gpus == {"Count": 2, **capabilities}
    assert options(gpus="all").gpus == {"Count": -1, **capabilities}
    assert options(gpus=["0", "GPU-1"]).gpus == {"DeviceIDs": ["0", "GPU-1"], **capabilities}


def test_options_of_an_objective() -> None:
    runner = options(memory="1g", env={"A": 1, "B": 2}, labels={"l": "1"}, network="none")
    chosen = runner.for_objective({"memory": "2g", "env_vars": {"B": "3"}, "labels": {"m": "2"}})
    assert (chosen.memory, chosen.network) == (2 << 30, "none")
    assert chosen.environment == {"A": "1", "B": "3"}
    assert chosen.labels == {"l": "1", "m": "2"}
    with pytest.raises(InvalidInput, match="container_options: unknown key 'image'"):
        runner.for_objective({"image": "x"})


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (FunctionObjective("f", False, (3, 11)), "A function needs an image"),
        (ScriptObjective(("x",)), "A script needs an image"),
        (ContainerObjective("x", None, {"memry": 1}), "Did you mean 'memory'?"),
        (ContainerObjective("Bad", None), "no image's name"),
    ],
)
def test_an_objective_that_can_never_run(objective: Objective, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_objective(objective, DockerOptions())
    assert words in str(refused.value)


def test_the_runner_takes_options_by_name() -> None:
    assert "image='x'" in repr(DockerRunner(image="x"))
    with pytest.raises(InvalidInput, match="DockerRunner: unknown key 'imge'"):
        DockerRunner(imge="x")


def test_environment_variables_are_secret() -> None:
    secret = {one.name for one in attrs.fields(DockerOptions) if one.metadata.get("secret")}
    assert secret == {"env", "env_vars"}


def test_every_option_is_in_the_readme() -> None:
    text = README.read_text()
    for one in attrs.fields(DockerOptions):
        assert f"`{one.name}`" in text, one.name


def test_listing_runners_loads_no_docker_sdk() -> None:
    words = "import sys, axsched_docker.plugin; print('docker' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n", os.fspath(ran.stderr)
