"""A trial that the user ends by hand: it is told once, also if something goes wrong at first."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from axsched_core import AxScheduler, TrialState
from axsched_core.errors import InvalidInput, OptimizationInterrupted, OptimizerError
from axsched_core.journal.lines import Journal
from axsched_core.optimizers.base import Outcome
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
    places[0] = 1
    runner.finish = lambda request: {"loss": 2.0}
    scheduler.run_optimization(1)
    assert scheduler.trials[index].results == {"loss": (1.0, None)}
    assert optimizer.told.count((index, "COMPLETED")) == 1
    assert len(runner.requests) == 1 + (job == "runs")
