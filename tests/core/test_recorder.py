"""A fact is told once, by the recorder alone, and never of a trial that cannot be so."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

import axsched_core
from axsched_core import events
from axsched_core.jobs import Cause, JobHandle, JobRequest, JobState, JobStatus
from axsched_core.journal import lines
from axsched_core.journal.writer import Writer
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import LEGAL, Attempt, Purpose, Record, Stage
from axsched_core.trials import TrialState

PACKAGE = Path(axsched_core.__file__).parent
ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"
PURPOSES = (None, *Purpose)
ALL = list(itertools.product(Stage, TrialState, PURPOSES))


def a_record(stage: Stage, state: TrialState, purpose: Purpose | None = None) -> Record:
    lane: Any = SimpleNamespace(name="toy")
    request = JobRequest("r-0-1", 0, 1, {}, Path("/nowhere"), None)
    made = Record(0, {}, stage, Attempt(request, lane, JobHandle("r-0-1", "7"), purpose=purpose))
    made.state = state
    return made


@pytest.mark.parametrize(("stage", "state", "purpose"), ALL)
def test_what_a_trial_cannot_be_is_not_recorded(stage, state, purpose):
    record = a_record(stage, state, purpose)
    recorder = Recorder(Writer(), lambda event: None)
    if purpose in LEGAL.get((stage, state), ()):
        recorder.trial_decided(record)
        return
    status = JobStatus(JobState.QUEUED)
    for told in (
        lambda: recorder.trial_made(record, None, counted=True),
        lambda: recorder.trial_decided(record),
        lambda: recorder.trial_reopened(record),
        lambda: recorder.trial_retired(record),
        lambda: recorder.notes_taken(record),
        lambda: recorder.job_prepared(record),
        lambda: recorder.job_accepted(record),
        lambda: recorder.job_refused_for_now(record, "full", 0.0),
        lambda: recorder.job_queued(record, status, 0.0),
        lambda: recorder.job_started(record, status),
        lambda: recorder.job_has_run(record, status),
        lambda: recorder.job_requeued(record, status),
        lambda: recorder.job_stopping(record),
    ):
        with pytest.raises(AssertionError, match=f"trial 0 is {stage.name}, {state.value}"):
            told()


def test_a_job_that_is_over_is_cancelled_for_nothing():
    record = a_record(Stage.TELLING, TrialState.CANCELLED, Purpose.ABANDON)
    recorder = Recorder(Writer(), lambda event: None)
    with pytest.raises(AssertionError):
        recorder.trial_decided(record)
    recorder.attempt_ended(record, JobState.CANCELLED, Cause.CANCELLED, "")
    recorder.trial_decided(record)


def test_the_page_shows_what_a_trial_can_be():
    rows = re.findall(r"^\| (\w+) \| ([A-Z_, ]+) \| (.+) \|$", ARCHITECTURE.read_text(), re.M)
    names = {purpose.name: purpose for purpose in Purpose} | {"not cancelled": None}
    shown = {
        (Stage[stage], TrialState(state)): {names[word] for word in purposes.split(", ")}
        for stage, states, purposes in rows
        if stage in Stage.__members__
        for state in states.split(", ")
    }
    assert shown == {what: set(purposes) for what, purposes in LEGAL.items()}


def test_an_end_and_a_stop_are_told_once(tmp_path: Path):
    heard: list[events.Event] = []
    recorder = Recorder(Writer(), heard.append)
    recorder.begin(tmp_path, {"run_id": "r"})
    record = a_record(Stage.SUBMITTED, TrialState.RUNNING)
    for _ in range(2):
        recorder.job_stopping(record)
        recorder.attempt_ended(record, JobState.LOST, Cause.LOST, "gone", again=True)
    recorder.writer.close()
    kinds = [line["k"] for _, _, line in lines.read_lines(tmp_path / lines.NAME)]
    assert kinds == ["run", "stopping", "attempt"]
    (event,) = heard
    assert attrs.evolve(event, time=0.0) == events.JobRetried(
        time=0.0, trial_index=0, key="r-0-1", cause=Cause.LOST, message="gone"
    )


@pytest.mark.parametrize("told", [r"\bevents\.\w+\(", r"writer\.add\(", r"_marks\["])
def test_only_the_recorder_tells(told):
    texts = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
    assert [name for name, text in texts.items() if re.search(told, text)] == ["run/recorder.py"]
