"""Engine and journal against a model, with a runner that fails in every way the contract allows.

Hypothesis drives one scheduler after another over the same `FaultyBackend`, which keeps the book;
see there. `AXSCHED_TEST_KILLS` says how long it looks for something that goes wrong.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from axsched_core import AxScheduler, TrialState
from axsched_core.errors import (
    AllTrialsFailed,
    FailureRateExceeded,
    OptimizationInterrupted,
    OptimizerError,
    RunnerError,
)
from axsched_core.journal import cancel_request, lines, replay, view
from axsched_core.run.outcomes import kind_of
from axsched_core.run.records import Submission
from support.faulty_backend import FATES, FAULTS, PLACES, FaultyBackend, Killed, Trouble
from support.faulty_backend_driver import Driver, patch

KILLS = int(os.environ.get("AXSCHED_TEST_KILLS", "12"))
SMALL = strategies.integers(1, 3)
PRESSES = strategies.integers(1, 2)
PEACE = Trouble()
TROUBLE = strategies.builds(
    Trouble,
    faults=strategies.lists(
        strategies.sampled_from([(hook, one) for hook, all_ in FAULTS.items() for one in all_]),
        max_size=4,
    ),
    fates=strategies.lists(strategies.sampled_from(sorted(FATES)), max_size=3),
    torn=strategies.integers(0, 400),
    death=strategies.none()
    | strategies.tuples(strategies.sampled_from(PLACES), SMALL, strategies.booleans()),
    ctrl_c=strategies.none()
    | strategies.tuples(strategies.sampled_from(["submit", "poll", "fetch", "cancel"]), PRESSES),
)


class Machine(RuleBasedStateMachine):
    """One run, its drivers, and what befalls them."""

    def __init__(self) -> None:
        super().__init__()
        memory = "/dev/shm"  # a disk that is synced at each step is what takes the time
        self.folder = Path(tempfile.mkdtemp(dir=memory if os.path.isdir(memory) else None))
        self.backend = FaultyBackend()
        self.numbers = itertools.count(2)
        self.patches = pytest.MonkeyPatch()
        patch(self.patches, self.backend)

    @initialize(
        searchable=strategies.booleans(),
        on_unknown=strategies.sampled_from(["retry", "fail"]),
        on_exit=strategies.sampled_from(["cancel", "leave"]),
    )
    def begin(self, searchable: bool, on_unknown: str, on_exit: str) -> None:
        self.backend.twice = not searchable and on_unknown == "retry"
        config = {"on_unknown": on_unknown, "on_exit": on_exit}
        self.driver = Driver(self.backend, self.folder, searchable, config)

    @property
    def scheduler(self) -> AxScheduler:
        return self.driver.scheduler

    @property
    def rows(self) -> dict[int, dict[str, Any]]:
        return self.scheduler.client.rows

    def call(self, method: str, *args: Any, trouble: Trouble = PEACE, **more: Any) -> bool:
        """Call the scheduler; False where it did not come to its own end."""
        try:
            self.driver.call(method, *args, trouble=trouble, **more)
        except (Killed, OptimizationInterrupted, RunnerError, FailureRateExceeded):
            return False
        except AllTrialsFailed:
            return True
        except OptimizerError as error:
            nothing = "No trial has data" in str(error)
            if not nothing and "cancelled" not in str(error):
                raise
            return nothing
        return True

    # ---- what the user does ----------------------------------------------------------------

    @rule(trouble=TROUBLE)
    def ask(self, trouble: Trouble) -> None:
        self.call("get_next_trial", trouble=trouble)

    @rule(which=SMALL, trouble=TROUBLE)
    def run_trial(self, which: int, trouble: Trouble) -> None:
        if trials := self.open_trials():
            self.call("run_trial", trials[which % len(trials)], trouble=trouble)

    def open_trials(self) -> list[int]:
        trials = self.scheduler.trials.items()
        return [index for index, trial in trials if trial.state is TrialState.CANDIDATE]

    @rule(trouble=TROUBLE)
    def monitor(self, trouble: Trouble) -> None:
        self.call("monitor_trials", trouble=trouble)

    @rule(n=strategies.integers(1, 4), trouble=TROUBLE)
    def optimize(self, n: int, trouble: Trouble) -> None:
        before = len(self.rows)
        ended = self.call("run_optimization", max_trials=n, trouble=trouble)
        if ended:
            assert len(self.rows) == before + n

    @rule(
        method=strategies.sampled_from(["finish", "wait_for_completed_trials", "cancel"]),
        trouble=TROUBLE,
    )
    def wait(self, method: str, trouble: Trouble) -> None:
        self.call(method, trouble=trouble)

    @rule(which=SMALL, abandon=strategies.booleans(), trouble=TROUBLE)
    def settle_by_hand(self, which: int, abandon: bool, trouble: Trouble) -> None:
        trials = [i for i, trial in self.scheduler.trials.items() if not trial.state.ended]
        if not trials:
            return
        trial = trials[which % len(trials)]
        if abandon:
            self.call("abandon_trial", trial, trouble=trouble)
        else:
            self.backend.by_hand[trial] = -1.0 - trial
            self.call("complete_trial", trial, -1.0 - trial, trouble=trouble)

    @rule(n=SMALL, trouble=TROUBLE)
    def attach_data(self, n: int, trouble: Trouble) -> None:
        before = len(self.rows)
        results = {trial: -1.0 - trial for trial in range(before, before + n)}
        self.backend.by_hand |= results
        data = {
            "x": [1 / next(self.numbers) for _ in results],
            "y": [0.5] * n,
            "loss": list(results.values()),
        }
        ended = self.call("attach_data", data, trouble=trouble)
        if not ended and len(self.rows) == before:  # the driver died before it had written them
            for trial in results:
                del self.backend.by_hand[trial]
        else:
            assert len(self.rows) == before + n

    @rule(trouble=TROUBLE)
    def close_and_resume(self, trouble: Trouble) -> None:
        if self.call("close", trouble=trouble):
            self.driver.resume()

    @rule(which=SMALL, everything=strategies.booleans(), trouble=TROUBLE)
    def cancel_from_a_shell(self, which: int, everything: bool, trouble: Trouble) -> None:
        """`axsched cancel`: asked of the driver at its next call, or done where none lives."""
        trials = [i for i, trial in self.scheduler.trials.items() if not trial.state.ended]
        run_dir = self.scheduler.run_directory
        if not trials or not (run_dir / lines.NAME).exists():
            return
        chosen = None if everything else [trials[which % len(trials)]]
        if trouble.torn % 2:
            request = cancel_request.ask(run_dir, chosen)
            self.call("wait_for_completed_trials", trouble=trouble)
            request.done()  # who asks takes it back
        elif self.call("close"):
            self.driver.resume(on_exit="leave")
            if self.call("cancel_from_shell", chosen, trouble=trouble):
                self.call("close")
                self.driver.resume(**self.driver.config)

    @rule()
    def kill(self) -> None:
        """The driver dies while it waits for a call."""
        with contextlib.suppress(Killed):
            self.backend.die()
        self.driver.bury()
        self.driver.resume()

    # ---- what the backend does by itself ---------------------------------------------------

    @rule(which=strategies.integers(0, 7))
    def job_goes_on(self, which: int) -> None:
        if keys := list(self.backend.jobs):
            self.backend.go_on([keys[which % len(keys)]])

    # ---- what must be true -----------------------------------------------------------------

    @invariant()
    def the_book_is_in_order(self) -> None:
        assert self.backend.wrong == []

    @invariant()
    def no_index_is_missing_and_no_point_is_there_twice(self) -> None:
        assert list(self.rows) == list(range(len(self.rows)))
        points = {(row["parameters"]["x"], row["parameters"]["y"]) for row in self.rows.values()}
        assert len(points) == len(self.rows)
        for trial, parameters in self.backend.parameters.items():
            assert self.rows[trial]["parameters"] == parameters

    @invariant()
    def the_optimizer_knows_what_the_scheduler_says(self) -> None:
        for index, record in self.scheduler._run.engine.records.items():
            told = kind_of(record.state, record.cause, "avoid", past=record.past)
            assert self.rows[index]["status"] == (told.value if told else "RUNNING")

    @invariant()
    def the_journal_says_what_the_scheduler_knows(self) -> None:
        lines = self.scheduler._run.writer._journal
        if lines is None:
            return
        copy = self.folder / "copy.jsonl"
        copy.write_bytes(lines.path.read_bytes() + b"".join(lines._waiting))
        found = replay.read(copy)
        assert found.to_make == self.scheduler._run.budget.open
        written = found.trials
        seen = self.view(copy)
        for index, record in self.scheduler._run.engine.records.items():
            read = written[index]
            assert read.parameters == record.parameters
            assert (read.state or "") == (record.state.value if record.state.ended else "")
            assert read.results == record.results
            assert seen[index].state == record.state.value or not record.state.ended
            assert seen[index].results == record.results
            assert len(seen[index].attempts) == read.attempts
            job = record.latest
            if (
                job is not None
                and job.submission is not Submission.UNSENT
                and not record.state.ended
                and not record.reopened
            ):
                assert read.key == job.request.key
                assert read.number == job.request.attempt
                assert read.attempts == record.attempts

    def view(self, copy: Path) -> dict[int, view.Trial]:
        folder = self.folder / "view"
        folder.mkdir(exist_ok=True)
        shutil.copy(copy, folder / lines.NAME)
        run = view.Run(folder)
        run.look()
        return run.trials

    def teardown(self) -> None:
        try:
            if hasattr(self, "driver"):
                self.come_to_an_end()
        finally:
            self.patches.undo()
            shutil.rmtree(self.folder)

    def come_to_an_end(self) -> None:
        """All is well again: every trial comes to its end, and jobs that come late do not run."""
        assert self.call("finish")
        for trial in self.open_trials():
            assert self.call("run_trial", trial)
        assert self.call("wait_for_completed_trials")
        self.the_journal_says_what_the_scheduler_knows()
        self.the_optimizer_knows_what_the_scheduler_says()
        ended = {"COMPLETED", "FAILED", "ABANDONED", "STALE", "EARLY_STOPPED"}
        assert {row["status"] for row in self.rows.values()} <= ended
        self.scheduler.close()
        assert self.scheduler._run.writer._journal is None
        self.backend.go_on([k for k, job in self.backend.jobs.items() if job.state == "queued"])
        self.the_book_is_in_order()


@pytest.mark.timeout(3600)
class TestMachine(Machine.TestCase):
    settings = settings(
        max_examples=25 * KILLS,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
