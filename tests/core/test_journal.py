"""What is written down is read again as it was, and what cannot be read is said in words."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from axsched_core.errors import InvalidInput, JournalDamaged, RunLocked
from axsched_core.jobs import (
    Cause,
    ContainerObjective,
    FunctionObjective,
    JobHandle,
    JobRequest,
    JobState,
    JobStatus,
    Objective,
    Report,
    Resources,
    ScriptObjective,
)
from axsched_core.journal import lines, replay, salvage
from axsched_core.journal.lines import Journal
from axsched_core.journal.replay import ReplayedTrial
from axsched_core.journal.writer import Writer
from axsched_core.objectives.spec import ObjectiveSpec
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Attempt, Record, Stage
from axsched_core.run.retry import Ended
from axsched_core.trials import TrialState

RUN = {"run_id": "0123456789", "runner": "toy"}


LANE: Any = SimpleNamespace(name="toy")


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = made_recorder()
    recorder.begin(tmp_path, RUN)
    yield recorder
    recorder.writer.close()


def made_recorder(*, durable: bool = True) -> Recorder:
    return Recorder(Writer(durable=durable), lambda event: None)


def record(index: int, **changes: Any) -> Record:
    made = Record(index, {"x": 0.1 + 0.2, "n": 3, "on": True, "word": 'ä"\n\r\u2028'})
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def read_objective(run_dir: Path) -> ObjectiveSpec:
    line = replay.read(run_dir / lines.NAME).objective
    assert line is not None
    return ObjectiveSpec.from_plain(line, run_dir)


def with_job(made: Record, attempt: int, folder: Path) -> Record:
    key = f"0123456789-{made.index}-{attempt}"
    made.attempts = attempt
    request = JobRequest(key, made.index, attempt, made.parameters, folder, None)
    made.latest = Attempt(request, LANE)
    return made


def moved(record: Record, stage: Stage, state: TrialState) -> Record:
    record.stage, record.state = stage, state
    return record


def write(path: Path, *events: dict[str, Any] | str) -> Path:
    texts = [e if isinstance(e, str) else json.dumps(e) for e in events]
    path.write_text("".join(text + "\n" for text in texts))
    return path


FIRST = {"k": "run", "format": lines.FORMAT, **RUN}


# ---- round trips ---------------------------------------------------------------------------


def test_every_kind_of_event_comes_back(recorder: Recorder, tmp_path: Path):
    made = with_job(record(0), 1, tmp_path)
    recorder.writer.flush()
    recorder.go_on(replay.read(tmp_path / lines.NAME))
    recorder.snapshot("snapshot-0.json")
    recorder.objective(ObjectiveSpec(ContainerObjective("image:1")))
    recorder.call_begun(5)
    recorder.trial_made(made, {"run": [1, None]}, counted=True)
    recorder.job_prepared(moved(made, Stage.WAITING, TrialState.QUEUED))
    made.job.handle = JobHandle("0123456789-0-1", "id-7", {"pid": 12})
    recorder.job_accepted(moved(made, Stage.SUBMITTED, TrialState.QUEUED))
    recorder.job_queued(made, JobStatus(JobState.QUEUED, message="Priority"), 1.0)
    recorder.job_started(made, JobStatus(JobState.RUNNING, started_at=5.5, host="node-3"))
    recorder.attempt_ended(made, JobState.SUCCEEDED, None, "")
    recorder.optimized({"objectives": [{"name": "loss", "minimize": True}]})
    made.results = {"loss": (1 / 3, None), "time": (2.0, 0.5)}
    recorder.trial_decided(moved(made, Stage.TELLING, TrialState.SUCCEEDED))

    again = with_job(record(1, ended=[Ended(Cause.LOST), Ended(None)]), 2, tmp_path)
    again.grown = Resources(memory_bytes=2 << 30, time_limit=1.5)
    recorder.trial_made(again, None, counted=False)
    recorder.job_prepared(moved(again, Stage.WAITING, TrialState.QUEUED))
    recorder.trial_reopened(moved(again, Stage.IDLE, TrialState.CANDIDATE))

    failed = with_job(record(2), 1, tmp_path)
    failed.cause, failed.message = Cause.TIME_LIMIT, 'too "long"'
    recorder.trial_made(failed, {"a": 1}, counted=True)
    recorder.job_prepared(moved(failed, Stage.WAITING, TrialState.QUEUED))
    recorder.trial_decided(moved(failed, Stage.TELLING, TrialState.FAILED))
    recorder.anew()

    orphan = with_job(record(3), 1, tmp_path)
    recorder.trial_made(orphan, {"a": 2}, counted=True)
    recorder.job_prepared(moved(orphan, Stage.WAITING, TrialState.QUEUED))

    stopped = with_job(record(4), 1, tmp_path)
    recorder.trial_made(stopped, None, counted=False)
    recorder.job_prepared(moved(stopped, Stage.WAITING, TrialState.QUEUED))
    recorder.job_stopping(moved(stopped, Stage.SUBMITTED, TrialState.QUEUED))

    early = with_job(record(6), 1, tmp_path)
    recorder.trial_made(early, None, counted=False)
    recorder.job_prepared(moved(early, Stage.WAITING, TrialState.QUEUED))
    moved(early, Stage.SUBMITTED, TrialState.RUNNING)
    recorder.reported(early, [Report(1, {"loss": (0.5, None), "time": (2.0, 0.25)})])
    early.job.stop_reason = "it is bad"
    recorder.job_stopped_early(early)

    measured = record(7)
    measured.results, measured.past = {"loss": (1.0, None)}, True
    recorder.past_data([moved(measured, Stage.ENDED, TrialState.SUCCEEDED)])

    refused = with_job(record(5), 1, tmp_path)
    recorder.trial_made(refused, None, counted=False)
    recorder.job_prepared(moved(refused, Stage.WAITING, TrialState.QUEUED))
    recorder.job_withdrawn(refused)
    recorder.writer.flush()

    found = replay.read(tmp_path / lines.NAME)
    assert found.run == {"format": lines.FORMAT, **RUN}
    assert found.snapshot == "snapshot-0.json"
    assert found.objective is not None
    assert ObjectiveSpec.from_plain(found.objective, tmp_path).objective == ContainerObjective(
        "image:1"
    )
    assert found.to_make == 2
    assert found.optimized == {"objectives": [{"name": "loss", "minimize": True}]}
    assert found.place == str(tmp_path)
    assert found.length == (tmp_path / lines.NAME).stat().st_size
    p = made.parameters
    assert found.trials == {
        0: ReplayedTrial(
            0,
            p,
            {"run": [1, None]},
            attempts=1,
            number=1,
            key="0123456789-0-1",
            lane="toy",
            handle=JobHandle("0123456789-0-1", "id-7", {"pid": 12}),
            state="SUCCEEDED",
            results={"loss": (1 / 3, None), "time": (2.0, 0.5)},
            past=True,
        ),
        1: ReplayedTrial(
            1,
            p,
            None,
            attempts=1,
            number=2,
            ended=[Cause.LOST, None],
            grown=Resources(memory_bytes=2 << 30, time_limit=1.5),
            lane="toy",
        ),
        2: ReplayedTrial(
            2,
            p,
            {"a": 1},
            attempts=1,
            number=1,
            key="0123456789-2-1",
            lane="toy",
            state="FAILED",
            cause=Cause.TIME_LIMIT,
            message='too "long"',
            past=True,
        ),
        3: ReplayedTrial(3, p, {"a": 2}, attempts=1, number=1, key="0123456789-3-1", lane="toy"),
        4: ReplayedTrial(
            4, p, attempts=1, number=1, key="0123456789-4-1", lane="toy", stopping=True
        ),
        5: ReplayedTrial(5, p, number=1, lane="toy"),
        6: ReplayedTrial(
            6,
            p,
            attempts=1,
            number=1,
            key="0123456789-6-1",
            lane="toy",
            reports=[(1, {"loss": (0.5, None), "time": (2.0, 0.25)})],
            early="it is bad",
        ),
        7: ReplayedTrial(7, p, state="SUCCEEDED", results={"loss": (1.0, None)}, past=True),
    }
    kinds = {line["k"] for _, _, line in lines.read_lines(tmp_path / lines.NAME)}
    recorder.call_ended()
    recorder.writer.flush()
    assert replay.read(tmp_path / lines.NAME).to_make == 0
    assert kinds | {"ended"} == lines.KINDS


def test_a_fresh_snapshot_forgets_the_trials_of_the_other_experiment(tmp_path: Path):
    trial = {"k": "trial", "i": 0, "p": {"x": 1}}
    for fresh, left in ((False, {0, 1}), (True, {1})):
        snapshot = {"k": "snapshot", "name": "b", **({"fresh": True} if fresh else {})}
        path = write(tmp_path / "j", FIRST, trial, snapshot, {**trial, "i": 1})
        assert replay.read(path).trials.keys() == left


def test_trials_of_a_batch_are_of_no_call(tmp_path: Path):
    """They are counted, and no call was to make them: there are not less than none left."""
    trials = [{"k": "trial", "i": i, "p": {}, "counted": True} for i in range(3)]
    path = write(tmp_path / "j", FIRST, *trials, {"k": "call", "to_make": 2})
    assert replay.read(path).to_make == 2
    path = write(tmp_path / "j", FIRST, {"k": "call", "to_make": 2}, *trials)
    assert replay.read(path).to_make == 0


@pytest.mark.parametrize(
    "chosen",
    [
        ObjectiveSpec(FunctionObjective("f", False, (3, 12)), b"pickle", "abc"),
        ObjectiveSpec(
            ScriptObjective(("/bin/sh", "a b.sh"), {}, "/x", 3.5, "/a b.sh"), None, "abc"
        ),
        ObjectiveSpec(ContainerObjective("image:1", ("run", "it"), {"gpus": 1})),
        ObjectiveSpec(ContainerObjective("image:1")),
    ],
)
def test_objectives_come_back(recorder: Recorder, tmp_path: Path, chosen: ObjectiveSpec):
    if chosen.pickled is not None:
        (tmp_path / str(chosen.function_name)).write_bytes(chosen.pickled)
    recorder.objective(chosen)
    recorder.writer.flush()
    assert read_objective(tmp_path) == chosen


def test_a_functions_modules_are_found_from_elsewhere(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """`axsched resume` has not the folder of the driver's script on its path."""
    before = sys.path[:]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/of/the/script", *before])
    chosen = ObjectiveSpec(FunctionObjective("f", True, (3, 11)), b"pickle")
    (tmp_path / str(chosen.function_name)).write_bytes(b"pickle")
    recorder.objective(chosen)
    recorder.writer.flush()
    # In the driver's order, for a module of the same name may be here too.
    monkeypatch.setattr(sys, "path", ["/of/another/script", *before, "/of/the/script"])
    for _ in range(2):
        read_objective(tmp_path)
        assert sys.path == [str(tmp_path), "/of/the/script", *before, "/of/another/script"]


