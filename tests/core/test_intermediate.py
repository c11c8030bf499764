"""Intermediate results: from the line that a job writes to the optimizer, and early stopping."""

from __future__ import annotations

import itertools
import json
import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from axsched_core import AxScheduler, TrialState, hookimpl
from axsched_core.errors import BackendUnavailable, InvalidInput, OptimizerError
from axsched_core.events import Event, IntermediateResult
from axsched_core.jobs import Cause, JobHandle, JobState, JobStatus, Report
from axsched_core.journal import view
from axsched_core.objectives.intermediate import LINE_LIMIT, Thinned, read
from axsched_core.testing import RandomSearch
from support.resuming import died, resume
from support.toy import ToyOptimizer, ToyRunner

Make = Callable[..., AxScheduler]


class Listening(ToyOptimizer):
    """Takes intermediate results, and stops the trials that it is told to."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.reports: dict[int, list[Report]] = {}
        self.to_be_stopped: dict[int, str] = {}
        self.judged: list[list[int]] = []
        self.heard = threading.Semaphore(0)
        self.error: Exception | None = None

    def tell_intermediate(self, reports: Mapping[int, Sequence[Report]]) -> None:
        for index, found in reports.items():
            assert self.rows[index]["status"] == "RUNNING"
            self.reports.setdefault(index, []).extend(found)
            self.heard.release()

    def to_stop(self, indices: Sequence[int]) -> dict[int, str]:
        self.judged.append(list(indices))
        if self.error is not None:
            raise self.error
        return {i: why for i, why in self.to_be_stopped.items() if i in indices}


class Reporting(ToyRunner):
    """Its jobs report what the test says."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.lines: dict[str, bytes] = {}

    def reports(self, trial_index: int, text: str | bytes | Mapping[str, Any]) -> None:
        key = self.key_of(trial_index)
        if isinstance(text, Mapping):
            text = json.dumps(text) + "\n"
        data = text.encode() if isinstance(text, str) else text
        self.lines[key] = self.lines.get(key, b"") + data

    @hookimpl
    def axsched_read_progress(
        self, handles: Sequence[JobHandle], offsets: Mapping[str, int]
    ) -> dict[str, bytes]:
        self._called("axsched_read_progress", len(handles))
        return {h.key: self.lines.get(h.key, b"")[offsets[h.key] :] for h in handles}


class Ear:
    def __init__(self) -> None:
        self.heard: list[IntermediateResult] = []

    @hookimpl
    def axsched_on_event(self, event: Event) -> None:
        if isinstance(event, IntermediateResult):
            self.heard.append(event)


@pytest.fixture
def runner() -> Reporting:
    return Reporting(lambda request: None)


@pytest.fixture
def optimizer() -> Listening:
    return Listening()


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def running(make: Make, optimizer: Listening, runner: Reporting, ear: Ear, in_thread):
    """Start a call of some trials, and return it when all of them run."""

    def start(n: int = 1, **settings: Any):
        scheduler = make(optimizer, runner, plugins=[ear], prefetch=0, **settings)
        outcome = in_thread(lambda: scheduler.run_optimization(n))
        for _ in range(min(n, settings.get("max_parallelism", n))):
            assert runner.submitted.acquire(timeout=30)
        return scheduler, outcome

    return start


def heard(optimizer: Listening, n: int = 1) -> None:
    for _ in range(n):
        assert optimizer.heard.acquire(timeout=30)


def test_reports_reach_optimizer_observers_and_journal_while_the_job_runs(
    running, optimizer, runner, ear
):
    scheduler, outcome = running()
    runner.reports(0, {"step": 1, "loss": 0.5})
    runner.reports(0, {"step": 2, "loss": [0.25, 0.1], "speed": 3})
    heard(optimizer)
    first, second = (
        Report(1, {"loss": (0.5, None)}),
        Report(2, {"loss": (0.25, 0.1), "speed": (3.0, None)}),
    )
    assert optimizer.reports == {0: [first, second]}
    assert optimizer.rows[0]["status"] == "RUNNING"
    runner.end(runner.key_of(0), {"loss": 0.2})
    outcome.result()
    assert [(e.step, e.results) for e in ear.heard] == [
        (1, first.metrics),
        (2, second.metrics),
    ]
    assert {(e.trial_index, e.key) for e in ear.heard} == {(0, runner.key_of(0))}
    run = view.Run(scheduler.run_directory)
    run.look()
    assert run.trials[0].attempts[0].reports == {1: first.metrics, 2: second.metrics}
    assert scheduler.trials[0].results == {"loss": (0.2, None)}


