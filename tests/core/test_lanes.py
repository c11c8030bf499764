"""A run may have several runners: each is a lane, and nothing takes one for another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from axsched_core import SchedulerConfig, TrialState, events, hookimpl
from axsched_core.errors import BackendUnavailable, InvalidInput, RunnerError
from axsched_core.jobs import Cause, ContainerObjective, RunnerInfo, SubmitError
from axsched_core.journal import lines, replay, view
from axsched_core.journal.rundir import RunDirectory
from axsched_core.journal.writer import Writer
from axsched_core.objectives.spec import ObjectiveSpec
from axsched_core.run.active import Active
from axsched_core.run.dispatch import Dispatch
from axsched_core.run.lane import Lane
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Purpose, Record, Stage, Submission
from axsched_core.run.resume import remembered
from axsched_core.runners.session import RunnerSession
from support.toy import ToyRunner


class Named(ToyRunner):
    def __init__(self, name: str, places: int | None, **more: Any) -> None:
        super().__init__(**{"finish": lambda request: None, **more}, free=self.places)
        self.name, self.size = name, places

    def places(self) -> int | None:
        return None if self.size is None else self.size - len(self.running())

    @hookimpl
    def axsched_runner_info(self) -> RunnerInfo:
        return RunnerInfo(self.name, self.capabilities)


class Several:
    """A dispatch with these runners; no engine and no optimizer."""

    def __init__(
        self, folder: Path, *runners: ToyRunner, names: Sequence[str] = (), **settings: Any
    ) -> None:
        self.events: list[events.Event] = []
        config = SchedulerConfig(job_output_dir=folder, monitoring_interval=0.001, **settings)
        self.rundir = RunDirectory(folder, "several")
        self.recorder = Recorder(Writer(), self.events.append)
        self.active = Active()
        self.lanes = [
            Lane(
                RunnerSession(runner),
                config.monitoring_interval,
                self.recorder.backend_trouble,
                self.recorder.backend_recovered,
                name=name,
            )
            for runner, name in zip(runners, names or [""] * len(runners), strict=True)
        ]
        self.dispatch = Dispatch(
            self.lanes,
            config,
            self.rundir,
            lambda key: None,
            lambda: None,
            self.recorder,
            self.active,
        )
        self.dispatch.expect(("loss",), frozenset({"loss"}))
        self.dispatch.open()
        first = {"run_id": self.rundir.run_id, "runner": runners[0].name}
        self.recorder.begin(self.rundir.path, first)
        self.records: list[Record] = []
        self.now = 0.0

    def want(self, n: int) -> None:
        for _ in range(n):
            record = Record(len(self.records), {"x": 0.5})
            self.recorder.trial_made(record, None, counted=True)
            self.records.append(record)
            self.active.want([record])

    def turn(self) -> None:
        self.now += 1.0
        self.dispatch.advance(self.now)

    def where(self) -> list[str | None]:
        """The lane of each trial's job, as it was submitted."""
        handles = [record.latest is not None and record.latest.handle for record in self.records]
        return [r.job.lane.name if had else None for r, had in zip(self.records, handles, strict=1)]


Make = Callable[..., Several]


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Make]:
    made: list[Several] = []

    def make(*runners: ToyRunner, **settings: Any) -> Several:
        made.append(Several(tmp_path, *runners, **settings))
        return made[-1]

    yield make
    for one in made:
        one.dispatch.close(wait=False)
        one.recorder.writer.close()


def test_jobs_go_to_the_first_lane_with_a_free_place_and_come_back_from_it(several: Make):
    first, second = Named("first", 1), Named("second", 2)
    run = several(first, second)
    run.want(4)
    run.turn()
    assert run.where() == ["first", "second", "second", None]
    assert run.records[3].stage is Stage.WAITING
    second.end(second.key_of(1), {"loss": 2.0})
    run.turn()
    assert run.records[1].results == {"loss": (2.0, None)}
    run.turn()
    assert run.where() == ["first", "second", "second", "second"]
    assert [one.requests.keys() & two.requests.keys() for one, two in [(first, second)]] == [set()]
    assert run.recorder.marks[1]["runner"] == "second"