@pytest.mark.parametrize(
    ("objective", "left", "missing"),
    [
        (
            ScriptObjective(("a",), {"TOKEN": "s3cret", "A": "s3cret"}, "/x", 3.0),
            ScriptObjective(("a",), {}, "/x", 3.0),
            ("A", "TOKEN"),
        ),
        (
            ContainerObjective(
                "i", None, {"env": {"A": "s3cret"}, "env_vars": ["B=s3cret"], "c": 1}
            ),
            ContainerObjective("i", None, {"c": 1}),
            ("env", "env_vars"),
        ),
    ],
)
def test_of_secrets_only_the_names_are_written(
    recorder: Recorder,
    tmp_path: Path,
    objective: Objective,
    left: Objective,
    missing: tuple[str, ...],
):
    recorder.objective(ObjectiveSpec(objective))
    recorder.writer.flush()
    assert "s3cret" not in (tmp_path / lines.NAME).read_text() + repr(objective)
    found = read_objective(tmp_path)
    assert (found.objective, found.missing) == (left, missing)


def test_what_json_does_not_know_does_not_end_a_run(tmp_path: Path):
    class Odd:
        def __repr__(self) -> str:
            return "an odd thing"

    class Number:
        shape = ()

        def item(self) -> int:
            return 7

    log = Journal(tmp_path / "j")
    log.add("run", format=1, path=Path("/a"), odd=Odd(), n=Number())
    log.close()
    assert replay.read(tmp_path / "j").run == {
        "format": 1,
        "path": "/a",
        "odd": "an odd thing",
        "n": 7,
    }


