"""What a result may hold beside the metrics that the optimizer needs."""

from __future__ import annotations

import json
import math

import pytest

from axsched_core import AxScheduler, TrialState
from axsched_core.jobs import JobResult
from axsched_core.objectives.results import NOTES_LIMIT, InvalidResult, read_result
from support.toy import ToyOptimizer, ToyRunner

NAN = float("nan")


def read(value=None, raw=None, objectives=("loss",), required=None, limit=100_000):
    result = JobResult(raw=raw) if raw is not None else JobResult(metrics=value)
    required = objectives if required is None else required
    return read_result(result, objectives=objectives, required=required, limit=limit)


@pytest.mark.parametrize(
    ("aux", "why"),
    [
        (NAN, "is nan, not a finite number"),
        ("well", "'well', not a number"),
        (None, "None, not a number"),
        ([1, 2, 3], "not (mean, sem)"),
        ((1, NAN), "is nan"),
        ((1, -1), "negative"),
        ({"mean": 1, "std": 2}, '"mean": number'),
        (True, "not a number"),
        (1j, "not a number"),
    ],
)
def test_an_extra_that_is_no_number_is_dropped_and_the_rest_is_kept(aux, why):
    found = read({"loss": 1, "aux": aux, "time": 2})
    assert found.metrics == {"loss": (1.0, None), "time": (2.0, None)}
    assert list(found.dropped) == ["aux"]
    assert why in found.dropped["aux"]


def test_an_extra_whose_name_is_no_string_is_dropped():
    found = read({"loss": 1, 3: 4})
    assert found.metrics == {"loss": (1.0, None)}
    assert "must be a string, not 3" in found.dropped["3"]


@pytest.mark.parametrize("value", [NAN, "well", None, [1, 2, 3], True])
def test_what_the_optimizer_needs_is_checked_strictly(value):
    with pytest.raises(InvalidResult, match="metric 'cost'"):
        read({"loss": 1, "cost": value}, required=("loss", "cost"))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a mesh of 3 cells", "a mesh of 3 cells"),
        (["a", 1, None], ["a", 1, None]),
        ({"mesh": {"cells": 3}, "ok": True}, {"mesh": {"cells": 3}, "ok": True}),
        (("a", {2: "b"}), ["a", {"2": "b"}]),
        (0.5, 0.5),
        ({"residual": NAN, "norm": math.inf}, {"residual": "nan", "norm": "inf"}),
    ],
)
def test_notes_are_kept_as_json_has_them(given, kept):
    found = read({"loss": 1, "notes": given})
    assert found.notes == kept
    assert found.metrics == {"loss": (1.0, None)}
    assert not found.dropped


def test_notes_go_with_every_form_of_a_result():
    assert read({"mean": 1, "sem": 0.1, "notes": "n"}).metrics == {"loss": (1.0, 0.1)}
    assert read(raw=b'{"loss": 1, "notes": {"a": NaN}}').notes == {"a": "nan"}
    assert read(1.0).notes is None


def test_notes_that_the_optimizer_needs_are_a_metric():
    found = read({"notes": 3}, objectives=("notes",))
    assert found.metrics == {"notes": (3.0, None)}
    assert found.notes is None
    with pytest.raises(InvalidResult, match="metric 'notes' is 'well', not a number"):
        read({"loss": 1, "notes": "well"}, required=("loss", "notes"))


def test_notes_over_the_limit_are_dropped_with_the_limit_named():
    assert read({"loss": 1, "notes": "x" * (NOTES_LIMIT - 2)}).notes is not None
    found = read({"loss": 1, "notes": "x" * (NOTES_LIMIT - 1)})
    assert found.notes is None
    assert found.metrics == {"loss": (1.0, None)}
    assert f"{NOTES_LIMIT + 1:,} bytes as JSON, more than {NOTES_LIMIT:,}" in found.dropped["notes"]


def test_one_warning_a_run_and_name(make, caplog):
    results = [{"loss": 1, "aux": NAN}, {"loss": 1, "aux": "odd", "other": []}, {"loss": 1}]
    scheduler = make(runner=ToyRunner(lambda r: results[r.trial_index % 3]), synchronous=True)
    scheduler.run_optimization(max_trials=3)
    scheduler.run_optimization(max_trials=3)
    index = scheduler.get_next_trial()
    scheduler.complete_trial(index, {"loss": 1, "aux": "by hand"})
    assert {trial.state for trial in scheduler.trials.values()} == {TrialState.SUCCEEDED}
    warned = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert len(warned) == 2
    assert "Trial 0" in warned[0]
    assert "'aux' is nan" in warned[0]
    assert "'other' is []" in warned[1]


def test_notes_reach_the_trial_the_optimizer_the_journal_and_a_resumed_run(make):
    optimizer = ToyOptimizer()
    runner = ToyRunner(lambda r: {"loss": 1, "notes": {"index": r.trial_index}})
    scheduler = make(optimizer, runner)
    scheduler.run_optimization(max_trials=2)
    index = scheduler.get_next_trial()
    scheduler.complete_trial(index, {"loss": 1, "notes": ["by hand"]})
    expected = [{"index": 0}, {"index": 1}, ["by hand"]]
    assert [trial.notes for trial in scheduler.trials.values()] == expected
    marks = [row["metadata"]["axsched"] for row in optimizer.rows.values()]
    assert [mark["notes"] for mark in marks] == expected
    assert marks[0]["key"].endswith("-0-1")  # and what was there before
    in_folder = json.loads((scheduler.trials[0].folder / "result.json").read_text())
    assert in_folder["notes"] == expected[0]
    scheduler.close()

    fresh = ToyOptimizer()
    with AxScheduler.resume(scheduler.run_directory, optimizer=fresh, runner=ToyRunner()) as again:
        assert [trial.notes for trial in again.trials.values()] == expected
        rows = again.client.rows.values()
        assert [row["metadata"]["axsched"]["notes"] for row in rows] == expected


def test_observers_hear_the_notes(make):
    from axsched_core.events import TrialEnded
    from axsched_core.hookspecs import hookimpl

    heard = []

    class Listener:
        @hookimpl
        def axsched_on_event(self, event):
            if isinstance(event, TrialEnded):
                heard.append(event.notes)

    make(
        runner=ToyRunner(lambda r: {"loss": 1, "notes": "n"}), plugins=[Listener()]
    ).run_optimization(1)
    assert heard == ["n"]