def test_each_runner_is_asked_for_its_capacity_once_a_turn(several: Make):
    runners = [Named("first", 1), Named("second", 9)]
    run = several(*runners)
    run.want(4)
    run.dispatch.advance(1.0, asking=True)
    assert run.dispatch.free_slots() == 6  # 9 less the three that were submitted meanwhile
    runners[1].end(runners[1].key_of(1), {"loss": 1.0})
    run.dispatch.advance(2.0)  # nothing waits, and nobody asks
    assert run.dispatch.free_slots() == 7  # one has given its place back
    for runner in runners:
        assert sum(hook == "axsched_capacity" for hook, _ in runner.calls) == 1


def test_a_runner_is_not_asked_for_its_capacity_if_nothing_may_be_submitted(several: Make):
    down, full = Named("down", 5), Named("full", 1)
    run = several(down, full, max_parallelism=1)
    run.lanes[0].calls.rest_until("axsched_submit", 1e9)
    run.want(2)
    for _ in range(5):
        run.turn()
    assert run.where() == ["full", None]
    asked = [sum(hook == "axsched_capacity" for hook, _ in one.calls) for one in (down, full)]
    assert asked == [0, 1]


@pytest.mark.parametrize(
    ("settings", "places", "free"),
    [
        ({}, (None, None), 16),
        ({}, (3, None), 11),
        ({"max_parallelism": 5}, (None, None), 5),
        ({"max_parallelism": 5}, (3, None), 5),
        ({"max_parallelism": 5}, (3, 1), 4),
        ({"max_parallelism": 5}, (0, 0), 0),
    ],
)
def test_how_many_more_may_be_submitted(several: Make, settings, places, free):
    run = several(Named("first", places[0]), Named("second", places[1]), **settings)
    run.dispatch.advance(1.0, asking=True)
    assert run.dispatch.free_slots() == free
    run.dispatch.one_at_a_time(True)
    assert run.dispatch.free_slots() == min(1, free)


def test_one_backend_that_is_down_does_not_hold_up_the_other(several: Make):
    first, second = Named("first", 1), Named("second", 2)
    first.faults["axsched_submit"] = [BackendUnavailable("down")]
    run = several(first, second)
    run.want(3)
    run.turn()
    # Nobody knows whether the first backend has the job, so it stays there.
    assert run.where() == [None, "second", "second"]
    assert run.records[0].in_doubt
    (trouble,) = [one for one in run.events if isinstance(one, events.BackendTrouble)]
    assert (trouble.runner, trouble.hook) == ("first", "axsched_submit")
    run.lanes[0].calls.rest_until("axsched_submit", 0.0)
    run.turn()
    assert run.where() == ["first", "second", "second"]
    assert len(first.requests) == 1
    (again,) = [one for one in run.events if isinstance(one, events.BackendRecovered)]
    assert (again.runner, again.hook) == ("first", "axsched_submit")


def test_a_lane_that_rests_takes_no_places_of_the_users_limit(several: Make):
    first, second = Named("first", None), Named("second", None)
    run = several(first, second, max_parallelism=4)
    run.lanes[0].calls.rest_until("axsched_submit", 1e9)
    run.want(2)
    run.turn()
    assert run.where() == ["second", "second"]


@pytest.mark.parametrize("second", [None, 1])
def test_a_job_in_doubt_takes_a_place_of_the_users_limit(several: Make, second: int | None):
    runners = [Named("first", 1), *([] if second is None else [Named("second", second)])]
    runners[0].faults["axsched_submit"] = [BackendUnavailable("down")]
    run = several(*runners, max_parallelism=1)
    run.want(2)
    run.turn()
    run.turn()
    assert run.records[0].in_doubt
    assert run.records[1].latest is None
    run.lanes[0].calls.rest_until("axsched_submit", 0.0)
    run.turn()
    assert run.where() == ["first", None]


def test_jobs_go_only_to_lanes_that_take_the_objective(several: Make):
    first, second = Named("first", 2), Named("second", 9, capabilities=["container"])
    run = several(first, second, max_parallelism=4)
    run.dispatch.attempts.set_objective(ObjectiveSpec(ContainerObjective("image")))
    run.want(3)
    run.dispatch.advance(1.0, asking=True)
    assert run.where() == ["second"] * 3
    assert run.dispatch.free_slots() == 1  # the first takes no place of the user's limit
    assert first.calls == []


def test_a_job_in_doubt_takes_a_place_of_its_lane(several: Make):
    first, second = Named("first", 1), Named("second", 5)
    first.faults["axsched_submit"] = [BackendUnavailable("down")] * 2
    run = several(first, second)
    run.want(2)
    run.turn()
    run.lanes[0].calls.rest_until("axsched_submit", 0.0)
    run.want(1)
    run.turn()
    assert run.where() == [None, "second", "second"]
    assert run.records[0].in_doubt


