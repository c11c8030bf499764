"""Engine and journal against a model, with a runner that fails in every way the contract allows.

Hypothesis drives one scheduler after another over the same `World`, which keeps the book; see
there. `AXSCHED_TEST_KILLS` says how long it looks for something that goes wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from world import (
    FATES,
    FAULTS,
    PLACES,
    Killed,
    SearchableRunner,
    World,
    WorldOptimizer,
    WorldRunner,
    flush_of,
)

from axsched_core import AxScheduler, TrialState, journal, policies
from axsched_core.engine import OUTCOMES, Engine
from axsched_core.errors import (
    AllTrialsFailed,
    InvalidInput,
    OptimizationInterrupted,
    OptimizerError,
    RunnerError,
)
from axsched_core.scheduler import _open_engines

KILLS = int(os.environ.get("AXSCHED_TEST_KILLS", "12"))
SMALL = strategies.integers(0, 3)


class Machine(RuleBasedStateMachine):
    """One run, its drivers, and what befalls them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.world = World()
        self.patches = pytest.MonkeyPatch()
        for name in ("CANCEL_GRACE", "FETCH_INTERVAL", "LOOK_INTERVAL"):
            self.patches.setattr(policies, name, 0.01)
        self.patches.setattr(policies, "pause_after_trouble", lambda failures, interval: 0.001)
        self.patches.setattr(journal.Journal, "flush", flush_of(self.world))
        real = Engine._interrupted_by_user

        def noticed(engine: Engine, *, again: bool) -> None:
            real(engine, again=again)
            self.world.noticed.release()

        self.patches.setattr(Engine, "_interrupted_by_user", noticed)

    @initialize(searchable=strategies.booleans(), on_unknown=strategies.sampled_from(["retry", "fail"]))
    def begin(self, searchable: bool, on_unknown: str) -> None:
        self.searchable, self.on_unknown = searchable, on_unknown
        self.start_anew()

    # ---- drivers ---------------------------------------------------------------------------

    def runner(self) -> WorldRunner:
        return (SearchableRunner if self.searchable else WorldRunner)(self.world)

    def start_anew(self) -> None:
        config = {
            "job_output_dir": self.folder,
            "monitoring_interval": 0.001,
            "progress": False,
            "on_unknown": self.on_unknown,
            "max_parallelism": 3,
        }
        self.scheduler = AxScheduler(WorldOptimizer(self.world), self.runner(), config)
        self.scheduler.set_objective_function(lambda parameters: 0.0)
        self.world.scheduler = self.scheduler

    @property
    def rows(self) -> dict[int, dict[str, Any]]:
        return self.scheduler.client.rows

    def bury(self) -> None:
        """Let go of what is left of a dead driver's threads."""
        self.scheduler._finalizer.detach()
        _open_engines.discard(self.scheduler._engine)
        self.scheduler._engine.let_go()

    def resume(self) -> None:
        """Have another driver take up the run, and live."""
        self.world.faults.clear()
        self.world.death = self.world.ctrl_c = None
        run_dir = self.scheduler.run_directory
        if not (run_dir / journal.NAME).exists():
            assert not self.world.jobs
            self.start_anew()
            return
        self.world.scheduler = self.scheduler  # so that its optimizer is alive again
        try:
            self.scheduler = AxScheduler.resume(
                run_dir, optimizer=WorldOptimizer(self.world), runner=self.runner()
            )
        except InvalidInput as error:
            assert "before anything was begun" in str(error)
            assert not self.world.jobs
            self.start_anew()
        self.world.scheduler = self.scheduler
        for trial, (kind, _) in self.world.told.items():
            assert self.rows[trial]["status"] == kind, f"trial {trial} was {kind}"

    def call(self, method: Callable[..., Any], *args: Any, **more: Any) -> bool:
        """Call the scheduler; False where it did not come to its own end."""
        try:
            method(*args, **more)
        except Killed:
            self.bury()
            self.resume()
        except (OptimizationInterrupted, RunnerError):
            pass
        except AllTrialsFailed:
            return True
        except OptimizerError as error:
            if "No trial has data" in str(error):
                return True
            assert "cancelled" in str(error), error
        else:
            return True
        return False

    @contextlib.contextmanager
    def jobs_going_on(self) -> Iterator[None]:
        self.world.auto = True
        yield
        self.world.auto = False

    # ---- what is planned -------------------------------------------------------------------

    @rule(fault=strategies.sampled_from([(h, f) for h, fs in FAULTS.items() for f in fs]))
    def plan_fault(self, fault: tuple[str, str]) -> None:
        self.world.faults.setdefault(fault[0], []).append(fault[1])

    @rule(fate=strategies.sampled_from(sorted(FATES)))
    def plan_fate(self, fate: str) -> None:
        self.world.fates.append(fate)

    @rule(place=strategies.sampled_from(PLACES), after=strategies.booleans())
    def plan_death(self, place: str, after: bool) -> None:
        self.world.death = (place, after)

    @rule(hook=strategies.sampled_from(["submit", "poll", "fetch"]))
    def plan_ctrl_c(self, hook: str) -> None:
        self.world.ctrl_c = (hook, 1)

    # ---- what the user does ----------------------------------------------------------------

    @rule()
    def ask(self) -> None:
        self.call(self.scheduler.get_next_trial)

    @precondition(lambda self: self.open_trials())
    @rule(which=SMALL)
    def run_trial(self, which: int) -> None:
        trials = self.open_trials()
        self.call(self.scheduler.run_trial, trials[which % len(trials)])

    def open_trials(self, on_the_way: bool = False) -> list[int]:
        states = {i: trial.state for i, trial in self.scheduler.trials.items()}
        wanted = (TrialState.CANDIDATE,)
        if on_the_way:
            wanted = (TrialState.QUEUED, TrialState.RUNNING)
        return [i for i, state in states.items() if state in wanted]

    @rule()
    def monitor(self) -> None:
        self.call(self.scheduler.monitor_trials)

    @rule(n=strategies.integers(1, 4))
    def optimize(self, n: int) -> None:
        before, cut = len(self.rows), self.world.death or self.world.ctrl_c
        with self.jobs_going_on():
            ended = self.call(self.scheduler.run_optimization, max_trials=n)
        if ended and not cut:
            assert len(self.rows) == before + n

    @rule()
    def finish(self) -> None:
        with self.jobs_going_on():
            self.call(self.scheduler.finish)

    @rule()
    def wait(self) -> None:
        with self.jobs_going_on():
            self.call(self.scheduler.wait_for_completed_trials)

    @rule()
    def cancel(self) -> None:
        with self.jobs_going_on():
            self.call(self.scheduler.cancel)

    @precondition(lambda self: self.open_trials() + self.open_trials(on_the_way=True))
    @rule(which=SMALL, abandon=strategies.booleans())
    def settle_by_hand(self, which: int, abandon: bool) -> None:
        trials = self.open_trials() + self.open_trials(on_the_way=True)
        trial = trials[which % len(trials)]
        if abandon:
            self.call(self.scheduler.abandon_trial, trial)
        else:
            self.world.by_hand[trial] = -1.0 - trial
            self.call(self.scheduler.complete_trial, trial, -1.0 - trial)

    @rule()
    def close_and_resume(self) -> None:
        if self.call(self.scheduler.close):
            self.resume()

    @rule()
    def kill(self) -> None:
        """The driver dies while it waits for a call."""
        with contextlib.suppress(Killed):
            self.world.die()
        self.bury()
        self.resume()

    # ---- what the backend does by itself ---------------------------------------------------

    @precondition(lambda self: self.world.jobs)
    @rule(which=strategies.integers(0, 7))
    def job_goes_on(self, which: int) -> None:
        keys = list(self.world.jobs)
        self.world.go_on([keys[which % len(keys)]])

    # ---- what must be true -----------------------------------------------------------------

    @invariant()
    def the_book_is_in_order(self) -> None:
        assert self.world.wrong == []

    @invariant()
    def no_index_is_missing_and_no_point_is_there_twice(self) -> None:
        assert list(self.rows) == list(range(len(self.rows)))
        points = {(row["parameters"]["x"], row["parameters"]["y"]) for row in self.rows.values()}
        assert len(points) == len(self.rows)
        for trial, parameters in self.world.parameters.items():
            assert self.rows[trial]["parameters"] == parameters

    @invariant()
    def the_optimizer_knows_what_the_scheduler_says(self) -> None:
        for index, trial in self.scheduler.trials.items():
            if trial.state in OUTCOMES:
                assert self.rows[index]["status"] == OUTCOMES[trial.state].value
            else:
                assert self.rows[index]["status"] == "RUNNING"

    @invariant()
    def the_journal_says_what_the_scheduler_knows(self) -> None:
        lines = self.scheduler._memory._journal
        if lines is None:
            return
        copy = self.folder / "copy.jsonl"
        copy.write_bytes(lines.path.read_bytes() + b"".join(lines._waiting))
        written = journal.read(copy).trials
        for index, record in self.scheduler._engine.records.items():
            read = written[index]
            assert read.parameters == record.parameters
            assert (read.state or "") == (record.state.value if record.state.ended else "")
            assert read.results == record.results
            job = record.latest
            if job is not None and job.sent and not record.state.ended and not record.reopened:
                assert read.key == job.request.key
                assert read.attempts == job.request.attempt

    def teardown(self) -> None:
        try:
            if hasattr(self, "scheduler"):
                self.come_to_an_end()
        finally:
            self.patches.undo()
            shutil.rmtree(self.folder)

    def come_to_an_end(self) -> None:
        """All is well again: every trial comes to its end, and jobs that come late do not run."""
        self.world.faults.clear()
        self.world.fates.clear()
        self.world.death = self.world.ctrl_c = None
        with self.jobs_going_on():
            assert self.call(self.scheduler.finish)
            for trial in self.open_trials():
                assert self.call(self.scheduler.run_trial, trial)
            assert self.call(self.scheduler.wait_for_completed_trials)
        self.the_journal_says_what_the_scheduler_knows()
        self.the_optimizer_knows_what_the_scheduler_says()
        assert {row["status"] for row in self.rows.values()} <= {"COMPLETED", "FAILED", "ABANDONED"}
        self.scheduler.close()
        assert self.scheduler._memory._journal is None
        self.world.go_on([k for k, job in self.world.jobs.items() if job.state == "queued"])
        self.the_book_is_in_order()


class TestMachine(Machine.TestCase):
    settings = settings(
        max_examples=5 * KILLS,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