def test_events_before_it_is_open_wait_and_without_durable_there_are_none(tmp_path: Path):
    recorder = made_recorder()
    recorder.objective(ObjectiveSpec(ContainerObjective("image:1")))
    recorder.writer.flush()
    recorder.begin(tmp_path, RUN)
    recorder.writer.flush()
    assert [line["k"] for _, _, line in lines.read_lines(tmp_path / lines.NAME)] == [
        "run",
        "objective",
    ]
    recorder.writer.close()
    nothing = made_recorder(durable=False)
    nothing.call_begun(3)
    nothing.writer.flush()
    nothing.writer.close()
    assert not nothing.writer.opened


# ---- torn, damaged, newer ------------------------------------------------------------------


@pytest.mark.parametrize("torn", ["{", '{"k":"call","to_make":7}', "\0" * 4096, '{"k":"call"}\r'])
def test_a_torn_last_line_is_cut_off_before_anything_is_appended(tmp_path: Path, torn: str):
    path = write(tmp_path / "j", FIRST, {"k": "call", "to_make": 2})
    whole = path.read_bytes()
    path.write_bytes(whole + torn.encode())
    found = replay.read(path)
    assert (found.to_make, found.length) == (2, len(whole))
    lines.repair(path, found.length)
    assert path.read_bytes() == whole
    log = Journal(path)
    log.add("ended")
    log.close()
    assert path.read_bytes() == whole + b'{"k":"ended"}\n'
    lines.repair(path, len(whole) + 100)
    assert len(path.read_bytes()) > len(whole)


