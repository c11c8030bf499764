"""The user changes the object between two calls: that is what goes on, also after a crash."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from axsched_core import AxScheduler
from axsched_core.errors import InvalidInput
from support import ax_changes, environment
from support.ax_changes import CHANGES, KINDS, NOT_OF_AN_EXPERIMENT, held, make, strategy_of
from support.resuming import died, next_runner
from support.sql_driver import NAME, URL, settings
from support.toy import ToyRunner

pytestmark = [
    pytest.mark.ax,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("one_connection"),
]

EACH = [
    (kind, change)
    for kind in KINDS
    for change in CHANGES
    if kind != "experiment" or change not in NOT_OF_AN_EXPERIMENT
]


def evaluating() -> ToyRunner:
    return ToyRunner(lambda request: {"loss": request.parameters["x"], "time": 2.0})


def scheduler_of(kind: str, tmp_path: Path, runner: ToyRunner, **more: Any) -> AxScheduler:
    """With three trials that have ended."""
    optimizer, strategy = make(kind)
    scheduler = AxScheduler(
        optimizer,
        runner,
        {"job_output_dir": tmp_path / "out", "progress": False},
        generation_strategy=strategy,
        **more,
    )
    scheduler.run_optimization(max_trials=3)
    return scheduler


def now(scheduler: AxScheduler) -> dict[str, Any]:
    return held(scheduler.experiment, strategy_of(scheduler))


def snapshots(scheduler: AxScheduler) -> int:
    return len(list(scheduler.run_directory.glob("snapshot-*.json")))


@pytest.mark.parametrize(("kind", "change"), EACH)
def test_what_was_changed_between_two_calls_is_what_the_next_driver_has(
    kind: str, change: str, tmp_path: Path
):
    runner = evaluating()
    with scheduler_of(kind, tmp_path, runner) as scheduler:
        before = now(scheduler)
        CHANGES[change](scheduler)
        changed = now(scheduler)
        assert changed != before
        scheduler.monitor_trials()  # the smallest of all calls
        copy = died(scheduler, tmp_path / "died")
    with AxScheduler.resume(copy, runner=next_runner(runner)) as resumed:
        assert now(resumed) == changed


@pytest.mark.parametrize(("kind", "change"), EACH)
def test_what_was_changed_between_two_calls_is_in_the_database_after_the_next(
    kind: str, change: str, tmp_path: Path, url: str
):
    stored = settings(url)
    with scheduler_of(kind, tmp_path, evaluating(), db_settings=stored) as scheduler:
        before = now(scheduler)
        CHANGES[change](scheduler)
        changed = now(scheduler)
        assert changed != before
        scheduler.monitor_trials()
        assert now(scheduler) == changed
        assert in_database(url) == changed
        scheduler.run_optimization(max_trials=2)  # and it goes on being stored
        assert in_database(url) == now(scheduler)


def in_database(url: str) -> dict[str, Any]:
    from ax.storage.sqa_store.with_db_settings_base import WithDBSettingsBase

    loader = WithDBSettingsBase(settings(url))
    return held(*loader._load_experiment_and_generation_strategy(NAME))


ALL_AT_ONCE = {
    "client": ["direction", "constraint", "space", "new strategy", "value", "properties"],
    "ax_client": ["constraint", "space", "new strategy", "value", "status quo"],
    "experiment": ["direction", "space", "strategy", "value", "run metadata", "same metric"],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_database", [False, True], ids=["", "database"])
def test_a_driver_that_is_killed_after_changes_is_followed_by_one_that_has_them(
    kind: str, with_database: bool, tmp_path: Path, url: str
):
    def killed(out: Path, names: list[str], url: str) -> Path:
        ran = subprocess.run(
            [sys.executable, ax_changes.__file__, kind, str(out), *names],
            env=environment(**({URL: url} if with_database else {})),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == -signal.SIGKILL, ran.stderr
        (run_dir,) = out.iterdir()
        return run_dir

    names = ALL_AT_ONCE[kind]
    run_dir = killed(tmp_path / "out", names, url)
    runner = evaluating()
    if with_database:
        resumed = AxScheduler.from_stored_experiment(NAME, db_settings=settings(url), runner=runner)
    else:
        resumed = AxScheduler.resume(run_dir, runner=runner)
    with resumed:
        resumed.finish()
        found = now(resumed)
    assert found["objective"] == ("loss" if names[:2] == ["direction", "space"] else "-loss")
    assert bool(found["constraints"]) is ("constraint" in names)
    assert found["bounds"][0] == (0.25, 0.5)
    assert 77 in found["seeds"]
    assert found["data"][0] == (0, "loss", 999.0, "0.5")
    assert len(found["trials"]) == 6
    assert {status for _, status, _, _ in found["trials"]} == {"COMPLETED"}
    assert all(0.25 <= at["x"] <= 0.5 for _, _, at, _ in found["trials"][3:])
    assert found["status quo"] == ({"x": 0.125, "y": 0.625} if "status quo" in names else None)
    assert found["note"] == ({"by": "the user"} if "properties" in names else None)
    assert found["trials"][0][3] == ("mine" if "run metadata" in names else None)
    if "same metric" in names:
        assert ("time", True) in found["metrics"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_database", [False, True], ids=["", "database"])
def test_an_object_that_nobody_changed_is_not_written_again(
    kind: str, with_database: bool, tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
):
    stored = {"db_settings": settings(url)} if with_database else {}
    caplog.set_level(logging.INFO, "axsched")
    runner = ToyRunner(lambda request: None)
    optimizer, strategy = make(kind)
    config = {"job_output_dir": tmp_path / "out", "progress": False, "monitoring_interval": 0.01}
    with AxScheduler(
        optimizer, runner, config, generation_strategy=strategy, **stored
    ) as scheduler:
        # Each of our own ways to change it.
        running = scheduler.get_next_trial()
        scheduler.run_trial(running)
        runner.end(runner.key_of(running), {"loss": 1.0, "another": 2.0})
        scheduler.wait_for_completed_trials()
        by_hand, given_up = scheduler.get_next_trial(), scheduler.get_next_trial()
        scheduler.complete_trial(by_hand, {"loss": 0.5})
        scheduler.abandon_trial(given_up)
        runner.finish = lambda request: {"loss": 0.25}
        with scheduler.batch_trial_context() as batch:
            batch.add_trial({"x": 0.5, "y": 0.25})
            batch.add_generated(2)
        scheduler.run_optimization(max_trials=2)
        with pytest.raises(InvalidInput):
            scheduler.run_trial(99)
        with pytest.raises(InvalidInput):
            scheduler.complete_trial(by_hand, {"loss": 0.5})
        scheduler.preview()
        scheduler.save_experiment(tmp_path / "e.json")
        scheduler.monitor_trials()
        scheduler.cancel()
        scheduler.monitor_trials()
        assert snapshots(scheduler) == 1
        lines = (scheduler.run_directory / "journal.jsonl").read_text()
        assert lines.count('"k":"snapshot"') == 1
        assert "has changed since the last call" not in caplog.text
        run_dir, before = scheduler.run_directory, now(scheduler)
    if with_database:
        return
    with AxScheduler.resume(run_dir, runner=next_runner(runner)) as resumed:
        resumed.monitor_trials()
        resumed.run_optimization(max_trials=1)
        assert snapshots(resumed) == 1
        assert now(resumed)["data"][: len(before["data"])] == before["data"]
    assert "has changed since the last call" not in caplog.text


def test_the_log_says_in_words_what_was_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "axsched")
    with scheduler_of("client", tmp_path, evaluating()) as scheduler:
        for name in ("direction", "space", "value", "ended", "added"):
            CHANGES[name](scheduler)
        scheduler.monitor_trials()
        (words,) = [m for m in caplog.messages if "has changed since the last call" in m]
        assert "the optimization config has changed: objective is loss, was -loss" in words
        assert "the search space has changed: parameters.x.lower is 0.25, was 0.0" in words
        assert "changed: the data of trial 0" in words
        assert "changed: the status of trial 2" in words
        assert "new: trial 3" in words
        caplog.clear()
        scheduler.monitor_trials()
        assert "has changed" not in caplog.text
        assert snapshots(scheduler) == 2


def test_what_was_changed_before_a_call_that_failed_is_written_all_the_same(
    tmp_path: Path, url: str
):
    runner = evaluating()
    stored = settings(url)
    with scheduler_of("experiment", tmp_path, runner, db_settings=stored) as scheduler:
        CHANGES["direction"](scheduler)
        changed = now(scheduler)
        with pytest.raises(InvalidInput):
            scheduler.run_trial(99)
        assert in_database(url) == changed
        copy = died(scheduler, tmp_path / "died")
    with AxScheduler.resume(copy, runner=next_runner(runner)) as resumed:
        assert now(resumed) == changed


def test_what_was_changed_last_of_all_is_written_by_close(tmp_path: Path, url: str):
    runner = evaluating()
    stored = settings(url)
    with scheduler_of("experiment", tmp_path, runner, db_settings=stored) as scheduler:
        CHANGES["direction"](scheduler)
        changed = now(scheduler)
    assert in_database(url) == changed
    with AxScheduler.resume(scheduler.run_directory, runner=next_runner(runner)) as resumed:
        assert now(resumed) == changed


def test_what_was_changed_before_the_first_call_is_stored_though_nothing_is_journalled(
    tmp_path: Path, url: str
):
    optimizer, strategy = make("experiment")
    with AxScheduler(
        optimizer,
        evaluating(),
        {"job_output_dir": tmp_path / "out", "progress": False, "durable": False},
        generation_strategy=strategy,
        db_settings=settings(url),
    ) as scheduler:
        CHANGES["direction"](scheduler)
        scheduler.run_optimization(max_trials=1)
        assert in_database(url)["objective"] == "loss"
        CHANGES["constraint"](scheduler)
        scheduler.run_optimization(max_trials=1)
        assert in_database(url)["constraints"] == now(scheduler)["constraints"] != []
