"""What begins is said to end, once: a call, a run for its observers, an attempt."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from axsched_core import events, hookimpl
from axsched_core.errors import RunnerError
from axsched_core.observers.progress import Progress
from support.toy import ToyOptimizer, ToyRunner


class Seen:
    def __init__(self) -> None:
        self.events: list[events.Event] = []

    @hookimpl
    def axsched_on_event(self, event: events.Event) -> None:
        self.events.append(event)

    @property
    def frames(self) -> list[str]:
        kinds = (events.RunStarted, events.RunEnded)
        return [type(event).__name__ for event in self.events if isinstance(event, kinds)]


PAIR = ["RunStarted", "RunEnded"]


def test_a_batch_that_does_not_wait_starts_no_run(make):
    seen, runner = Seen(), ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner, plugins=[seen])
    with scheduler.batch_trial_context(synchronous=False) as batch:
        batch.add_generated(1)
    assert seen.frames == []
    runner.end(runner.key_of(0), {"loss": 1.0})
    scheduler.wait_for_completed_trials()
    assert seen.frames in ([], PAIR)  # it may have ended before the call


def test_a_trial_that_waits_is_a_run(make):
    seen = Seen()
    scheduler = make(plugins=[seen], synchronous=True)
    scheduler.run_trial(scheduler.get_next_trial())
    assert seen.frames == PAIR


def test_a_call_that_fails_early_is_a_run(make):
    class Broken(ToyRunner):
        @hookimpl
        def axsched_open(self, context):
            raise OSError("no")

    seen = Seen()
    with pytest.raises(RunnerError):
        make(ToyOptimizer(), Broken(), plugins=[seen]).run_optimization(1)
    assert seen.frames == PAIR


def test_progress_gives_the_terminal_back_after_two_starts():
    before = sys.stdout
    progress = Progress(Console(file=io.StringIO(), force_terminal=True))
    for event in (events.RunStarted(trials=1), events.RunStarted(trials=1), events.RunEnded()):
        progress.axsched_on_event(event)
    now, sys.stdout = sys.stdout, before
    assert now is before
