"""The options: what has a meaning, what is refused, and what sbatch is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from axsched_slurm import SlurmRunner, containers, script
from axsched_slurm.options import SlurmOptions, seconds_of

from axsched_core.errors import InvalidInput
from axsched_core.jobs import (
    ContainerObjective,
    FunctionObjective,
    JobRequest,
    Objective,
    Resources,
    ScriptObjective,
)
from axsched_core.runners import discovery

SCRIPT = ScriptObjective(("/bin/true",))


def options(**given: Any) -> SlurmOptions:
    made = discovery.load("slurm").options(given)
    assert isinstance(made, SlurmOptions)
    return made


def request(objective: Objective | None = SCRIPT, **resources: Any) -> JobRequest:
    return JobRequest("r-1-1", 1, 1, {}, Path("/run/jobs/1"), objective, Resources(**resources))


def wants(given: SlurmOptions, one: JobRequest) -> set[str]:
    return set(script.prepare(one, given).wants)


def test_all_options_reach_sbatch() -> None:
    given = options(
        partition="main",
        time_limit="00:30:00",
        memory="4G",
        cpus_per_task=4,
        gpus=2,
        gres="shard:1",
        nodes=2,
        ntasks=8,
        account="physics",
        qos="normal",
        constraint="avx&ib",
        sbatch_options={
            "exclusive": True,
            "mail_type": "FAIL",
            "--nice": 10,
            "x": "n1",
            "H": False,
        },
    )
    assert script.prepare(request(), given).wants == (
        *("--partition=main", "--time=00:30:00", "--mem=4G", "--cpus-per-task=4", "--gpus=2"),
        *("--gres=shard:1", "--nodes=2", "--ntasks=8", "--account=physics", "--qos=normal"),
        *("--constraint=avx&ib", "--exclusive", "--mail-type=FAIL", "--nice=10", "--exclude=n1"),
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"partitoin": "x"}, "Did you mean 'partition'"),
        ({"time_limit": 30}, "time_limit"),
        ({"time_limit": "soon"}, "is no time of Slurm's"),
        ({"time_limit": "0:00:00"}, "is no time"),
        ({"memory": "4"}, "write '4G'"),
        ({"memory": "4 GB"}, "write '4G'"),
        ({"cpus_per_task": 0}, "from 1 on"),
        ({"gpus": "many"}, "'type:number'"),
        ({"gpus": True}, "'type:number'"),
        ({"sbatch_options": {"job-name": "mine"}}, "the runner's own: it tells"),
        ({"sbatch_options": {"J": "mine"}}, "the runner's own: it tells"),
        ({"sbatch_options": {"--array": "0-9"}}, "batches are made by the runner"),
        ({"sbatch_options": {"time": "1:00:00"}}, "set the option time_limit"),
        ({"sbatch_options": {"c": 4}}, "set the option cpus_per_task"),
        ({"sbatch_options": ["--output=x"]}, "the runner's own"),
        ({"sbatch_options": {"a b": 1}}, "no name of an option"),
        ({"sbatch_options": "--exclusive"}, "must be a mapping"),
        ({"export": ["A=1"]}, "no name of an environment variable"),
        ({"patience": 0}, "patience"),
        ({"partition": ""}, "a word of Slurm's"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match="slurm") as caught:
        options(**given)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [("90", 5400), ("1:30", 90), ("2:00:00", 7200), ("1-12", 129600), ("1-0:30", 88200),
     ("1-0:0:5", 86405)],
)  # fmt: skip
def test_slurms_times(words: str, seconds: int) -> None:
    assert seconds_of(words) == seconds


def test_options_survive_what_a_journal_does_to_them() -> None:
    given = options(gpus="a100:2", sbatch_options={"exclusive": True}, setup="umask 77", export="A")
    written = attrs.asdict(given)
    written = {k: list(v) if isinstance(v, tuple) else v for k, v in written.items()}
    assert options(**written) == given


def test_a_runner_by_hand_takes_the_same_options() -> None:
    config = {"modules": ["gcc"], "singularity_path": "/opt/singularity", "job_dir": "/scratch"}
    runner = SlurmRunner(partition="main", config=config)
    assert runner._options == options(
        partition="main", modules=["gcc"], container_engine="/opt/singularity", job_dir="/scratch"
    )
    with pytest.raises(InvalidInput, match="Did you mean 'partition'"):
        SlurmRunner(partitio="main")


@pytest.mark.parametrize(
    ("limit", "own", "core", "asked"),
    [
        (None, None, 86400, None),  # the core's general limit is none of Slurm's business
        (None, 600, 600, "11"),
        ("0:30:00", None, 86400, "0:30:00"),
        ("0:30:00", None, 600, "11"),
        ("0:30:00", 3600, 3600, "0:30:00"),
    ],
)
def test_slurm_is_never_asked_for_less_time_than_the_worker_allows(
    limit: str | None, own: float | None, core: float, asked: str | None
) -> None:
    one = request(ScriptObjective(("/bin/true",), time_limit=own), time_limit=core)
    given = [word for word in wants(options(time_limit=limit), one) if "--time" in word]
    assert given == ([] if asked is None else [f"--time={asked}"])


def test_a_jobs_own_resources_win() -> None:
    given = options(memory="4G", cpus_per_task=4, gpus=1)
    own = wants(given, request(cpus=2, memory_bytes=1 << 20, gpus=0))
    assert own == {"--mem=1024K", "--cpus-per-task=2", "--gpus=0"}
    image = ContainerObjective("i", options={"cpus": 2.5, "memory": "1g", "gpus": 2})
    assert wants(given, request(image)) == {"--mem=1048576K", "--cpus-per-task=3", "--gpus=2"}


def test_no_objective_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no objective"):
        script.prepare(request(None), options())


def test_no_secret_is_on_a_command_line_or_shown() -> None:
    one = request(ScriptObjective(("/bin/true",), {"TOKEN": "hush"}))
    prepared = script.prepare(one, options(export=["PATH"]))
    command = script.command("n", prepared, options(export=["PATH"]), Path("s"), None)
    assert "--export=PATH,TOKEN" in command
    assert "hush" not in " ".join(command) + repr(prepared)
    assert script.environment(prepared)["TOKEN"] == "hush"
    shown = SlurmRunner().axsched_preview([one])["r-1-1"]
    assert "TOKEN=***" in shown
    assert "hush" not in shown


def test_a_preview_is_the_script_and_the_command() -> None:
    runner = SlurmRunner(partition="main", modules=["gcc/12"], setup="ulimit -c 0")
    shown = runner.axsched_preview([request(FunctionObjective("mine", True, (3, 11)))])["r-1-1"]
    assert shown.startswith("sbatch --parsable --job-name=r-1-1 --output=/dev/null --export=ALL ")
    for line in ("#!/bin/bash", "module load gcc/12 || exit 67", "ulimit -c 0"):
        assert line in shown.splitlines()
    assert "which runs: mine(**parameters)" in shown
    refused = runner.axsched_preview([request(ContainerObjective("i", options={"cpu": 1}))])[
        "r-1-1"
    ]
    assert "refused: container_options: unknown key 'cpu'. Did you mean 'cpus'?" in refused


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("python:3.12", "docker://python:3.12"),
        ("oras://x/y:1", "oras://x/y:1"),
        ("/images/mine.sif", "/images/mine.sif"),
        ("/", "/"),
    ],
)
def test_names_of_images(image: str, name: str) -> None:
    assert containers.image_name(image) == name


def test_engines() -> None:
    one = request(ContainerObjective("x", options={"gpus": 1, "args": ["--cleanenv"]}))
    found = containers.command_line(one, None)
    assert found[:2] == ("/bin/sh", "-c")
    assert found[4:] == (
        *("run", "--bind", "/run/jobs/1:/run/jobs/1", "--pwd", "/run/jobs/1", "--nv"),
        *("--cleanenv", "docker://x"),
    )
    with pytest.raises(InvalidInput, match="give the container_command"):
        containers.command_line(one, "/usr/bin/ch-run")
