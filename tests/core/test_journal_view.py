"""What is read from a journal, without Ax, the lock, or a word written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from axsched_core import AxScheduler
from axsched_core.errors import (
    AxschedError,
    FailureRateExceeded,
    InvalidInput,
    JournalDamaged,
    OptimizationInterrupted,
)
from axsched_core.jobs import Cause, JobRequest, JobState, JobStatus, SubmitError
from axsched_core.journal import lines, lock, replay
from axsched_core.journal.view import Run, Runs
from axsched_core.optimizers.base import Optimizer
from axsched_core.run.engine import Engine
from axsched_core.testing import RandomSearch
from support.ctrl_c import press_ctrl_c
from support.journal_agreement import journalled, known
from support.resuming import resume
from support.toy import ToyOptimizer, ToyRunner
from support.waiting import wait_until

Make = Callable[..., AxScheduler]
RUN_ID = "0123456789"
FIRST = {"k": "run", "format": 1, "t": 5.0, "run_id": RUN_ID, "runner": "toy"}


def lines_of(run_dir: Path, *kinds: str) -> list[dict[str, Any]]:
    """The lines of these kinds, without their times, which are checked."""
    found = []
    for _, _, line in lines.read_lines(run_dir / lines.NAME):
        assert abs(time.time() - line.pop("t")) < 3600
        if line["k"] in kinds:
            found.append(line)
    return found


def looked(run_dir: Path) -> Run:
    run = Run(run_dir)
    run.look()
    return run


def write(run_dir: Path, *given: dict[str, Any] | str, mode: str = "w") -> Path:
    run_dir.mkdir(exist_ok=True)
    with (run_dir / lines.NAME).open(mode) as file:
        for line in given:
            file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
    return run_dir


def trial(index: int, **more: Any) -> dict[str, Any]:
    return {"k": "trial", "t": 6.0, "i": index, "p": {"x": index}, **more}


def everything(run: Run) -> Any:
    """What a run says, whenever and how often it was looked at."""
    fields = ("id", "name", "runner", "host", "optimized", "calls", "made", "to_make", "trials")
    return {name: getattr(run, name) for name in (*fields, "counts", "state", "best", "last_at")}


# ---- what the lines say --------------------------------------------------------------------


def test_each_attempt_leaves_a_line_also_those_that_are_tried_again(make: Make):
    ends = {
        1: JobStatus(JobState.FAILED, Cause.NODE_FAIL, "the node died", "NODE_FAIL", host="n1"),
        2: JobStatus(JobState.LOST),
        3: JobStatus(
            JobState.FAILED,
            Cause.EXIT_CODE,
            "it said 3",
            exit_code=3,
            started_at=5.0,
            ended_at=7.5,
            host="n2",
            max_rss_bytes=4096,
        ),
    }
    runner = ToyRunner(lambda request: ends[request.attempt])
    scheduler = make(RandomSearch({"x": (0, 1)}), runner)
    with pytest.raises(AxschedError):
        scheduler.run_optimization(max_trials=1)
    assert lines_of(scheduler.run_directory, "attempt") == [
        {
            "k": "attempt",
            "i": 0,
            "n": 1,
            "state": "FAILED",
            "cause": "NODE_FAIL",
            "message": "the node died",
            "word": "NODE_FAIL",
            "host": "n1",
            "again": True,
        },
        {
            "k": "attempt",
            "i": 0,
            "n": 2,
            "state": "LOST",
            "cause": "LOST",
            "message": "LOST",
            "again": True,
        },
        {
            "k": "attempt",
            "i": 0,
            "n": 3,
            "state": "FAILED",
            "cause": "EXIT_CODE",
            "message": "it said 3",
            "exit": 3,
            "start": 5.0,
            "end": 7.5,
            "host": "n2",
            "rss": 4096,
        },
    ]
    attempts = looked(scheduler.run_directory).trials[0].attempts
    assert [one.number for one in attempts] == [1, 2, 3]
    assert [one.again for one in attempts] == [True, True, False]
    assert [one.backend_id for one in attempts] == ["toy-1", "toy-2", "toy-3"]
    last = attempts[-1]
    assert (last.started_at, last.ended_at, last.max_rss_bytes) == (5.0, 7.5, 4096)
    assert abs(attempts[0].ended_at - time.time()) < 3600  # when it was seen


def test_a_refusal_leaves_a_line_for_now_or_for_good(make: Make):
    answers = [SubmitError("the queue is full", transient=True), SubmitError("never")]
    runner = ToyRunner()
    runner.on_submit = lambda request: answers.pop(0)
    scheduler = make(runner=runner)
    with pytest.raises(AxschedError):
        scheduler.run_optimization(max_trials=1)
    job = {"i": 0, "n": 1}
    assert lines_of(scheduler.run_directory, "waiting") == [
        {"k": "waiting", **job, "message": "refused for now: the queue is full"}
    ]
    refused = {"k": "attempt", "state": "FAILED", "cause": "SUBMIT_REFUSED"}
    assert lines_of(scheduler.run_directory, "attempt") == [{**refused, **job, "message": "never"}]


def test_a_result_that_is_none_is_the_attempts_end(make: Make):
    scheduler = make(runner=ToyRunner(lambda request: {"loss": "much"}))
    with pytest.raises(AxschedError):
        scheduler.run_optimization(max_trials=1)
    (line,) = lines_of(scheduler.run_directory, "attempt")
    assert (line["state"], line["cause"]) == ("FAILED", "RESULT_INVALID")
    assert line["message"] == scheduler.trials[0].message


@pytest.mark.parametrize("way", ["cancel", "by hand", "in the optimizer", "ctrl-c", "close"])
def test_whoever_stops_a_job_its_attempt_has_an_end(make: Make, way: str):
    runner, optimizer = ToyRunner(lambda request: None), ToyOptimizer()
    scheduler = make(optimizer, runner)
    if way == "ctrl-c":
        presser = press_ctrl_c(runner.submitted)
        with pytest.raises(OptimizationInterrupted):
            scheduler.run_optimization(max_trials=1)
        presser.join()
    else:
        scheduler.run_trial(scheduler.get_next_trial())
        if way == "cancel":
            scheduler.cancel()
        elif way == "by hand":
            scheduler.complete_trial(0, 1.0)
        elif way == "in the optimizer":
            optimizer.rows[0]["status"] = "COMPLETED"
            scheduler.wait_for_completed_trials()
    scheduler.close()
    (line,) = lines_of(scheduler.run_directory, "attempt")
    assert (line["state"], line["n"], "again" in line) == ("CANCELLED", 1, False)
    (attempt,) = looked(scheduler.run_directory).trials[0].attempts
    assert (attempt.state, attempt.message) == ("CANCELLED", line["message"])
    assert journalled(scheduler.run_directory) == known(scheduler.trials)


def test_why_a_job_waits_is_written_when_it_changes(make: Make, monkeypatch: pytest.MonkeyPatch):
    runner = ToyRunner(lambda request: None)
    scheduler = make(runner=runner)
    scheduler.run_trial(scheduler.get_next_trial())
    key, job = runner.key_of(0), scheduler._run.engine.records[0].latest
    watcher = scheduler._run.engine.dispatch._watcher
    assert job is not None

    def says(status: JobStatus) -> None:
        runner.end(key, status)
        wait_until(lambda: scheduler.monitor_trials() and job.status.state is status.state)

    says(JobStatus(JobState.QUEUED, message="Priority"))
    job.next_reason = 0.0  # else it is too soon
    for words in ("Priority", "Resources"):
        runner.statuses[key] = JobStatus(JobState.QUEUED, message=words)
        runner.context.wake(key)
        wait_until(lambda: scheduler.monitor_trials() and not watcher._woken)
    wait_until(lambda: scheduler.monitor_trials() and job.waits_for == "Resources")
    says(JobStatus(JobState.RUNNING, started_at=9.0, host="n1"))
    says(JobStatus(JobState.QUEUED))  # it was put back
    scheduler._run.writer.flush()
    assert lines_of(scheduler.run_directory, "waiting", "running")[-4:] == [
        {"k": "waiting", "i": 0, "n": 1, "message": "Priority"},
        {"k": "waiting", "i": 0, "n": 1, "message": "Resources"},
        {"k": "running", "i": 0, "n": 1, "start": 9.0, "host": "n1"},
        {"k": "waiting", "i": 0, "n": 1, "message": ""},
    ]


def test_a_backend_that_changes_its_words_all_the_time_does_not_fill_the_disk(make: Make):
    runner = ToyRunner(lambda request: None)
    scheduler = make(runner=runner)
    scheduler.run_trial(scheduler.get_next_trial())
    record, recorder = scheduler._run.engine.records[0], scheduler._run.recorder
    for second in range(86_400):
        status = JobStatus(JobState.QUEUED, message=f"place {86_400 - second}")
        recorder.job_queued(record, status, 1e6 + second)
    scheduler._run.writer.flush()
    written = lines_of(scheduler.run_directory, "waiting")
    assert written[0]["message"] == "place 86400"
    assert 100 < len(written) < 200


def test_lines_of_a_job_say_what_the_worker_has_measured(make: Make, tmp_path: Path):
    def held(parameters: dict[str, float]) -> float:
        return parameters["x"]

    settings = {"job_output_dir": tmp_path, "progress": False}
    with AxScheduler(RandomSearch({"x": (0, 1)}, seed=1), "joblib", settings) as scheduler:
        scheduler.set_objective_function(held)
        best = scheduler.run_optimization(max_trials=2, timeout=300)
    run = looked(scheduler.run_directory)
    assert journalled(scheduler.run_directory) == known(scheduler.trials)
    here = os.uname().nodename
    assert (run.runner, run.name, run.host, run.state) == (
        "joblib",
        "random-search",
        here,
        "finished",
    )
    assert run.versions.keys() >= {"axsched-core"}
    for one in run.trials.values():
        (attempt,) = one.attempts
        assert (attempt.state, attempt.exit_code, attempt.host) == ("SUCCEEDED", 0, here)
        assert attempt.max_rss_bytes > 1 << 20
        times = (attempt.submitted_at, attempt.started_at, attempt.ended_at, one.ended_at)
        assert list(times) == sorted(times)
        assert run.folder(one, attempt) == scheduler.trials[one.index].folder
    (call,) = run.calls
    assert (call.to_make, call.made, call.timeout, call.host) == (2, 2, 300, here)
    assert call.began_at <= run.trials[0].made_at <= call.ended_at
    assert run.best is not None
    assert run.best.index == best.trial_index
    (x,) = run.optimized.parameters
    assert (x.name, x.kind, x.lower, x.upper) == ("x", "range", 0, 1)


def test_what_is_optimized_is_written_again_only_when_it_has_changed(make: Make):
    search = RandomSearch({"x": (0, 1)}, seed=1)
    scheduler = make(search)
    scheduler.run_optimization(max_trials=1)
    search.attach({"x": 0.5})  # a snapshot follows
    scheduler.run_optimization(max_trials=1)
    assert lines_of(scheduler.run_directory, "optimized") == []
    search.bounds["x"] = (0, 2)
    scheduler.run_optimization(max_trials=1)
    scheduler.close()
    (line,) = lines_of(scheduler.run_directory, "optimized")
    assert line["parameters"][0]["upper"] == 2
    assert len(lines_of(scheduler.run_directory, "snapshot")) == 3
    assert looked(scheduler.run_directory).optimized.parameters[0].upper == 2
    with resume(scheduler.run_directory, ToyRunner(), optimizer=RandomSearch({})) as again:
        again.client.attach({"x": 0.5})
        again.run_optimization(max_trials=1)
    assert len(lines_of(scheduler.run_directory, "optimized")) == 1


def test_a_line_is_on_disk_soon_although_nothing_depends_on_it(make: Make, in_thread):
    runner = ToyRunner(lambda request: None)
    scheduler = make(runner=runner, monitoring_interval=3600)
    call = in_thread(lambda: scheduler.run_optimization(max_trials=1))
    runner.submitted.acquire()
    runner.context.wake(runner.key_of(0))
    run = Run(scheduler.run_directory)
    wait_until(lambda: run.look() and run.trials[0].state == "RUNNING")
    assert (run.state, run.to_make, run.made) == ("running", 0, 1)
    assert (run.driver.pid, run.driver.seen) == (os.getpid(), True)
    runner.end(runner.key_of(0), {"loss": 1.0})
    call.result()
    assert run.look() == {0}
    assert (run.counts, run.state) == ({"SUCCEEDED": 1}, "running")
    scheduler.close()
    assert run.look() == set()
    assert run.state == "finished"


def test_a_turn_flushes_twice_at_most(make: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("axsched_core.journal.writer.SHOWN_WITHIN", 0.0)
    turns, real_turn, real_flush = [0], Engine.turn, lines.Journal.flush

    def turn(engine: Engine) -> None:
        turns.append(0)
        real_turn(engine)

    def flush(log: lines.Journal) -> None:
        turns[-1] += bool(log._waiting)
        real_flush(log)

    scheduler = make(runner=ToyRunner(lambda r: {"loss": 1} if r.trial_index % 2 else None))
    monkeypatch.setattr(Engine, "turn", turn)
    monkeypatch.setattr(lines.Journal, "flush", flush)
    scheduler.run_optimization(max_trials=12, timeout=1.0)
    assert max(turns[1:]) == 2


def test_a_removed_run_directory_does_not_keep_the_engine_busy(make: Make, in_thread):
    runner = ToyRunner(lambda request: None)
    scheduler = make(runner=runner, monitoring_interval=3600)
    call = in_thread(lambda: scheduler.run_optimization(max_trials=1))
    runner.submitted.acquire()
    shutil.rmtree(scheduler.run_directory)
    runner.context.wake(runner.key_of(0))  # a line waits
    writer = scheduler._run.writer
    wait_until(lambda: not writer.durable)
    assert writer.due is None
    runner.end(runner.key_of(0), {"loss": 1.0})
    call.result()


# ---- it agrees -----------------------------------------------------------------------------


def test_it_agrees_after_ctrl_c_a_resume_and_failures(make: Make):
    def finish(request: JobRequest) -> Any:
        if request.trial_index % 3 == 0:
            return JobStatus(JobState.FAILED, Cause.EXCEPTION, "it raised")
        if request.trial_index % 3 == 1 and request.attempt == 1:
            return JobStatus(JobState.FAILED, Cause.PREEMPTED)
        return {"loss": request.parameters["x"], "notes": {"i": request.trial_index}}

    runner = ToyRunner(lambda request: None)
    scheduler = make(RandomSearch({"x": (0, 1)}, seed=3), runner, max_parallelism=2, prefetch=0)
    presser = press_ctrl_c(runner.submitted)
    with pytest.raises(OptimizationInterrupted):
        scheduler.run_optimization(max_trials=6)
    presser.join()
    run_dir = scheduler.run_directory
    scheduler.close()
    run = looked(run_dir)
    assert (run.state, run.made + run.to_make) == ("interrupted", 6)
    assert set(run.counts) == {"CANDIDATE"}
    assert journalled(run_dir) == known(scheduler.trials)
    runner.finish = finish
    with resume(run_dir, runner, optimizer=RandomSearch({})) as again:
        best = again.finish()
        assert journalled(run_dir) == known(again.trials)
    run.look()
    assert everything(run) == everything(looked(run_dir))
    assert (run.state, run.made, run.to_make) == ("finished", 6, 0)
    assert run.counts == {"FAILED": 2, "SUCCEEDED": 4}
    assert run.best.index == best.trial_index
    assert [len(call) for call in ([c for c in run.calls if c.ended_at], run.calls)] == [1, 2]


def test_it_agrees_about_a_run_that_was_stopped_and_begun_anew(make: Make):
    runner = ToyRunner(lambda request: JobStatus(JobState.FAILED, Cause.EXCEPTION, "no"))
    scheduler = make(runner=runner, max_parallelism=1, prefetch=0, tolerated_trial_failure_rate=0.5)
    with pytest.raises(FailureRateExceeded):
        scheduler.run_optimization(max_trials=9)
    run = Run(scheduler.run_directory)
    run.look()
    scheduler.close()
    assert run.look() == set()
    assert run.state == "interrupted"
    assert {one.past for one in run.trials.values()} == {True}
    assert journalled(scheduler.run_directory) == known(scheduler.trials)


def test_it_agrees_about_another_experiment_in_the_same_run(make: Make, tmp_path: Path):
    scheduler = make()
    scheduler.run_optimization(max_trials=3)
    run = Run(scheduler.run_directory)
    run.look()
    ToyOptimizer().save(tmp_path / "saved.json")
    scheduler.load_experiment(tmp_path / "saved.json")
    scheduler.run_optimization(max_trials=1)
    assert run.look() == {0, 1, 2}
    assert journalled(scheduler.run_directory) == known(scheduler.trials)


# ---- the best ------------------------------------------------------------------------------


def described(**more: Any) -> dict[str, Any]:
    objective = {"name": "a", "minimize": True, "weights": {"a": 1.0}}
    return {"k": "optimized", "objectives": [objective], **more}


def outcome(index: int, **means: float) -> dict[str, Any]:
    results = {name: [mean, None] for name, mean in means.items()}
    return {
        "k": "outcome",
        "i": index,
        "state": "SUCCEEDED",
        "cause": None,
        "message": "",
        "results": results,
    }


TOLD = [
    *(trial(i) for i in range(5)),
    outcome(2, a=1.0, b=5.0),
    outcome(1, a=1.0, b=5.0),
    outcome(0, a=0.5, b=9.0),
    outcome(3, a=3.0, b=1.0),
    outcome(4, a=0.1),
]


@pytest.mark.parametrize(
    ("optimized", "best"),
    [
        (described(), 4),
        (described(objectives=[{"name": "b", "minimize": False, "weights": {"b": 1}}]), 0),
        (described(constraints=[{"weights": {"b": 1}, "op": "<=", "bound": 8}]), 1),
        (described(constraints=[{"weights": {"b": 1, "a": -1}, "op": ">=", "bound": 5}]), 0),
        (described(constraints=[{"weights": {"c": 1}, "op": "<=", "bound": 8}]), "breaks no"),
        (
            described(
                constraints=[{"weights": {"b": 2}, "op": ">=", "bound": -5, "relative": True}]
            ),
            "2*b >= -5% is relative",
        ),
        (described(objectives=[{"name": "a"}, {"name": "b"}]), "several objectives"),
        (described(objectives=[{"name": "a", "minimize": None}]), "whether 'a' is minimized"),
        ({"k": "anew"}, "does not say what is optimized"),
        (
            described(
                objectives=[{"name": "s", "minimize": False, "weights": {"a": 10.0, "b": -1.0}}]
            ),
            3,
        ),
    ],
)
@pytest.mark.parametrize("late", [False, True], ids=["told before", "told after"])
def test_the_best_is_by_direction_and_breaks_no_constraint(
    tmp_path: Path, optimized: dict[str, Any], best: int | str, late: bool
):
    told = [*TOLD, optimized] if late else [optimized, *TOLD]
    run = looked(write(tmp_path, FIRST, *told))
    if isinstance(best, int):
        assert run.best is not None
        assert (run.best.index, run.why_no_best) == (best, "")
    else:
        assert run.best is None
        assert best in run.why_no_best
    assert looked(write(tmp_path, FIRST, described())).why_no_best == "No trial has a result."


# ---- looking again -------------------------------------------------------------------------


def test_looks_while_it_is_written_say_in_the_end_what_one_look_says(make: Make, tmp_path: Path):
    runner = ToyRunner(lambda r: JobStatus(JobState.LOST) if r.attempt == 1 else {"loss": 1})
    scheduler = make(RandomSearch({"x": (0, 1)}), runner)
    scheduler.run_optimization(max_trials=3)
    scheduler.close()
    whole = (scheduler.run_directory / lines.NAME).read_bytes()
    run, changed = Run(tmp_path), set()
    for end in range(0, len(whole), 7):  # most looks end in the middle of a line
        (tmp_path / lines.NAME).write_bytes(whole[:end])
        changed |= run.look()
    (tmp_path / lines.NAME).write_bytes(whole)
    run.look()
    assert changed == {0, 1, 2}
    assert everything(run) == everything(looked(scheduler.run_directory))


def test_a_second_look_reads_only_what_was_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run_dir = write(tmp_path, FIRST, *(trial(i) for i in range(100)))
    run = looked(run_dir)
    first = run.trials[0]
    parsed: list[int] = []
    real = json.loads
    monkeypatch.setattr(json, "loads", lambda text: (parsed.append(len(text)), real(text))[1])
    assert run.look() == set()
    write(run_dir, trial(100), mode="a")
    assert run.look() == {100}
    assert sum(parsed) < 200
    assert run.trials[0] is first


@pytest.mark.parametrize("way", ["cut", "replaced", "written over"])
def test_a_journal_that_was_cut_or_replaced_is_read_anew(tmp_path: Path, way: str):
    run_dir = write(tmp_path / "run", FIRST, *(trial(i) for i in range(5)))
    run = looked(run_dir)
    assert len(run.trials) == 5
    path = run_dir / lines.NAME
    if way == "cut":
        os.truncate(path, len(json.dumps(FIRST)) + 1)
        write(run_dir, trial(7), mode="a")
        left = {7}
    elif way == "replaced":
        other = write(tmp_path / "other", FIRST, *(trial(i) for i in range(10)))
        os.replace(other / lines.NAME, path)
        left = set(range(10))
    else:
        write(run_dir, FIRST, *(trial(i) for i in range(20, 30)))
        left = set(range(20, 30))
    assert run.look() == left | set(range(5))
    assert run.trials.keys() == left
    assert run.counts == {"CANDIDATE": len(left)}
    assert everything(run) == everything(looked(run_dir))


def test_damage_is_said_with_its_line_and_what_is_before_it_is_there(tmp_path: Path):
    run = Run(write(tmp_path, FIRST, trial(0), '{"k":"tri', trial(1)))
    for _ in range(2):
        with pytest.raises(JournalDamaged) as caught:
            run.look()
        assert caught.value.line == 3
        assert run.trials.keys() == {0}
    write(tmp_path, FIRST, trial(0), trial(1))
    run.look()
    assert run.trials.keys() == {0, 1}


@pytest.mark.parametrize(
    "line",
    [
        "[1]",
        "7",
        '{"i":1}',
        '{"k":7}',
        "",
        '{"k":"trial","i":0}',
        '{"k":"key","i":9,"n":1,"key":""}',
    ],
)
def test_what_is_no_line_is_damage(tmp_path: Path, line: str):
    with pytest.raises(JournalDamaged) as caught:
        looked(write(tmp_path, FIRST, line, trial(0)))
    assert caught.value.line == 2


def test_a_line_that_is_split_or_joined_is_damage(tmp_path: Path):
    """Together they would be as many lines as there are."""
    joined = f"{json.dumps(trial(0))},{json.dumps(trial(1))}"
    for text in ([joined], ['{"k":"ended"', '"more":1}'], [joined, '{"k":"ended"', '"m":1}']):
        with pytest.raises(JournalDamaged) as caught:
            looked(write(tmp_path, FIRST, *text))
        assert caught.value.line == 2


def test_parameters_that_look_like_the_end_of_a_line_are_read(tmp_path: Path):
    for i, parameters in enumerate(
        [{"x": '},"o":{'}, {"o": 1, "p": '"},"o":1}'}, {"x": {"y": {"z": 1}, "o": {}}}, {}]
    ):
        line = {"k": "trial", "t": 1.0, "i": 0, "p": parameters}
        for more in ({}, {"o": {"arms": [{"o": {"counted": True}}]}}, {"o": {}, "counted": True}):
            written = json.dumps({**line, **more}, separators=(",", ":"))  # as the writer does
            run = looked(write(tmp_path / str(i), FIRST, written))
            assert run.trials[0].parameters == parameters
            assert run.made == ("counted" in more)


# ---- other versions ------------------------------------------------------------------------


def test_a_newer_minor_versions_run_is_read_and_goes_on(make: Make, tmp_path: Path):
    """Each line has a field that nobody here knows, and there are kinds that may be skipped."""
    scheduler = make()
    scheduler.run_optimization(max_trials=2)
    scheduler.close()
    path = scheduler.run_directory / lines.NAME
    written = [json.loads(raw) for raw in path.read_text().splitlines()]
    before = everything(looked(scheduler.run_directory))
    for line in written:
        line["later"] = {"k": 1}
    written[0]["config"]["later"] = True
    news = {"k": "later", "t": 9.0, "skip": True, "i": 77}
    write(scheduler.run_directory, *written[:1], news, *written[1:], news)
    after = everything(looked(scheduler.run_directory))
    assert {**after, "last_at": None} == {**before, "last_at": None}
    with resume(scheduler.run_directory, ToyRunner()) as again:
        again.run_optimization(max_trials=1)
        assert len(again.trials) == 3


def test_a_kind_that_may_not_be_skipped_is_refused_in_words(tmp_path: Path):
    run_dir = write(tmp_path, FIRST, trial(0), {"k": "later", "i": 0})
    for read in (lambda: replay.read(run_dir / lines.NAME), lambda: looked(run_dir)):
        with pytest.raises(JournalDamaged, match="unknown kind 'later'.*upgrade"):
            read()


def test_a_newer_format_is_refused_and_so_is_another_runs_journal(tmp_path: Path):
    with pytest.raises(InvalidInput, match="format 2"):
        looked(write(tmp_path, {**FIRST, "format": 2}))
    named = tmp_path / "exp-20260101-000000-abcdefabcd"
    with pytest.raises(InvalidInput, match="another run"):
        looked(write(named, FIRST))
    with pytest.raises(InvalidInput, match="is not a run directory"):
        looked(tmp_path / "nothing")


def test_an_early_versions_journal_is_read(make: Make):
    runner = ToyRunner(lambda r: JobStatus(JobState.LOST) if r.attempt == 1 else {"loss": 1})
    scheduler = make(runner=runner)
    scheduler.run_optimization(max_trials=2)
    scheduler.close()
    path = scheduler.run_directory / lines.NAME
    written = [json.loads(raw) for raw in path.read_text().splitlines()]
    early = [{k: v for k, v in line.items() if k != "t"} for line in written]
    early = [line for line in early if line["k"] not in ("running", "waiting", "attempt")]
    for name in ("name", "host", "optimized"):
        del early[0][name]
    for line in early:
        if line["k"] == "trial":
            line["counted"] = line.pop("counted")  # it was the last
    write(scheduler.run_directory, *early)
    run = looked(scheduler.run_directory)
    assert (run.state, run.made, run.to_make, run.name) == ("finished", 2, 0, "")
    assert journalled(scheduler.run_directory) == known(scheduler.trials)
    with resume(scheduler.run_directory, runner) as again:
        again.run_optimization(max_trials=1)
    assert len(looked(scheduler.run_directory).trials) == 3


# ---- where it is read from -----------------------------------------------------------------


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in (folder, *folder.rglob("*"))
    }


def test_a_look_writes_nothing_and_takes_nothing(make: Make):
    scheduler = make(runner=ToyRunner(lambda request: None))
    scheduler.run_trial(scheduler.get_next_trial())
    before = files(scheduler.run_directory)
    run = looked(scheduler.run_directory)
    assert files(scheduler.run_directory) == before
    assert run.state == "running"
    scheduler._run.writer.flush()  # it has its lock
    scheduler.close()
    os.chmod(scheduler.run_directory, 0o500)
    try:
        assert run.look() == {0}
    finally:
        os.chmod(scheduler.run_directory, 0o700)


def test_a_copy_is_read_where_no_driver_is(make: Make, tmp_path: Path):
    scheduler = make(runner=ToyRunner(lambda request: None))
    scheduler.run_trial(scheduler.get_next_trial())
    scheduler._run.writer.flush()
    copy = tmp_path / "copy"
    shutil.copytree(scheduler.run_directory, copy)
    holder = json.loads((copy / lock.NAME).read_text())
    elsewhere = {**holder, "host": "elsewhere", "boot_id": "of elsewhere"}
    (copy / lock.NAME).write_text(json.dumps(elsewhere))
    run = looked(copy)
    assert run.driver == lock.Holder("elsewhere", os.getpid(), holder["since"], seen=False)
    assert run.state == "running"  # as far as one can see
    long_ago = time.time() - 2 * lock.STALE
    os.utime(copy / lock.NAME, (long_ago, long_ago))
    assert run.look() == set()
    assert (run.driver, run.state) == (None, "interrupted")
    assert run.folder(run.trials[0]) == copy / "jobs" / "00000-1"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"token": 7}', '{"token": "a", "pid": "b"}'])
def test_a_lock_that_cannot_be_read_is_somebodys_for_a_while(tmp_path: Path, content: str):
    run_dir = write(tmp_path, FIRST)
    (run_dir / lock.NAME).write_text(content)
    assert looked(run_dir).driver is not None
    long_ago = time.time() - 2 * lock.STALE
    os.utime(run_dir / lock.NAME, (long_ago, long_ago))
    assert looked(run_dir).driver is None


def test_a_driver_that_has_died_is_none(make: Make):
    scheduler = make()
    scheduler.run_optimization(max_trials=1)
    path = scheduler.run_directory / lock.NAME
    dead = {**json.loads(path.read_text()), "pid": 2**22 + 1}
    other = write(scheduler.run_directory.parent / "other", FIRST)
    (other / lock.NAME).write_text(json.dumps(dead))
    assert looked(other).driver is None
    assert (other / lock.NAME).exists()


def test_all_runs_of_a_folder_are_found_also_later_ones(tmp_path: Path):
    (tmp_path / "no run").mkdir()
    (tmp_path / "a file").write_text("")
    first = write(tmp_path / "b", FIRST, trial(0))
    runs = Runs(tmp_path)
    assert list(runs.look()) == [first]
    before = runs.runs[first]
    damaged = write(tmp_path / "a", FIRST, "damage", trial(0))
    write(first, trial(1), mode="a")
    assert list(runs.look()) == [damaged, first]
    assert runs.runs[first] is before
    assert len(before.trials) == 2
    assert runs.unreadable.keys() == {damaged}
    assert "line 2" in runs.unreadable[damaged]
    shutil.rmtree(damaged)
    assert (list(runs.look()), runs.unreadable) == ([first], {})
    assert list(Runs(first).look()) == [first]


def test_it_needs_neither_ax_nor_a_runner(tmp_path: Path):
    write(tmp_path, FIRST, trial(0))
    program = (
        "import sys\n"
        "from axsched_core.journal.view import Run\n"
        f"run = Run({str(tmp_path)!r})\n"
        "run.look()\n"
        "print(len(run.trials), {'ax', 'torch', 'joblib', 'docker', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("1 set()", "")


def test_an_optimizer_that_says_nothing_of_itself_has_names(tmp_path: Path):
    found = Optimizer.describe(ToyOptimizer(objectives=("a", "b")))
    assert [one["name"] for one in found["objectives"]] == ["a", "b"]
    assert [one["name"] for one in found["parameters"]] == ["x", "y"]
