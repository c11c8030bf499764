"""A trial that the user ends by hand: it is told once, also if something goes wrong at first."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from axsched_core import AxScheduler, TrialState, hookimpl
from axsched_core.errors import InvalidInput, OptimizationInterrupted, OptimizerError
from axsched_core.journal.lines import Journal
from axsched_core.journal.writer import Writer
from axsched_core.optimizers.base import Outcome
from support.ctrl_c import press_ctrl_c
from support.toy import ToyOptimizer, ToyRunner

Spoil = Callable[[ToyOptimizer, Any], tuple[type[BaseException], Callable[[], None]]]


def the_optimizer_refuses(optimizer: ToyOptimizer, monkeypatch: Any):
    def tell(outcomes: Sequence[Outcome]) -> None:
        if outcomes:
            raise ValueError("not now")

    optimizer.on_tell = tell
    return OptimizerError, lambda: setattr(optimizer, "on_tell", lambda outcomes: None)


def ctrl_c(optimizer: ToyOptimizer, monkeypatch: Any):
    def tell(outcomes: Sequence[Outcome]) -> None:
        if outcomes:
            os.kill(os.getpid(), signal.SIGINT)

    optimizer.on_tell = tell
    return OptimizationInterrupted, lambda: setattr(optimizer, "on_tell", lambda outcomes: None)


def the_disk_is_full(optimizer: ToyOptimizer, monkeypatch: Any):
    flush = Journal.flush

    def full(journal: Journal) -> None:
        if any(b'"outcome"' in line for line in journal._waiting):
            raise OSError(errno.ENOSPC, "full")
        flush(journal)

    monkeypatch.setattr(Journal, "flush", full)
    return InvalidInput, lambda: monkeypatch.setattr(Journal, "flush", flush)


@pytest.mark.parametrize("spoil", [the_optimizer_refuses, ctrl_c, the_disk_is_full])
@pytest.mark.parametrize("job", ["none", "waits", "runs"])
def test_what_could_not_be_told_is_told_by_the_next_call(
    make: Callable[..., AxScheduler], monkeypatch: Any, spoil: Spoil, job: str
):
    optimizer, places = ToyOptimizer(), [int(job == "runs")]
    runner = ToyRunner(lambda request: None, free=lambda: places[0])
    scheduler = make(optimizer, runner)
    index = scheduler.get_next_trial()
    if job != "none":
        scheduler.run_trial(index)
    error, mend = spoil(optimizer, monkeypatch)
    with pytest.raises(error):
        scheduler.complete_trial(index, {"loss": 1.0, "notes": "by hand"})
    assert scheduler.trials[index].state is TrialState.SUCCEEDED
    mend()
    with pytest.raises(InvalidInput, match="has ended already|is not open: it is COMPLETED"):
        scheduler.complete_trial(index, {"loss": 3.0})
    places[0] = 1
    runner.finish = lambda request: {"loss": 2.0}
    scheduler.run_optimization(1)
    assert scheduler.trials[index].results == {"loss": (1.0, None)}
    assert optimizer.told.count((index, "COMPLETED")) == 1
    assert len(runner.requests) == 1 + (job == "runs")


def test_only_the_engine_and_the_caller_write_the_journal(make, monkeypatch):
    seen, add = dict[str, set[str]](), Writer.add

    def spy(self: Writer, kind: str, /, **data: Any) -> None:
        seen.setdefault(kind, set()).add(threading.current_thread().name)
        add(self, kind, **data)

    monkeypatch.setattr(Writer, "add", spy)
    scheduler = make()
    scheduler.complete_trial(scheduler.get_next_trial(), {"loss": 1.0})
    with scheduler.batch_trial_context() as batch:
        batch.add_trial({"x": 0.5, "y": 0.5})
    scheduler.run_optimization(2)
    for kind in ("trial", "key", "handle", "outcome"):
        assert seen[kind] == {"axsched-engine"}
    assert set.union(*seen.values()) <= {"axsched-engine", threading.main_thread().name}


def test_a_call_waits_until_the_engine_has_come_back_from_a_hook(make, monkeypatch):
    """A second Ctrl-C has left it in the middle of a poll; a call that needs no job comes."""
    monkeypatch.setattr("axsched_core.run.timing.LEAVING_GRACE", 0.0)
    polling, answers = threading.Event(), threading.Event()

    class Hangs(ToyRunner):
        @hookimpl
        def axsched_poll(self, handles):
            polling.set()
            assert answers.wait(20)
            asked.append("poll")
            return super().axsched_poll(handles)

    asked: list[str] = []
    optimizer, runner = ToyOptimizer(), Hangs(lambda request: None)
    scheduler = make(optimizer, runner)
    presser = press_ctrl_c(polling, times=2)
    with pytest.raises(OptimizationInterrupted):
        scheduler.run_optimization(1)
    presser.join()
    optimizer.on_ask = lambda n: asked.append("ask")
    threading.Timer(0.3, answers.set).start()
    assert scheduler.get_next_trial() == 1
    assert asked == ["poll", "ask"]
    runner.end(runner.key_of(0), {"loss": 1.0})