def test_an_empty_journal_says_nothing(tmp_path: Path):
    path = write(tmp_path / "j")
    found = replay.read(path)
    assert (found.run, found.snapshot, found.length) == ({}, None, 0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"k":"trial","i":', "no line of a journal"),
        ("\0\0\0", "no line of a journal"),
        ("", "no line of a journal"),
        ('{"k":"call","to_make":2}\r{"k":"call","to_make":2}', "no line of a journal"),
        ("[1]", "no event"),
        ('{"i":1}', "no event"),
        ('{"k":7}', "no event"),
        ("[" * 100_000, "no line of a journal"),
        ('{"k":"later","i":1}', "unknown kind 'later'.*upgrade"),
        ('{"k":"_init__"}', "unknown kind"),
        ('{"k":"take"}', "unknown kind"),
        ('{"k":"call"}', "TypeError.*to_make"),
        ('{"k":"later","i":1,"skip":1}', "unknown kind 'later'.*upgrade"),
        ('{"k":"later","i":1,"skip":false}', "unknown kind 'later'.*upgrade"),
        ('{"k":"outcome","i":9,"state":"FAILED","cause":null,"message":""}', "KeyError: 9"),
        ('{"k":"handle","i":0,"id":"","data":{}}', "AssertionError"),
        ('{"k":"outcome","i":0,"state":"FAILED","cause":"NO","message":""}', "'NO' is not"),
        (json.dumps(FIRST), "a second first line"),
    ],
)
def test_damage_in_the_middle_is_said_with_its_line_and_the_command(
    tmp_path: Path, line: str, words: str
):
    trial = {"k": "trial", "i": 0, "p": {"x": 1}}
    path = write(tmp_path / lines.NAME, FIRST, trial, line, {"k": "ended"})
    with pytest.raises(JournalDamaged, match=words) as caught:
        replay.read(path)
    assert (caught.value.line, caught.value.path) == (3, path)
    assert f"{path}, line 3: " in str(caught.value)
    assert f"axsched salvage {tmp_path}" in str(caught.value)
    assert "2 lines before it are whole" in str(caught.value)


def test_any_byte_that_changes_is_noticed_or_changes_only_a_value(
    recorder: Recorder, tmp_path: Path
):
    """Whatever is hit, reading ends in words, never in an error that is none of ours."""
    made = with_job(record(0), 1, tmp_path)
    recorder.call_begun(5)
    recorder.trial_made(made, {"run": [1]}, counted=True)
    recorder.job_prepared(moved(made, Stage.WAITING, TrialState.QUEUED))
    recorder.trial_decided(moved(made, Stage.TELLING, TrialState.SUCCEEDED))
    recorder.writer.flush()
    path, copy = tmp_path / lines.NAME, tmp_path / "copy"
    whole = path.read_bytes()
    noticed = 0
    for position in range(len(whole)):
        for byte in (0, ord("\n"), ord("\r"), ord('"'), whole[position] ^ 1):
            copy.write_bytes(whole[:position] + bytes([byte]) + whole[position + 1 :])
            try:
                replay.read(copy)
            except (JournalDamaged, InvalidInput):
                noticed += 1
    assert noticed > 2 * len(whole)