@pytest.mark.parametrize(
    "end",
    [{"loss": 0.2}, JobStatus(JobState.FAILED, cause=Cause.EXIT_CODE, exit_code=1)],
    ids=["succeeded", "failed"],
)
def test_what_a_job_has_reported_just_before_its_end_is_not_lost(running, optimizer, runner, end):
    scheduler, outcome = running(2)
    runner.end(runner.key_of(1), {"loss": 1.0})
    runner.reports(0, {"step": 1, "loss": 0.5})
    heard(optimizer)
    calls = scheduler._run.lanes[0].calls
    scheduler._run.engine.loop.call(  # from here on only the end of the job makes anybody read
        lambda: calls.rest_until("axsched_read_progress", math.inf)
    )
    runner.reports(0, {"step": 2, "loss": 0.4})
    runner.end(runner.key_of(0), end)
    outcome.result()
    assert [report.step for report in optimizer.reports[0]] == [1, 2]


def test_a_job_that_reports_only_once_at_its_very_end(running, optimizer, runner):
    scheduler, outcome = running()
    calls = scheduler._run.lanes[0].calls
    scheduler._run.engine.loop.call(lambda: calls.rest_until("axsched_read_progress", math.inf))
    runner.reports(0, {"step": 7, "loss": 0.4})
    runner.end(runner.key_of(0), {"loss": 0.3})
    outcome.result()
    assert optimizer.reports == {0: [Report(7, {"loss": (0.4, None)})]}


def test_malformed_lines_are_said_once_and_lose_nothing(running, optimizer, runner, caplog):
    with caplog.at_level(logging.WARNING, "axsched"):
        _, outcome = running()
        for step in range(3):
            runner.reports(0, "this is no JSON\n[1, 2]\n\n")
            runner.reports(0, {"step": step, "loss": "high", "speed": 1.0})
        heard(optimizer)
        runner.end(runner.key_of(0), {"loss": 0.3})
        outcome.result()
    assert [r.step for r in optimizer.reports[0]] == [0, 1, 2]
    assert all(r.metrics == {"speed": (1.0, None)} for r in optimizer.reports[0])
    said = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert len(said) == 3
    assert sum("is 'high', not a number" in words for words in said) == 1


def test_an_outage_delays_reports_only(running, optimizer, runner):
    runner.faults["axsched_read_progress"] = [BackendUnavailable("no route")] * 2
    _, outcome = running()
    runner.reports(0, {"step": 1, "loss": 0.5})
    heard(optimizer)
    runner.end(runner.key_of(0), {"loss": 0.3})
    outcome.result()
    assert optimizer.reports == {0: [Report(1, {"loss": (0.5, None)})]}


# ---- early stopping -----------------------------------------------------------------------------


def test_a_trial_that_promises_nothing_is_stopped_and_its_place_refilled(
    running, optimizer, runner
):
    optimizer.to_be_stopped = {0: "worse than the others"}
    scheduler, outcome = running(3, max_parallelism=2)
    runner.reports(0, {"step": 1, "loss": 0.9})
    assert runner.submitted.acquire(timeout=30), "the third trial gets the place"
    assert runner.cancels == [(runner.key_of(0), "stopped early")]
    for index in (1, 2):
        runner.end(runner.key_of(index), {"loss": 0.1 * index})
    best = outcome.result()
    trial = scheduler.trials[0]
    assert trial.state is TrialState.EARLY_STOPPED
    assert trial.cause is None
    assert trial.message == "worse than the others"
    assert trial.results == {"loss": (0.9, None)}
    assert optimizer.told.count((0, "EARLY_STOPPED")) == 1
    assert best.trial_index == 1


def test_only_running_trials_with_reports_are_judged(running, optimizer, runner):
    _, outcome = running(2)
    runner.reports(1, {"step": 1, "loss": 0.9})
    heard(optimizer)
    for index in (0, 1):
        runner.end(runner.key_of(index), {"loss": 0.1})
    outcome.result()
    assert optimizer.judged
    assert {index for judged in optimizer.judged for index in judged} == {1}


def test_a_job_that_ends_well_before_it_is_stopped_has_succeeded(make, optimizer, in_thread):
    class TooLate(Reporting):
        @hookimpl
        def axsched_cancel(self, handles, reason):
            for handle in handles:
                self.end(handle.key, {"loss": 0.7})
            return super().axsched_cancel(handles, reason)

    runner = TooLate(lambda request: None)
    optimizer.to_be_stopped = {0: "no"}
    scheduler = make(optimizer, runner, prefetch=0)
    outcome = in_thread(lambda: scheduler.run_optimization(1))
    assert runner.submitted.acquire(timeout=30)
    runner.reports(0, {"step": 1, "loss": 0.9})
    outcome.result()
    assert scheduler.trials[0].state is TrialState.SUCCEEDED
    assert scheduler.trials[0].results == {"loss": (0.7, None)}


