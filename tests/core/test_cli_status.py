"""`axsched status`, `trials` and `show`: what they say of a run, and that they only read."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from axsched_core import AxScheduler
from axsched_core.cli import summary
from axsched_core.jobs import Cause, JobRequest, JobState, JobStatus
from axsched_core.journal import lines
from axsched_core.journal.lock import RunLock
from axsched_core.journal.view import Run
from axsched_core.testing import RandomSearch
from support.command_line import axsched, document, failure, job, success, trial, write_journal
from support.toy import ToyRunner

HOSTILE = "[red]x[/red] \x1b[31m\x1b]0;title\x07 \x9b5m \u202eback :smile: \x00"
"""Markup, terminal sequences, a change of direction."""


def sometimes(request: JobRequest) -> Any:
    """Trial 1 fails; of the others 3 is the best."""
    if request.trial_index == 1:
        return JobStatus(JobState.FAILED, Cause.EXIT_CODE, "it said\nexit code 3", exit_code=3)
    return {"loss": 5.0 - request.trial_index}


@pytest.fixture
def finished(make: Callable[..., AxScheduler]) -> AxScheduler:
    scheduler = make(RandomSearch({"x": (0, 1), "y": (0, 1)}, seed=1), ToyRunner(sometimes))
    scheduler.run_optimization(max_trials=4)
    scheduler.close()
    return scheduler


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


# ---- status --------------------------------------------------------------------------------


def test_status_of_a_finished_run(finished: AxScheduler):
    before = content(finished.run_directory)
    result = axsched("status", finished.run_directory)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "State finished" in said
    assert "3 of 4 trials have a result, 1 failed" in said
    assert "loss = 2 (minimized), trial 3" in said
    assert f"x = {finished.trials[3].parameters['x']:.6g}" in said
    assert "1 x EXIT_CODE last: trial 1: it said ... exit code 3" in said
    assert str(finished.run_directory) in said
    assert "axsched resume" not in said
    assert content(finished.run_directory) == before


def test_status_as_json(finished: AxScheduler):
    found = document("status", finished.run_directory)
    assert found["schema"] == summary.SCHEMA
    assert (found["state"], found["trials"], found["to_make"]) == ("finished", 4, 0)
    assert found["counts"] == {"SUCCEEDED": 3, "FAILED": 1}
    assert found["failures"] == {"EXIT_CODE": 1}
    assert found["best"]["trial"] == 3
    assert found["best"]["objective"] == 2.0
    assert found["best"]["parameters"] == finished.trials[3].parameters
    assert found["best"]["results"] == {"loss": {"mean": 2.0, "sem": None}}
    assert found["next_command"] is None
    assert found["driver"] is None


def test_status_of_a_run_that_is_driven_and_then_left(make: Callable[..., AxScheduler]):
    scheduler = make(RandomSearch({"x": (0, 1)}), ToyRunner(lambda request: None), on_exit="leave")
    scheduler.run_trial(scheduler.get_next_trial())
    folder = scheduler.run_directory
    living = document("status", folder)
    assert (living["state"], living["driver"]["pid"]) == ("running", os.getpid())
    assert (living["next_command"], living["driver_died"]) == (None, False)
    assert f"pid {os.getpid()}" in axsched("status", folder).stdout
    scheduler.close()
    left = document("status", folder)
    assert (left["state"], left["driver"], left["driver_died"]) == ("interrupted", None, False)
    assert left["next_command"] == f"axsched resume {folder}"
    assert f"axsched resume {folder}" in axsched("status", folder).stdout


def test_status_of_a_run_whose_driver_has_died(finished: AxScheduler):
    folder = finished.run_directory
    lock = RunLock(folder)
    lock.acquire()
    held = (folder / "lock.json").read_bytes()
    lock.release()
    dead = json.loads(held) | {"pid": 2**22 + 1}  # no process can have it
    (folder / "lock.json").write_text(json.dumps(dead))
    with (folder / lines.NAME).open("a") as file:
        file.write('{"k":"call","t":9e9,"to_make":2,"host":"node-7"}\n')
    found = document("status", folder)
    assert (found["state"], found["driver_died"]) == ("interrupted", True)
    said = axsched("status", folder).stdout
    assert "its driver has died (on node-7)" in said
    assert "3 of 6 trials have a result, 1 failed, 2 not made yet" in said


def test_status_of_a_folder_lists_the_newest_first(tmp_path: Path):
    for name, began in (("older", 10.0), ("newest", 30.0), ("middle", 20.0)):
        path = write_journal(tmp_path / name, trial(0, x=1.0), *job(0), *success(0, loss=began))
        text = (path / lines.NAME).read_text()
        (path / lines.NAME).write_text(text.replace('"t": 5.0', f'"t": {began}', 1))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / lines.NAME).write_text('{"k":"run","t":5.0}\n')
    (tmp_path / "no run").mkdir()
    listed = axsched("status", tmp_path)
    assert listed.exit_code == 0, listed.output
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert names == ["newest", "middle", "older", "damaged"]
    assert "1 of 1 trial has a result; best loss = 30" in listed.stdout
    runs = document("status", tmp_path)["runs"]
    assert [Path(one["path"]).name for one in runs] == names
    assert [one["state"] for one in runs] == ["finished"] * 3 + ["unreadable"]
    assert "line 1" in runs[-1]["problem"]


def test_status_of_an_empty_folder(tmp_path: Path):
    result = axsched("status", tmp_path)
    assert result.exit_code == 0
    assert result.stdout == f"There is no run in {tmp_path}.\n"
    assert document("status", tmp_path)["runs"] == []


def test_status_of_a_damaged_run_names_the_command(finished: AxScheduler):
    with (finished.run_directory / lines.NAME).open("a") as file:
        file.write("{damage\n" + '{"k":"ended","t":1}\n')
    result = axsched("status", finished.run_directory)
    assert result.exit_code == 1
    assert "axsched salvage" in result.stderr
    assert "Traceback" not in result.output


def test_rate_and_time_left(tmp_path: Path):
    call = {"k": "call", "t": 100.0, "to_make": 10, "host": "here"}
    made = [{**trial(i, x=1.0), "counted": True} for i in range(4)]
    ended = [line for i in range(2) for line in (*job(i), *success(i, t=110.0, loss=1.0))]
    run = Run(write_journal(tmp_path / "r", call, *made, *ended))
    run.look()
    # Without a driver the last line is the last news.
    assert summary.trials_per_second(run, now=1e9) == pytest.approx(2 / 10)
    assert summary.seconds_left(run, now=1e9) is None
    lock = RunLock(run.path)
    lock.acquire()
    try:
        run.look()
        assert summary.trials_per_second(run, now=120.0) == pytest.approx(2 / 20)
        # Two that run, and six that are not made.
        assert summary.seconds_left(run, now=120.0) == pytest.approx(8 * 10)
    finally:
        lock.release()


# ---- trials --------------------------------------------------------------------------------


def test_trials_as_a_table(finished: AxScheduler):
    result = axsched("trials", finished.run_directory)
    assert result.exit_code == 0, result.output
    head, _, *rows = [line.split() for line in result.stdout.splitlines() if line.strip()]
    names = ("trial", "state", "cause", "metrics", "parameters", "attempts", "duration", "host")
    assert tuple(head) == names
    assert [row[:2] for row in rows] == [
        ["0", "SUCCEEDED"],
        ["1", "FAILED"],
        ["2", "SUCCEEDED"],
        ["3", "SUCCEEDED"],
    ]
    assert "loss=2" in rows[3]
    assert f"x={finished.trials[3].parameters['x']:.6g}" in rows[3]


def test_only_failed_trials_with_the_reason(finished: AxScheduler):
    result = axsched("trials", finished.run_directory, "--failed")
    assert "it said exit code 3" in result.stdout
    assert "SUCCEEDED" not in result.stdout
    found = document("trials", finished.run_directory, "--failed")["trials"]
    assert [one["trial"] for one in found] == [1]


def test_trials_as_csv(finished: AxScheduler):
    result = axsched("trials", finished.run_directory, "--csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["trial_index"] for row in rows] == ["0", "1", "2", "3"]
    for row, known in zip(rows, finished.trials.values(), strict=True):
        assert float(row["x"]) == known.parameters["x"]
        assert row["state"] == known.state
        assert row["loss"] == (str(known.results["loss"][0]) if known.results else "")
    assert rows[1]["message"] == finished.trials[1].message
    assert rows[1]["cause"] == "EXIT_CODE"


def test_trials_as_json(finished: AxScheduler):
    found = document("trials", finished.run_directory)
    assert found["run"] == str(finished.run_directory)
    assert [one["objective"] for one in found["trials"]] == [5.0, None, 3.0, 2.0]
    failed = found["trials"][1]
    assert (failed["cause"], failed["results"]) == ("EXIT_CODE", None)
    assert failed["attempts"][0]["exit_code"] == 3
    assert failed["folder"] == str(finished.run_directory / "jobs" / "00001-1")


@pytest.mark.parametrize("key", ["loss", "objective"])
def test_sorting_puts_trials_without_a_value_last(finished: AxScheduler, key: str):
    up = document("trials", finished.run_directory, "--sort", key)["trials"]
    down = document("trials", finished.run_directory, "--sort", key, "--reverse")["trials"]
    assert [one["trial"] for one in up] == [3, 2, 0, 1]
    assert [one["trial"] for one in down] == [0, 2, 3, 1]


def test_sorting_by_a_parameter_of_several_types(tmp_path: Path):
    values = [2, "b", 1.5, "a", True]
    run = write_journal(tmp_path / "r", *[trial(i, k=value) for i, value in enumerate(values)])
    found = document("trials", run, "--sort", "k")["trials"]
    assert [one["parameters"]["k"] for one in found] == [True, 1.5, 2, "a", "b"]


def test_sorting_by_what_is_not_there(finished: AxScheduler):
    result = axsched("trials", finished.run_directory, "--sort", "los")
    assert result.exit_code == 1
    assert "Cannot sort by 'los'. Did you mean 'loss'?" in result.stderr


def test_csv_and_json_together_are_wrong_usage(finished: AxScheduler):
    assert axsched("trials", finished.run_directory, "--csv", "--json").exit_code == 2


def test_no_trials_yet(tmp_path: Path):
    run = write_journal(tmp_path / "r")
    assert axsched("trials", run).stdout == "The run has no trials yet.\n"
    assert axsched("trials", run, "--failed").stdout == "No trial has failed.\n"
    assert "0 of 0 trials have a result" in axsched("status", run).stdout


# ---- show ----------------------------------------------------------------------------------


def test_show_tells_each_attempt(tmp_path: Path):
    first = {"k": "attempt", "t": 9.0, "i": 0, "n": 1, "state": "FAILED", "cause": "NODE_FAIL"}
    again = {**first, "message": "the node died", "word": "NODE_FAIL", "again": True}
    last = {**first, "n": 2, "cause": "SIGNAL", "message": "", "signal": 9, "rss": 3 << 20}
    last |= {"start": 10.0, "end": 75.0}
    said = {"state": "FAILED", "cause": "SIGNAL", "message": "killed"}
    end = {"k": "outcome", "t": 80.0, "i": 0, **said}
    lines_ = [trial(0, x=0.25), *job(0), again, *job(0, 2), last, end]
    run = write_journal(tmp_path / "r", *lines_)
    result = axsched("show", run, 0)
    assert result.exit_code == 0, result.output
    said_ = " ".join(result.stdout.split())
    assert "Trial 0 of r: FAILED (SIGNAL) Message killed Parameters x = 0.25" in said_
    assert "Attempt 1: FAILED, tried again cause NODE_FAIL message the node died" in said_
    assert "Attempt 2: FAILED cause SIGNAL signal 9" in said_
    assert "ran for 1 min 5 s host node-1 memory 3.0 MiB" in said_
    assert str(run / "jobs" / "00000-2") in said_
    assert "Its folder is not here." in said_
    attempts = document("show", run, 0)["attempts"]
    assert [one["cause"] for one in attempts] == ["NODE_FAIL", "SIGNAL"]
    assert [one["seconds"] for one in attempts] == [1.0, 65.0]


def test_show_ends_with_the_last_lines_of_the_output(tmp_path: Path):
    run = write_journal(tmp_path / "r", trial(0, x=1.0), *job(0), *failure(0, "EXCEPTION", "no"))
    folder = run / "jobs" / "00000-1"
    folder.mkdir(parents=True)
    (folder / "stdout.log").write_text("".join(f"line {i}\n" for i in range(50)) + "torn")
    (folder / "stderr.log").write_text("\x1b[31mred\x1b[0m\n")
    said = axsched("show", run, 0, "-n", 2).stdout
    assert "End of stdout.log\n  line 49\n  torn\n" in said
    assert "End of stderr.log\n  red\n" in said


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["7"], 1, "has no trial 7. Its last one is 0."),
        (["x"], 2, "'x' is not the index of a trial"),
        (["-1"], 2, "No such option"),
        ([], 2, "is not the index of a trial"),
    ],
)
def test_show_of_no_trial(tmp_path: Path, words: list[str], status: int, said: str):
    run = write_journal(tmp_path / "r", trial(0, x=1.0))
    result = axsched("show", run, *words)
    assert (result.exit_code, result.stdout) == (status, "")
    assert said in result.stderr


# ---- what jobs and journals say is text ------------------------------------------------------


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A run in which every text is hostile."""
    waits = {"k": "waiting", "t": 9.0, "i": 2, "n": 1, "message": HOSTILE, "remedy": HOSTILE}
    host = {"k": "running", "t": 9.0, "i": 1, "n": 1, "host": HOSTILE, "start": 8.0}
    best = [trial(0, **{HOSTILE: HOSTILE}), *job(0), *success(0, **{HOSTILE: 1.0, "loss": 1.0})]
    failed = [trial(1, x=HOSTILE), *job(1), host, *failure(1, "EXCEPTION", HOSTILE)]
    run = tmp_path / "r"
    folder = run / "jobs" / "00001-1"
    folder.mkdir(parents=True)
    (folder / "stdout.log").write_text(HOSTILE + "\n")
    return write_journal(run, *best, *failed, trial(2, x=1.0), *job(2), waits)