def test_a_newer_format_is_not_for_salvage(tmp_path: Path):
    path = write(tmp_path / "j", {**FIRST, "format": 2}, {"k": "unheard of"})
    with pytest.raises(InvalidInput, match="format 2, and this axsched-core reads format 1: upg"):
        replay.read(path)
    with pytest.raises(InvalidInput, match="upgrade"):
        salvage.salvage(path)


@pytest.mark.parametrize("first", [{"k": "call", "to_make": 1}, {"k": "run"}, "x"])
def test_a_first_line_that_names_no_run(tmp_path: Path, first: Any):
    path = write(tmp_path / "j", first, {"k": "call", "to_make": 1})
    with pytest.raises(JournalDamaged) as caught:
        replay.read(path)
    assert caught.value.line == 1
    with pytest.raises(InvalidInput, match="first line.*nothing can be kept"):
        salvage.salvage(path)


def test_another_runs_journal_is_refused(tmp_path: Path):
    folder = tmp_path / "exp-20260101-000000-abcdefabcd"
    folder.mkdir()
    path = write(folder / lines.NAME, FIRST)
    with pytest.raises(InvalidInput, match="another run: it says 0123456789.*says abcdefabcd"):
        replay.read(path)
    for name in ("exp-20260101-000000-0123456789", "renamed by its owner"):
        moved = folder.rename(tmp_path / name)
        assert replay.read(moved / lines.NAME).run["run_id"] == "0123456789"
        folder = moved


# ---- flushing ------------------------------------------------------------------------------


def test_many_lines_cost_one_fdatasync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(fd), real(fd))[1])
    log = Journal(tmp_path / "j")
    for number in range(1000):
        log.add("call", to_make=number)
    assert (tmp_path / "j").read_bytes() == b""
    log.flush()
    log.flush()  # nothing waits
    assert len(synced) == 1
    assert len((tmp_path / "j").read_text().splitlines()) == 1000
    log.close()
    assert len(synced) == 1


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_stops_in_the_middle_leaves_whole_lines_and_loses_none(tmp_path: Path):
    path = tmp_path / "j"
    log = Journal(path)
    log.add("run", format=1)
    log.flush()
    whole = path.read_bytes()
    for number in range(100):
        log.add("call", to_make=number)
    for size in (len(whole), len(whole) + 5, 300):
        with no_file_larger_than(size), pytest.raises(OSError, match="File too large"):
            log.flush()
        assert path.read_bytes() == whole
    log.add("ended")
    log.close()
    written = [line for _, _, line in lines.read_lines(path)]
    assert [line.get("to_make") for line in written] == [None, *range(100), None]


def test_what_could_not_be_undone_is_cut_off_before_the_next_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "j"
    log = Journal(path)
    log.add("run", format=1)
    log.flush()
    log.add("call", to_make=1)
    log.add("call", to_make=2)
    real = os.ftruncate

    def fails(*_: Any) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "ftruncate", fails)
    with no_file_larger_than(60), pytest.raises(OSError, match="File too large"):
        log.flush()
    assert not path.read_bytes().endswith(b"\n")
    with pytest.raises(OSError, match="no"):
        log.flush()  # still not: nothing is appended to a torn line
    monkeypatch.setattr(os, "ftruncate", real)
    log.close()
    assert [line.get("to_make") for _, _, line in lines.read_lines(path)] == [None, 1, 2]


def test_a_sync_that_fails_is_as_if_nothing_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = Journal(tmp_path / "j")
    log.add("run", format=1)
    real = os.fdatasync

    def fails(_: int) -> None:
        raise OSError("I/O error")

    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(OSError, match="I/O"):
        log.flush()
    assert (tmp_path / "j").read_bytes() == b""
    monkeypatch.setattr(os, "fdatasync", real)
    log.close()
    assert replay.read(tmp_path / "j").run == {"format": 1}


def test_memory_says_it_in_words_and_goes_on(recorder: Recorder, tmp_path: Path):
    with (
        no_file_larger_than(20),
        pytest.raises(InvalidInput, match=r"journal\.jsonl cannot be written: .*Free some space"),
    ):
        recorder.writer.flush()
    recorder.writer.flush()
    assert replay.read(tmp_path / lines.NAME).run == {"format": 1, **RUN}


