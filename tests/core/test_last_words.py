"""What a failed job printed last is in its trial's message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from axsched_core import AxScheduler, TrialState, plain
from axsched_core.errors import AllTrialsFailed
from axsched_core.jobs import Cause, JobRequest, JobState, JobStatus
from support.toy import ToyOptimizer, ToyRunner

Make = Callable[..., AxScheduler]


def failing(text: str, cause: Cause, message: str = "ended with exit code 2") -> ToyRunner:
    def finish(request: JobRequest) -> JobStatus:
        (request.folder / "stderr.log").write_text(text)
        return JobStatus(JobState.FAILED, cause, message)

    return ToyRunner(finish)


def message_of(make: Make, runner: ToyRunner) -> str:
    scheduler = make(ToyOptimizer(), runner)
    with pytest.raises(AllTrialsFailed) as caught:
        scheduler.run_optimization(1)
    message = scheduler.trials[0].message
    assert f"trial 0: {scheduler.trials[0].cause}: {message} (" in str(caught.value)
    return message


@pytest.mark.parametrize("cause", [Cause.EXIT_CODE, Cause.SIGNAL, Cause.RESULT_INVALID])
def test_the_last_line_is_in_the_message(make: Make, cause: Cause):
    message = message_of(make, failing("begin\nrun.sh: 3: [[: not found\n\n", cause))
    assert message == "ended with exit code 2; stderr ends: run.sh: 3: [[: not found"


@pytest.mark.parametrize("cause", [Cause.EXCEPTION, Cause.OUT_OF_MEMORY, Cause.LOAD_ERROR])
def test_not_if_it_is_not_the_cause(make: Make, cause: Cause):
    assert message_of(make, failing("a warning\n", cause)) == "ended with exit code 2"


def test_what_is_there_already_is_not_said_twice(make: Make):
    text = "axsched: run.sh: command not found\n"
    message = message_of(make, failing(text, Cause.EXIT_CODE, "run.sh: command not found"))
    assert message == "run.sh: command not found"


def test_a_terminal_is_not_told_what_to_do(make: Make):
    text = "\x1b[31mred\x1b[0m \x1b]0;title\x07\a\u202e\tover\x1b[2J" + "z" * 500
    message = message_of(make, failing(text, Cause.EXIT_CODE))
    assert message.startswith("ended with exit code 2; stderr ends: red overzzz")
    assert message.isprintable()
    assert len(message) < 250


def test_a_log_that_is_a_link_is_not_read(make: Make, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("the key\n")

    def finish(request: JobRequest) -> JobStatus:
        (request.folder / "stderr.log").symlink_to(secret)
        return JobStatus(JobState.FAILED, Cause.EXIT_CODE, "exit code 2")

    assert message_of(make, ToyRunner(finish)) == "exit code 2"


def test_equal_causes_are_named_once(make: Make):
    def finish(request: JobRequest) -> JobStatus:
        number = request.trial_index
        text = f"line {number}: {'boom' if number != 3 else 'bang'}"
        (request.folder / "stderr.log").write_text(text)
        return JobStatus(JobState.FAILED, Cause.EXIT_CODE, "exit code 2")

    scheduler = make(ToyOptimizer(), ToyRunner(finish), tolerated_trial_failure_rate=1)
    with pytest.raises(AllTrialsFailed) as caught:
        scheduler.run_optimization(12)
    lines = [line for line in str(caught.value).splitlines() if line.startswith("  ")]
    first, other = (scheduler.trials[index].folder for index in (0, 3))
    assert lines == [
        f"  11 trials: EXIT_CODE: exit code 2; stderr ends: line 0: boom (first: trial 0, {first})",
        f"  trial 3: EXIT_CODE: exit code 2; stderr ends: line 3: bang ({other})",
    ]


def test_the_environment_of_a_script_is_not_quoted(make: Make, tmp_path: Path):
    script = tmp_path / "run.sh"
    script.write_text('#!/bin/sh\necho "token $TOKEN, line $N" >&2\nexit 2\n')
    script.chmod(0o755)
    config: Any = {"job_output_dir": tmp_path / "out", "progress": False}
    with AxScheduler(ToyOptimizer(), "joblib", config, {"n_jobs": 1}) as scheduler:
        scheduler.set_script_objective(script, {"env": {"TOKEN": "hunter2", "N": "7"}})
        with pytest.raises(AllTrialsFailed) as caught:
            scheduler.run_optimization(1)
        assert scheduler.trials[0].state is TrialState.FAILED
        assert scheduler.trials[0].message.endswith("; stderr ends: token ***, line 7")
    assert "hunter2" not in str(caught.value)
    journal = (scheduler.run_directory / "journal.jsonl").read_text()
    assert "token ***" in journal
    assert "hunter2" not in journal


def test_one_line():
    assert plain.one_line("  a \n b\x00\x1b[1mc\u200b ", 10) == "a bc"
    assert plain.one_line("x" * 11, 10) == "x" * 7 + "..."