COMMANDS = (
    ["status"],
    ["trials"],
    ["trials", "--failed"],
    ["trials", "--csv"],
    ["trials", "--json"],
    ["watch", "--once"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_text_controls_the_terminal(hostile: Path, command: list[str]):
    check_harmless(axsched(command[0], hostile, *command[1:]), command)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_no_text_of_a_trial_controls_the_terminal(hostile: Path, index: int):
    check_harmless(axsched("show", hostile, index), ["show"])


def check_harmless(result: Any, command: list[str]) -> None:
    assert result.exit_code == 0, result.output
    allowed = "\n\t"
    bad = {c for c in result.stdout if not c.isprintable() and c not in allowed}
    assert not bad, (command, bad)
    assert "[red]x[/red]" in result.stdout
    assert ":smile:" in result.stdout


def test_a_name_of_a_folder_is_text_too(tmp_path: Path):
    write_journal(tmp_path / "r\x1b[31mred")
    for given in (tmp_path, tmp_path / "r\x1b[31mred"):
        result = axsched("status", given)
        assert result.exit_code == 0, result.output
        assert "r\\x1b[31mred" in result.stdout
        assert "\x1b" not in result.stdout


def test_an_error_is_text_too(tmp_path: Path):
    result = axsched("trials", tmp_path / "no\x1b[31mrun")
    assert result.exit_code == 1
    assert "no\\x1b[31mrun is not a run directory" in result.stderr
    assert "\x1b" not in result.stderr


def test_numbers_that_json_does_not_know(tmp_path: Path):
    lines_ = [trial(0, x=float("inf")), *job(0), *success(0, loss=float("nan"))]
    run = write_journal(tmp_path / "r", *lines_)
    found = document("show", run, 0)
    assert found["parameters"] == {"x": None}
    assert found["results"] == {"loss": {"mean": None, "sem": None}}


# ---- the schema ----------------------------------------------------------------------------


def test_each_key_of_the_documents_is_in_the_page(finished: AxScheduler):
    page = (Path(__file__).parents[2] / "docs" / "command_line.md").read_text()
    run, shown = (
        document("status", finished.run_directory),
        document("show", finished.run_directory, 1),
    )
    parts = {"run": run, "trial": shown, "attempt": shown["attempts"][0]}
    for name, part in parts.items():
        section = page.split(f"### A {name}\n" if name != "attempt" else "### An attempt\n")[1]
        section = section.split("\n### ")[0].split("\n## ")[0]
        told = {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}
        assert told == set(part) - {"schema", "run"}, name


def test_a_copy_elsewhere_says_the_same(finished: AxScheduler, tmp_path: Path):
    copy = Path(shutil.copytree(finished.run_directory, tmp_path / "copy"))
    one, other = document("status", finished.run_directory), document("status", copy)
    assert other.pop("path") == str(copy)
    del one["path"]
    assert one == other


def test_10_000_trials_take_a_fraction_of_a_second(tmp_path: Path):
    many = [line for i in range(10_000) for line in (trial(i, x=1.0), *success_without_job(i))]
    run = write_journal(tmp_path / "r", *many)
    began = time.process_time()
    result = axsched("status", run)
    assert result.exit_code == 0
    assert "10000 of 10000" in result.stdout
    assert time.process_time() - began < 2  # a tenth of it on an idle machine


def success_without_job(index: int) -> list[dict[str, Any]]:
    return success(index, loss=float(index))[1:]