def test_one_that_was_taken_over_writes_no_more_not_even_at_its_end(
    recorder: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    recorder.writer.flush()
    before = (tmp_path / lines.NAME).read_bytes()
    lock = tmp_path / "lock.json"
    lock.write_text(json.dumps({**json.loads(lock.read_text()), "token": "somebody else's"}))
    taken = lock.read_bytes()
    recorder.call_ended()
    with pytest.raises(RunLocked, match="taken over"):
        recorder.writer.flush()
    recorder.writer.close()
    assert (tmp_path / lines.NAME).read_bytes() == before
    assert lock.read_bytes() == taken
    assert "taken over" in caplog.text


def test_a_folder_that_cannot_be_written_is_named_and_can_be_tried_again(tmp_path: Path):
    recorder = made_recorder()
    below = tmp_path / "file" / "run"
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match=f"{below} cannot be written"):
        recorder.begin(below, RUN)
    (tmp_path / lines.NAME).mkdir()  # the lock can be had, the journal cannot
    with pytest.raises(InvalidInput, match="cannot be written"):
        recorder.begin(tmp_path, RUN)
    assert not (tmp_path / "lock.json").exists()
    (tmp_path / lines.NAME).rmdir()
    recorder.begin(tmp_path, RUN)
    recorder.writer.close()


def test_closing_on_a_full_disk_unlocks(recorder: Recorder, tmp_path: Path):
    recorder.call_ended()
    with no_file_larger_than(20), pytest.raises(InvalidInput, match="cannot be written"):
        recorder.writer.close()
    assert not (tmp_path / "lock.json").exists()
    assert not recorder.writer.opened


# ---- salvage -------------------------------------------------------------------------------


def damaged(folder: Path, *, lock: bool = False) -> Path:
    """Trial 0 has had a job before the damage; 0 a second one, and 1 its first, behind it."""
    trials = [{"k": "trial", "i": i, "p": {"x": i}} for i in range(2)]
    keys = [
        {"k": "key", "i": i, "n": n, "key": f"0123456789-{i}-{n}"}
        for i, n in ((0, 1), (0, 2), (1, 1))
    ]
    for name in ("00000-1", "00000-2", "00001-1"):
        (folder / "jobs" / name).mkdir(parents=True)
        (folder / "jobs" / name / "params.json").write_text("{}")
    return write(
        folder / lines.NAME, FIRST, trials[0], keys[0], "\0" * 20, keys[1], trials[1], keys[2]
    )


def test_salvage_keeps_the_lines_before_and_puts_aside_what_nobody_knows(tmp_path: Path):
    path = damaged(tmp_path)
    before = path.read_bytes()
    done = salvage.salvage(path)
    assert (done.kept, done.lost) == (3, 4)
    assert done.damaged == tmp_path / "journal.jsonl.damaged"
    assert done.damaged.read_bytes() == before
    assert path.read_bytes() == b"".join(before.splitlines(keepends=True)[:3])
    assert replay.read(path).trials.keys() == {0}
    assert [folder.name for folder in (tmp_path / "jobs").iterdir()] == ["00000-1"]
    assert done.forgotten == tmp_path / "jobs.forgotten"
    assert sorted(folder.name for folder in done.forgotten.iterdir()) == ["00000-2", "00001-1"]
    for folder in done.forgotten.iterdir():  # what has not begun never will
        assert json.loads((folder / "claim").read_text())["by"].startswith("driver")
    assert not (tmp_path / "jobs" / "00000-1" / "claim").exists()


def test_a_second_salvage_keeps_the_first_ones_file(tmp_path: Path):
    path = damaged(tmp_path)
    first = salvage.salvage(path)
    was = first.damaged.read_bytes()
    with path.open("a") as file:
        file.write("damage\n")
    second = salvage.salvage(path)
    assert second.damaged == tmp_path / "journal.jsonl.damaged-2"
    assert (second.kept, second.lost, second.forgotten) == (3, 1, None)
    assert first.damaged.read_bytes() == was


def test_a_whole_journal_is_left_alone(tmp_path: Path):
    path = write(tmp_path / lines.NAME, FIRST, {"k": "ended"})
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="not damaged"):
        salvage.salvage(path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == [lines.NAME]


def test_salvage_on_a_full_disk_changes_nothing(tmp_path: Path):
    path = damaged(tmp_path)
    before = path.read_bytes()
    with no_file_larger_than(10), pytest.raises(OSError, match="File too large"):
        salvage.salvage(path)
    assert path.read_bytes() == before
    assert {found.name for found in tmp_path.iterdir()} == {lines.NAME, "jobs"}
    assert salvage.salvage(path).kept == 3