def test_a_job_that_was_refused_for_now_waits_for_the_same_lane(several: Make):
    first, second = Named("first", 0), Named("second", 1)
    refusals = [SubmitError("full", transient=True)]
    second.on_submit = lambda request: refusals.pop() if refusals else None
    run = several(first, second)
    run.want(1)
    run.turn()
    first.size, run.records[0].not_before = 1, 0.0
    run.turn()
    assert run.where() == ["second"]
    assert not first.requests


@pytest.mark.parametrize(("attempts", "state"), [(1, "FAILED"), (2, "QUEUED")])
def test_the_policy_decides_about_a_job_that_may_have_been_lost(several: Make, attempts, state):
    run = several(Named("only", 1), retry={"attempts": {"LOST": attempts}})
    run.want(1)
    (record,) = run.records
    run.dispatch.attempts.next(record, run.lanes[0])
    record.job.submission, record.orphaned = Submission.IN_DOUBT, True  # as after a resume
    run.turn()
    assert (record.state.value, "it is not known whether it ran" in record.message) == (state, True)
    assert [one.cause for one in record.ended] == [Cause.LOST]


def test_all_are_cancelled_where_they_run(several: Make):
    first, second = Named("first", 1), Named("second", 1)
    run = several(first, second)
    run.want(2)
    run.turn()
    run.dispatch.halt(Purpose.ABANDON)
    run.turn()
    assert [key for key, _ in first.cancels] == [run.records[0].job.request.key]
    assert [key for key, _ in second.cancels] == [run.records[1].job.request.key]
    assert {record.state for record in run.records} == {TrialState.CANCELLED}


class Jammed(Named):
    @hookimpl
    def axsched_close(self, wait: bool) -> None:
        raise OSError(f"the door of {self.name} is jammed")


def test_each_lane_that_cannot_be_closed_is_named(tmp_path: Path):
    last = Named("third", 1)
    run = Several(tmp_path, Jammed("first", 1), Jammed("second", 1), last)
    with pytest.raises(RunnerError) as raised:
        run.dispatch.close(wait=False)
    run.recorder.writer.close()
    for name in ("first", "second"):
        words = f"Runner '{name}' could not be closed: OSError: the door of {name} is jammed"
        assert words in str(raised.value)
    assert isinstance(raised.value.__cause__, ExceptionGroup)
    assert last.closed == [False]


def test_a_dropped_run_cancels_where_its_jobs_run(several: Make):
    first, second = Named("first", 1), Named("second", 1)
    run = several(first, second)
    run.want(2)
    run.turn()
    run.dispatch.abandon()
    assert [len(one.cancels) for one in (first, second)] == [1, 1]
    assert first.closed == second.closed == [False]


def test_the_journal_knows_which_lane_has_a_job(several: Make):
    run = several(Named("first", 1), Named("second", 1))
    run.want(3)
    run.turn()
    run.recorder.writer.flush()
    found = replay.read(run.rundir.path / lines.NAME)
    assert [trial.lane for trial in found.trials.values()] == ["first", "second", None]
    again = [remembered(found.trials[i], run.dispatch) for i in (0, 1)]
    assert [record.job.lane for record in again] == run.lanes
    seen = view.Run(run.rundir.path)
    seen.look()
    assert [one.attempts[0].runner for one in list(seen.trials.values())[:2]] == ["first", "second"]


def test_two_lanes_of_one_kind_of_runner_have_names_of_their_own(several: Make):
    with pytest.raises(InvalidInput, match="Several lanes are called 'slurm'"):
        several(Named("slurm", 1), Named("slurm", 1))
    run = several(Named("slurm", 1), Named("slurm", 1), names=["slurm", "other"])
    run.want(2)
    run.turn()
    assert run.where() == ["slurm", "other"]
    assert [lane.runner.name for lane in run.lanes] == ["slurm", "slurm"]
    run.recorder.writer.flush()
    found = replay.read(run.rundir.path / lines.NAME)
    again = [remembered(trial, run.dispatch) for trial in found.trials.values()]
    assert [record.job.lane for record in again] == run.lanes


def test_a_line_without_a_lane_is_of_the_only_one(several: Make):
    run = several(Named("only", 1))
    assert run.dispatch.lane_called(None) is run.lanes[0]
    with pytest.raises(InvalidInput, match=r"jobs of the runner 'other', .* \(only\)"):
        run.dispatch.lane_called("other")
