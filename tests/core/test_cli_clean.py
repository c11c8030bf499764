"""`axsched clean`: what it shows, asks and removes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import click.testing
import pytest
from click.testing import CliRunner

from axsched_core import AxScheduler
from axsched_core.cli.main import main
from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import Cause, JobState, JobStatus
from axsched_core.journal.lock import RunLock
from axsched_core.runners import discovery
from axsched_core.trials import TrialState
from support.resuming import resume
from support.toy import ToyOptimizer, ToyRunner


class Untidy(ToyRunner):
    """A runner that has left two jobs of every run."""

    def __init__(self) -> None:
        super().__init__()
        self.left = ["job one", "job two"]
        self.asked: list[str] = []
        self.options: list[dict[str, object]] = []

    @hookimpl
    def axsched_find_leftovers(self, run_id: str) -> Sequence[str]:
        self.asked.append(run_id)
        return list(self.left)

    @hookimpl
    def axsched_remove_leftovers(self, run_id: str) -> Sequence[str]:
        self.asked.append(run_id)
        removed, self.left = self.left, []
        return removed


@pytest.fixture
def run_dir(make: Callable[..., AxScheduler]) -> Path:
    scheduler = make()
    scheduler.run_optimization(max_trials=1)
    scheduler.close()
    return scheduler.run_directory


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Untidy:
    """What the run's runner is loaded as."""
    made = Untidy()
    loaded = SimpleNamespace(make_runner=lambda options: made.options.append(options) or made)
    monkeypatch.setattr(discovery, "load", lambda name: loaded)
    return made


def clean(*arguments: object, answer: str = "") -> click.testing.Result:
    given = ["--option", "url=here"]  # what an instance was given is not written down
    return CliRunner().invoke(main, ["clean", *given, *map(str, arguments)], input=answer)


def test_it_shows_asks_and_removes(run_dir: Path, runner: Untidy):
    result = clean(run_dir, answer="n\n")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:2] == ["job one", "job two"]
    assert runner.left == ["job one", "job two"]
    result = clean(run_dir, answer="y\n")
    assert result.exit_code == 0
    assert "removed: job one\nremoved: job two\n" in result.stdout
    assert runner.left == []
    assert set(runner.asked) == {run_dir.name.rpartition("-")[2]}
    assert clean(run_dir).stdout == "The run has left nothing.\n"


def test_with_yes_it_does_not_ask(run_dir: Path, runner: Untidy):
    assert clean(run_dir, "--yes").exit_code == 0
    assert runner.left == []


def test_it_makes_no_runner_of_defaults_in_place_of_an_instance(run_dir: Path, runner: Untidy):
    result = CliRunner().invoke(main, ["clean", str(run_dir), "--yes"])
    assert result.exit_code == 1
    assert "given as an instance" in result.stderr
    assert runner.asked == []
    assert clean(run_dir, "--yes").exit_code == 0
    assert runner.options == [{"url": "here"}]


def test_it_is_refused_while_a_driver_is_at_the_run(run_dir: Path, runner: Untidy):
    lock = RunLock(run_dir)
    lock.acquire()
    try:
        result = clean(run_dir, "--yes")
    finally:
        lock.release()
    assert result.exit_code == 1
    assert "is in use by another driver" in result.stderr
    assert runner.asked == []


def test_a_runner_that_cannot_say_what_it_leaves(run_dir: Path, monkeypatch: pytest.MonkeyPatch):
    loaded = SimpleNamespace(make_runner=lambda options: ToyRunner())
    monkeypatch.setattr(discovery, "load", lambda name: loaded)
    result = clean(run_dir, "--yes")
    assert result.exit_code == 1
    assert "lacks the hook axsched_find_leftovers" in result.stderr
    RunLock(run_dir).acquire()  # it has let go of the run


def test_clean_of_no_run_directory(tmp_path: Path):
    result = clean(tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is not a run directory" in result.stderr


def test_what_was_removed_is_made_again(make: Callable[..., AxScheduler], runner: Untidy):
    last = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), last, on_exit="leave")
    scheduler.run_trial(scheduler.get_next_trial())
    scheduler.close()
    assert clean(scheduler.run_directory, "--yes").exit_code == 0
    # As a backend says it whose job was cancelled by hand.
    last.end(last.running()[0], JobStatus(JobState.CANCELLED, Cause.CANCELLED, "by somebody"))
    last.finish = lambda request: {"loss": 1.0}
    with resume(scheduler.run_directory, last) as again:
        again.finish()
        assert again.trials[0].state is TrialState.SUCCEEDED