def test_a_strategy_that_raises_ends_the_call_with_its_words(running, optimizer, runner):
    optimizer.error = ValueError("no curve")
    _, outcome = running(2)
    runner.reports(0, {"step": 1, "loss": 0.9})
    heard(optimizer)
    for index in (0, 1):
        runner.end(runner.key_of(index), {"loss": 0.1})
    with pytest.raises(OptimizerError, match="which trials to stop early: ValueError: no curve"):
        outcome.result()


def test_strategies_of_ax_need_an_optimizer_of_ax(make):
    with pytest.raises(InvalidInput, match="go with Ax"):
        AxScheduler(RandomSearch({"x": (0, 1)}), ToyRunner(), early_stopping_strategy=object())


# ---- after the driver's death -------------------------------------------------------------------


def test_the_next_driver_reads_again_and_stops_what_the_last_one_would(
    running, optimizer, runner, tmp_path: Path
):
    scheduler, outcome = running(2)
    runner.reports(0, {"step": 1, "loss": 0.9})
    heard(optimizer)
    scheduler._run.engine.loop.call(scheduler._run.writer.flush)
    run_dir = died(scheduler, tmp_path / "next")
    optimizer.to_be_stopped = {}
    for index in (0, 1):
        runner.end(runner.key_of(index), {"loss": 0.5})
    outcome.result()

    second = Listening()
    second.load = lambda path: _loaded(second, path)  # type: ignore[method-assign]
    second.to_be_stopped = {0: "still bad"}
    for index in (0, 1):
        runner.statuses[runner.key_of(index)] = JobStatus(JobState.RUNNING)
    after = resume(run_dir, runner, optimizer=second, runner=_next(runner))
    try:
        runner_now = after._run.lanes[0]
        assert runner_now.reads_progress
        waiting = threading.Thread(target=after.wait_for_completed_trials)
        waiting.start()
        heard(second)
        _next.made[-1].end(runner.key_of(1), {"loss": 0.5})
        waiting.join(30)
        assert after.trials[0].state is TrialState.EARLY_STOPPED
        assert after.trials[1].state is TrialState.SUCCEEDED
        assert Report(1, {"loss": (0.9, None)}) in second.reports[0]
    finally:
        after.close()


def _next(last: Reporting) -> Reporting:
    runner = Reporting(lambda request: None)
    runner.requests, runner.statuses, runner.results = last.requests, last.statuses, last.results
    runner.lines = last.lines
    _next.made.append(runner)  # type: ignore[attr-defined]
    return runner


_next.made = []  # type: ignore[attr-defined]


def _loaded(into: Listening, path: Path) -> Listening:
    into.rows = ToyOptimizer.load(into, path).rows
    return into


def test_a_driver_that_died_while_it_stopped_a_trial_early(
    make, optimizer, in_thread, tmp_path: Path
):
    died_at: list[Path] = []

    class Dies(Reporting):
        @hookimpl
        def axsched_cancel(self, handles, reason):
            died_at.append(died(scheduler, tmp_path / "next"))
            return super().axsched_cancel(handles, reason)

    runner = Dies(lambda request: None)
    optimizer.to_be_stopped = {0: "bad"}
    scheduler = make(optimizer, runner, prefetch=0)
    outcome = in_thread(lambda: scheduler.run_optimization(2))
    for _ in range(2):
        assert runner.submitted.acquire(timeout=30)
    runner.reports(0, {"step": 3, "loss": 0.9})
    heard(optimizer)
    runner.end(runner.key_of(1), {"loss": 0.2})
    outcome.result()

    second = Listening()
    second.load = lambda path: _loaded(second, path)  # type: ignore[method-assign]
    after = resume(died_at[0], runner, optimizer=second, runner=_next(runner))
    try:
        after.wait_for_completed_trials()
        trial = after.trials[0]
        assert (trial.state, trial.message) == (TrialState.EARLY_STOPPED, "bad")
        assert trial.results == {"loss": (0.9, None)}
    finally:
        after.close()


# ---- lines --------------------------------------------------------------------------------------


def test_lines_that_are_too_long_or_too_deep_are_left_out():
    found, wrong = read(
        b'{"step": 1, "note": "'
        + b"x" * LINE_LIMIT
        + b'"}\n'
        + b"[" * 90_000
        + b"\n"
        + b'{"step": NaN, "loss": 1}\n{"loss": 1}\n{"step": 2, "loss": 1}\n'
    )
    assert found == [Report(2, {"loss": (1.0, None)})]
    assert len(wrong) == 4


def test_of_very_many_fewer_and_fewer_are_taken():
    thinned = Thinned(10, 1.2)
    taken = [number for number in range(1, 10_001) if thinned.takes()]
    assert taken[:12] == [*range(1, 11), 12, 15]
    assert len(taken) < 60
    assert all(b <= a * 1.2 + 1 for a, b in itertools.pairwise(taken))
