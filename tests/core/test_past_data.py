"""Results from before a run: read, checked, attached all or none, and kept by the journal."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from axsched_core import AxScheduler, TrialState, hookimpl
from axsched_core.errors import (
    AxschedError,
    FailureRateExceeded,
    InvalidInput,
    OptimizationInterrupted,
)
from axsched_core.events import Event, Message, TrialCreated, TrialEnded
from axsched_core.jobs import Cause, JobState, JobStatus
from axsched_core.journal import view
from axsched_core.journal.lines import Journal
from axsched_core.optimizers.base import Outcome
from axsched_core.testing.random_search import RandomSearch
from support.resuming import died, resume
from support.toy import ToyOptimizer, ToyRunner

Make = Callable[..., AxScheduler]

ROWS = [{"x": 0.25, "y": 0.5, "loss": 3.0}, {"x": 0.75, "y": 1, "loss": -1, "loss_sem": 0.5}]
TEXT = "x, y,loss,loss_sem\n0.25,0.5,3.0,\n\n0.75,1,-1,0.5\n"


def written(tmp_path: Path, text: str, name: str = "past.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def nothing_came_of_it(scheduler: AxScheduler) -> bool:
    rows = scheduler._run.optimizer.trials()
    return not rows and not scheduler.trials and not scheduler.run_directory.exists()


# ---- what it does ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "text", "columns", "arrays", "rows", "generator"])
def test_each_form_becomes_completed_trials_before_the_first_proposal(
    make: Make, tmp_path: Path, form: str
):
    columns = {"x": [0.25, 0.75], "y": [0.5, 1], "loss": [3.0, -1], "loss_sem": [None, 0.5]}
    nan = float("nan")
    data: Any = {
        "csv": lambda: written(tmp_path, TEXT),
        "text": lambda: str(written(tmp_path, TEXT)),
        "columns": lambda: columns,
        "arrays": lambda: {**columns, "x": array("d", [0.25, 0.75]), "loss_sem": [nan, 0.5]},
        "rows": lambda: ROWS,
        "generator": lambda: (row for row in ROWS),
    }[form]()
    optimizer, at_first = ToyOptimizer(), []
    optimizer.on_ask = lambda n: at_first.append(list(optimizer.told))
    scheduler = make(optimizer)
    assert scheduler.attach_data(data) == [0, 1]
    assert scheduler.trials[0].results == {"loss": (3.0, None)}
    assert scheduler.trials[1].results == {"loss": (-1.0, 0.5)}
    assert [dict(t.parameters) for t in scheduler.trials.values()] == [
        {"x": 0.25, "y": 0.5},
        {"x": 0.75, "y": 1},
    ]
    assert {t.state for t in scheduler.trials.values()} == {TrialState.SUCCEEDED}
    best = scheduler.run_optimization(3)
    assert at_first[0] == [(0, "COMPLETED"), (1, "COMPLETED")]
    assert best.trial_index == 1
    assert best.values == {"loss": -1.0}
    assert len(scheduler.trials) == 5  # three were asked for


def test_the_experiments_total_counts_them(make: Make):
    scheduler = make(total_trials=5)
    scheduler.attach_data(ROWS)
    scheduler.run_all_trials()
    assert len(scheduler.trials) == 5


def test_all_are_told_at_once_and_a_thousand_take_no_time(make: Make):
    told: list[int] = []
    optimizer = ToyOptimizer()
    optimizer.on_tell = lambda outcomes: told.append(len(outcomes))
    scheduler = make(optimizer)
    rows = [{"x": i / 1000, "y": 0.5, "loss": i} for i in range(1000)]
    assert scheduler.attach_data(rows) == list(range(1000))
    assert [size for size in told if size] == [1000]


def test_observers_get_one_message_and_the_trials_of_the_run(make: Make):
    seen: list[Event] = []

    class Observer:
        @hookimpl
        def axsched_on_event(self, event: Event) -> None:
            seen.append(event)

    scheduler = make(plugins=[Observer()])
    scheduler.attach_data(ROWS)
    assert [e.message for e in seen if isinstance(e, Message) and "Outputs" not in e.message] == [
        "Past data: 2 trials from the list."
    ]
    scheduler.run_optimization(1)
    about = [e.trial_index for e in seen if isinstance(e, TrialCreated | TrialEnded)]
    assert about == [2, 2]


def test_a_label_becomes_the_notes_and_the_message_says_where_it_came_from(
    make: Make, tmp_path: Path
):
    text = "arm_name,x,y,loss\nfirst,0.5,0.5,1\n,0.5,0.5,2\n"
    optimizer = ToyOptimizer()
    scheduler = make(optimizer)
    scheduler.attach_data(written(tmp_path, text))
    assert [t.notes for t in scheduler.trials.values()] == [{"arm_name": "first"}, None]
    assert optimizer.rows[0]["metadata"]["axsched"] == {"notes": {"arm_name": "first"}}
    assert scheduler.trials[1].message == "past data: line 3 of past.csv"


def test_other_columns_are_left_out_when_they_are_named(make: Make, tmp_path: Path):
    # pandas writes its index as a column without a name.
    path = written(tmp_path, ",x,y,loss,loss_sem,who\n0,0.5,0.5,1,bad,me\n")
    scheduler = make()
    assert scheduler.attach_data(path, ignore=["who", "loss_sem"]) == [0]
    assert scheduler.trials[0].results == {"loss": (1.0, None)}
    assert scheduler.attach_data([{**ROWS[0], "who": "me"}], ignore="who") == [1]


def test_no_rows_are_no_trials(make: Make, tmp_path: Path):
    scheduler = make()
    assert scheduler.attach_data(written(tmp_path, "x,y,loss\n")) == []
    assert scheduler.attach_data([]) == []
    assert nothing_came_of_it(scheduler)


def test_data_may_come_between_two_calls_while_a_job_runs(make: Make):
    runner = ToyRunner(lambda request: None)
    scheduler = make(ToyOptimizer(), runner)
    index = scheduler.get_next_trial()
    scheduler.run_trial(index)
    assert scheduler.attach_data(ROWS) == [1, 2]
    assert not scheduler.trials[index].state.ended
    runner.end(runner.key_of(index), {"loss": 2.0})
    assert scheduler.wait_for_completed_trials()[index].results == {"loss": (2.0, None)}


# ---- what is refused ---------------------------------------------------------------------------

BAD_ROWS = [
    ({"x": 1.5, "y": 0.5, "loss": 1}, "'x' is 1.5, not in"),
    ({"x": "a", "y": 0.5, "loss": 1}, "'x' is 'a', not in"),
    ({"x": 0.5, "loss": 1}, "'y' is missing"),
    ({"x": 0.5, "y": None, "loss": 1}, "'y' is missing"),
    ({"x": 0.5, "y": 0.5}, "there is no value of 'loss'"),
    ({"x": 0.5, "y": 0.5, "loss": float("nan")}, "there is no value of 'loss'"),
    ({"x": 0.5, "y": 0.5, "loss": float("inf")}, "metric 'loss' is inf, not a finite number"),
    ({"x": 0.5, "y": 0.5, "loss": "good"}, "metric 'loss' is 'good', not a number"),
    ({"x": 0.5, "y": 0.5, "loss": 1, "loss_sem": -1}, "the sem of metric 'loss' is negative"),
    ({"x": 0.5, "y": 0.5, "loss_sem": 1}, "there is 'loss_sem', but no 'loss'"),
    ([0.5, 0.5, 1], "it is no mapping"),
]


def space() -> RandomSearch:
    return RandomSearch({"x": (0.0, 1.0), "y": (0.0, 1.0)})


@pytest.mark.parametrize(("row", "words"), BAD_ROWS)
def test_one_bad_row_is_named_and_nothing_is_attached(make: Make, row: Any, words: str):
    scheduler = make(space())
    with pytest.raises(InvalidInput, match="1 of 3 results cannot be used") as caught:
        scheduler.attach_data([ROWS[0], row, ROWS[1]])
    assert re.search(rf"^  row 1: .*{re.escape(words)}", str(caught.value), re.MULTILINE)
    assert nothing_came_of_it(scheduler)


def test_bad_lines_of_a_file_have_the_numbers_that_an_editor_shows(make: Make, tmp_path: Path):
    lines = [
        "x,y,loss,arm_name",
        '7,1,1,"two\nlines"',
        "",
        "0.5,0.5,,",
        "0.5,0.5,1",
        "1,1,1,",
    ]
    scheduler = make(space())
    with pytest.raises(InvalidInput) as caught:
        scheduler.attach_data(written(tmp_path, "\ufeff" + "\n".join(lines)))
    _, *bad, _ = str(caught.value).splitlines()
    assert [one.split(":")[0].strip() for one in bad] == ["line 2", "line 5", "line 6"]
    assert "it has 3 cells, and the header has 4" in bad[2]


def test_ten_bad_rows_are_listed_and_the_others_are_counted(make: Make):
    scheduler = make(space())
    with pytest.raises(InvalidInput) as caught:
        scheduler.attach_data([{"x": 2 + i, "y": 0, "loss": 0} for i in range(15)])
    _, *bad, _ = str(caught.value).splitlines()
    assert len(bad) == 11
    assert bad[0].startswith("  row 0: ")
    assert bad[9].startswith("  row 9: ")
    assert bad[10] == "  and 5 more"


def test_what_is_wrong_with_every_row_is_said_once(make: Make):
    scheduler = make(space())
    with pytest.raises(InvalidInput) as caught:
        scheduler.attach_data({"x": [0.5] * 50, "loss": [1] * 50})
    assert str(caught.value).count("'y' is missing") == 1
    assert "50 of 50" in str(caught.value)
    assert "each of them" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([{"x": 1, "y": 1, "lost": 1}], "unknown column 'lost'. Did you mean 'loss'?"),
        ([{"x": 1, "y": 1, "loss": 1, 5: 1}], "unknown column 5."),
        ("x,y,loss,x\n1,1,1,1\n", "the column 'x' is there twice"),
        ("", "is empty"),
        ('x,y,loss\n1,1,"1\n', "cannot be read as a CSV file"),
        ({"x": [1], "y": [1, 2], "loss": [1]}, "different numbers of values ('x': 1, 'y': 2"),
        ({"x": 1, "y": 1, "loss": 1}, "column 'x' must be a list of values, got 1"),
        ({"x": "1", "y": [1], "loss": [1]}, "column 'x' must be a list of values, got '1'"),
        ({"x": {0: 1}, "y": [1], "loss": [1]}, "column 'x' must be a list of values, got {0: 1}"),
        (5, "Expected a pandas DataFrame, the path of a CSV file"),
        (b"x", "Expected a pandas DataFrame"),
        (Path("nowhere.csv"), "nowhere.csv cannot be read as a CSV file: "),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(make: Make, tmp_path: Path, data: Any, words: str):
    if isinstance(data, str):
        data = written(tmp_path, data)
    scheduler = make(space())
    with pytest.raises(InvalidInput, match=re.escape(words)):
        scheduler.attach_data(data)
    assert nothing_came_of_it(scheduler)


# ---- if something goes wrong -------------------------------------------------------------------


def test_if_the_optimizer_fails_no_row_stays_and_the_run_goes_on(make: Make, tmp_path: Path):
    class FailsAtTheThird(ToyOptimizer):
        def attach(self, parameters):
            if len(self.rows) == 2:
                raise OSError("no more")
            return super().attach(parameters)

    optimizer, runner = FailsAtTheThird(), ToyRunner()
    scheduler = make(optimizer, runner)
    with pytest.raises(OSError, match="no more"):
        scheduler.attach_data([ROWS[0]] * 3)
    assert [row["status"] for row in optimizer.rows.values()] == ["STALE", "STALE"]
    assert scheduler.trials == {}
    assert not view_of(scheduler).trials
    scheduler.run_optimization(2)
    with resume(died(scheduler, tmp_path / "died"), runner) as again:
        assert {i: row["status"] for i, row in again.client.rows.items()} == {
            0: "STALE",
            1: "STALE",
            2: "COMPLETED",
            3: "COMPLETED",
        }


@pytest.mark.parametrize("trouble", ["the optimizer refuses", "the disk is full"])
def test_what_could_not_be_told_is_told_by_the_next_call(
    make: Make, monkeypatch: pytest.MonkeyPatch, trouble: str
):
    def refuse(outcomes: Sequence[Outcome]) -> None:
        if outcomes:
            raise ValueError("not now")

    def full(journal: Journal) -> None:
        if any(b'"past"' in line for line in journal._waiting):
            raise OSError(errno.ENOSPC, "full")
        flush(journal)

    optimizer, flush = ToyOptimizer(), Journal.flush
    scheduler = make(optimizer)
    if trouble == "the disk is full":
        monkeypatch.setattr(Journal, "flush", full)
    else:
        optimizer.on_tell = refuse
    with pytest.raises(AxschedError, match="not now|full"):
        scheduler.attach_data(ROWS)
    assert optimizer.told == []
    optimizer.on_tell = lambda outcomes: None
    monkeypatch.setattr(Journal, "flush", flush)
    scheduler.run_optimization(1)
    assert [index for index, _ in optimizer.told] == [0, 1, 2]


@pytest.mark.parametrize("moment", ["attach", "tell"])
def test_ctrl_c_leaves_all_of_them_attached(make: Make, moment: str):
    signal.signal(signal.SIGINT, signal.default_int_handler)

    class Pressed(ToyOptimizer):
        def attach(self, parameters):
            if moment == "attach" and len(self.rows) == 1:
                os.kill(os.getpid(), signal.SIGINT)
            return super().attach(parameters)

    optimizer, runner = Pressed(), ToyRunner()

    def tell(outcomes: Sequence[Outcome]) -> None:
        if outcomes and moment == "tell" and not optimizer.told:
            os.kill(os.getpid(), signal.SIGINT)

    optimizer.on_tell = tell
    scheduler = make(optimizer, runner)
    with pytest.raises(OptimizationInterrupted):
        scheduler.attach_data(ROWS * 2)
    assert [scheduler.trials[i].state for i in range(4)] == [TrialState.SUCCEEDED] * 4
    scheduler.run_optimization(1)
    assert [index for index, _ in optimizer.told] == [0, 1, 2, 3, 4]
    assert len(runner.requests) == 1


def view_of(scheduler: AxScheduler) -> view.Run:
    run = view.Run(scheduler.run_directory)
    run.look()
    return run


def test_a_resumed_run_has_them_and_does_not_run_them(make: Make, tmp_path: Path):
    runner = ToyRunner()
    scheduler = make(ToyOptimizer(), runner)
    scheduler.attach_data([{**row, "arm_name": f"a{i}"} for i, row in enumerate(ROWS)])
    with resume(died(scheduler, tmp_path / "died"), runner) as again:
        assert {i: (t.results, t.notes) for i, t in again.trials.items()} == {
            0: ({"loss": (3.0, None)}, {"arm_name": "a0"}),
            1: ({"loss": (-1.0, 0.5)}, {"arm_name": "a1"}),
        }
        optimizer = again.client
        assert optimizer.told == [(0, "COMPLETED"), (1, "COMPLETED")]
        assert optimizer.rows[1]["metadata"]["axsched"]["notes"] == {"arm_name": "a1"}
        best = again.run_optimization(2)
        assert best.trial_index == 1
        assert len(runner.requests) == 2
        assert all(one.past == (i < 2) for i, one in view_of(again).trials.items())


def test_a_journal_that_is_torn_has_all_of_them_or_none(make: Make, tmp_path: Path):
    runner = ToyRunner()
    scheduler = make(ToyOptimizer(), runner)
    scheduler.attach_data(ROWS)
    whole = (scheduler.run_directory / "journal.jsonl").read_bytes()
    start = whole.index(b'{"k":"past"')
    end = whole.index(b"\n", start) + 1
    for n, cut in enumerate((start, start + 1, whole.index(b'"i":1', start), end - 1, end)):
        copy = died(scheduler, tmp_path / str(n))
        os.truncate(
            copy / "journal.jsonl", cut + len(str(copy)) - len(str(scheduler.run_directory))
        )
        with resume(copy, runner) as again:
            assert len(again.trials) == len(again.client.told) == (2 if cut == end else 0)
            again.run_optimization(1)
            assert len(again.trials) == (3 if cut == end else 1)


@pytest.mark.parametrize("resumed", [False, True])
def test_past_successes_do_not_hide_that_the_objective_fails(
    make: Make, tmp_path: Path, resumed: bool
):
    runner = ToyRunner(lambda request: JobStatus(JobState.FAILED, Cause.EXCEPTION, "typo"))
    scheduler = make(ToyOptimizer(), runner, max_parallelism=1)
    scheduler.attach_data(ROWS * 20)
    if resumed:
        scheduler = resume(died(scheduler, tmp_path / "died"), runner)
    with scheduler, pytest.raises(FailureRateExceeded, match="5 of the 5 trials"):
        scheduler.run_optimization(30)


# ---- another run -------------------------------------------------------------------------------


@pytest.fixture
def other(make: Make) -> AxScheduler:
    """A run with two results, a failure, and a trial that is open."""

    def finish(request):
        if request.trial_index == 1:
            return JobStatus(JobState.FAILED, Cause.EXCEPTION, "no")
        return {"loss": (request.parameters["x"], 0.25), "time": 2.0, "notes": {"n": 1}}

    scheduler = make(ToyOptimizer(), ToyRunner(finish))
    scheduler.run_optimization(3)
    scheduler.get_next_trial()
    return scheduler


@pytest.mark.parametrize("where", ["itself", "a copy"])
def test_warm_start_takes_what_another_run_has_measured(
    make: Make, other: AxScheduler, tmp_path: Path, where: str
):
    folder = other.run_directory
    if where == "a copy":
        folder = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    scheduler = make()
    assert scheduler.warm_start(folder if where == "itself" else str(folder)) == [0, 1]
    for mine, theirs in ((0, 0), (1, 2)):
        assert scheduler.trials[mine].parameters == other.trials[theirs].parameters
        assert scheduler.trials[mine].results == other.trials[theirs].results
        assert scheduler.trials[mine].notes == {"n": 1}
    assert scheduler.trials[1].message == f"past data: trial 2 of {folder.name}"
    assert scheduler.run_optimization(1).values["loss"] <= other.trials[0].results["loss"][0]
    assert make().warm_start(scheduler.run_directory) == [0, 1, 2]


def test_a_trial_that_the_user_has_ended_in_the_optimizer_is_not_taken(make: Make):
    optimizer, runner = ToyOptimizer(), ToyRunner(lambda request: None)
    other = make(optimizer, runner)
    for index in (other.get_next_trial(), other.get_next_trial()):
        other.run_trial(index)
    for index in (0, 1):
        runner.end(runner.key_of(index), {"loss": 1.0})
    optimizer.rows[0]["status"] = "ABANDONED"
    closed = other.wait_for_completed_trials()[0]
    assert closed.state is TrialState.CLOSED
    assert closed.results == {"loss": (1.0, None)}
    scheduler = make()
    assert scheduler.warm_start(other.run_directory) == [0]
    assert scheduler.trials[0].parameters == other.trials[1].parameters


def test_trials_of_another_run_that_do_not_fit_are_named(make: Make, other: AxScheduler):
    lost = make(RandomSearch({"x": (0.0, 1.0), "y": (0.0, 1.0)}, objective="error"))
    with pytest.raises(InvalidInput, match=r"2 of 2 .*\n  each of them: there is no value of 'er"):
        lost.warm_start(other.run_directory)
    small = make(RandomSearch({"x": (0.0, 0.01), "y": (0.0, 1.0)}))
    with pytest.raises(InvalidInput) as caught:
        small.warm_start(other.run_directory)
    assert re.findall(r"^  (trial \d): 'x' is ", str(caught.value), re.M) == ["trial 0", "trial 2"]
    renamed = make(RandomSearch({"x": (0.0, 1.0), "z": (0.0, 1.0)}))
    with pytest.raises(InvalidInput, match="each of them: .*there is no 'y'"):
        renamed.warm_start(other.run_directory)
    for scheduler in (lost, small, renamed):
        assert nothing_came_of_it(scheduler)


def test_a_run_without_results_a_folder_and_this_run_itself_are_refused(make: Make, tmp_path: Path):
    empty, scheduler = make(), make()
    empty.get_next_trial()
    with pytest.raises(InvalidInput, match="has no succeeded trial"):
        scheduler.warm_start(empty.run_directory)
    with pytest.raises(InvalidInput, match="is not a run directory"):
        scheduler.warm_start(tmp_path)
    with pytest.raises(InvalidInput, match="takes the path of a run directory, got 5"):
        scheduler.warm_start(5)
    scheduler.attach_data(ROWS)
    with pytest.raises(InvalidInput, match="is this run itself"):
        scheduler.warm_start(scheduler.run_directory)
    assert len(scheduler.trials) == 2
