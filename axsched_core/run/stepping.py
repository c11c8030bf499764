"""The loop in steps: each waits for a change, and between two of them the caller decides."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence

from axsched_core import plain
from axsched_core.errors import FailureRateExceeded, InvalidInput
from axsched_core.result import OptimizationResult
from axsched_core.run import by_hand, driving
from axsched_core.run.failures import all_failed
from axsched_core.run.records import Purpose, Record, Stage
from axsched_core.run.run import Run
from axsched_core.trials import TrialState

log = logging.getLogger("axsched")

METHOD = "run_trials_and_yield_results"
SECONDS = 3600.0
"""In an hour."""


def all_at_once(run: Run, max_trials: int, timeout_hours: float | None) -> None:
    """As `AxScheduler.run_optimization`, for at most as many as ``total_trials`` leaves."""
    to_make = _allowed(run, max_trials)
    if to_make:
        driving.run_optimization(run, to_make, _seconds(timeout_hours), None)
    else:
        run.why_stopped = f"All {run.config.total_trials} trials (total_trials) have been made."


def all_of(run: Run) -> int:
    """How many trials ``total_trials`` leaves; at least 1, so that a loop can say that none is.

    Raises:
        InvalidInput: it is not set.
    """
    if run.config.total_trials is None:
        raise InvalidInput(
            "run_all_trials needs the setting total_trials: "
            'AxScheduler(..., config={"total_trials": 30}). Or call run_n_trials(30).'
        )
    return run.config.total_trials


def made_so_far(run: Run) -> int:
    """The trials of the optimizer, without those that were made in advance and never ran."""
    views = run.with_optimizer(lambda optimizer: optimizer.trials())
    return sum(view.status != "STALE" for view in views.values())


def _allowed(run: Run, max_trials: int) -> int:
    max_trials = by_hand.whole(max_trials, "max_trials")
    total = run.config.total_trials
    return max_trials if total is None else max(0, min(max_trials, total - made_so_far(run)))


def _seconds(hours: float | None) -> float | None:
    number = plain.number(hours)
    if hours is not None and not (number is not None and number > 0):
        raise InvalidInput(f"timeout_hours must be a positive number of hours, got {hours!r}.")
    return None if number is None else number * SECONDS


class Steps:
    """One loop.

    Args:
        run: the run.
        max_trials: how many trials it makes at most.
        timeout_hours: hours that it may take; None: no limit.

    Raises:
        InvalidInput: an argument is wrong.
    """

    def __init__(self, run: Run, max_trials: int, timeout_hours: float | None) -> None:
        self._run, self._to_make = run, _allowed(run, max_trials)
        timeout = _seconds(timeout_hours)
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._begun = self._over = False
        self._known: set[int] = set()
        self._began = time.monotonic()

    def next(self) -> bool:
        """Wait for a change; False: the loop is over."""
        run, engine = self._run, self._run.engine
        if self._over or (self._begun and engine.idle):
            return False
        with run.call(METHOD):
            run.ready()
            again = [] if self._begun else run.stopped_before()
            departed = engine.active.departed

            def begin() -> None:
                if not self._begun:
                    self._begin(again)
                engine.stops_at_failures = True
                engine.deadline = self._deadline
                engine.active.pause_after = departed

            try:
                run.perform(begin, lambda: engine.idle or engine.active.paused)
            except FailureRateExceeded:
                run.begin_anew()
                raise
            self._known.update(run.budget.made)
            if engine.active.halted is not None:
                self._over = True
                run.why_stopped = f"Stopped: {engine.active.halted.value}."
            return not (engine.idle and engine.active.departed == departed)

    def _begin(self, again: Sequence[Record]) -> None:
        engine = self._run.engine
        self._begun = True
        self._run.budget.take_left()
        engine.want(self._to_make, again)
        self._known.update(record.index for record in again)
        self._run.begins(len(engine.active) + self._run.budget.to_make)

    def make_no_more(self, why: str) -> None:
        """Wait only for the trials that run."""
        run = self._run
        if run.budget.to_make:
            run.why_stopped = why or "No more trials were wanted."

            def begin() -> None:
                run.budget.drop()
                settler = run.engine.dispatch.settler
                for record in run.engine.active.undecided():
                    if record.unsent and not record.attempts:  # made in advance
                        settler.give_up(record, Purpose.ABANDON, whole_run=True)

            with run.call(METHOD):
                run.perform(begin)

    def abort(self, why: str) -> None:
        """Cancel the jobs that run, and abandon their trials."""
        run = self._run
        with run.call(METHOD):
            run.perform(lambda: run.engine.halt(Purpose.ABANDON), lambda: run.engine.at_rest)
        self._over, run.why_stopped = True, why or "The loop was aborted."

    def check(self) -> None:
        """The loop has come to its end.

        Raises:
            AllTrialsFailed: no trial of it has a result.
        """
        run = self._run
        run.recorder.call_ended()
        run.writer.flush()
        records = [run.engine.records[index] for index in sorted(self._known)]
        if not self._over and (error := all_failed(records)) is not None:
            raise error

    def close(self) -> None:
        """The loop is left, at its end or early."""
        if self._begun:
            self._run.ends(self._began)


def stop(run: Run, indices: Sequence[int], reasons: Sequence[str] | None) -> None:
    """See `Loops.stop_trial_runs`."""
    if reasons is not None and len(reasons) != len(indices):
        raise InvalidInput(
            f"stop_trial_runs: there are {len(indices)} trials and {len(reasons)} reasons."
        )
    words = list(reasons) if reasons is not None else ["stopped by the user"] * len(indices)
    records = []
    for index in indices:
        index = by_hand.whole(index, "stop_trial_runs: a trial's index", least=0)
        record = run.engine.active.get(index)
        if record is None or record.state.ended:
            raise InvalidInput(f"stop_trial_runs: trial {index} is not in progress.")
        records.append(record)
    for record, why in zip(records, words, strict=True):
        if record.stage is not Stage.SUBMITTED or record.job.progress.last is None:
            by_hand.abandon(run, record.index, why)
    early = [
        (record, why)
        for record, why in zip(records, words, strict=True)
        if record.index in run.engine.active and not record.state.ended
    ]

    def begin() -> None:
        for record, why in early:
            run.engine.dispatch.stop_early(record, why)

    if early:
        with run.call("stop_trial_runs"):
            run.perform(begin)


def capacity(run: Run) -> int:
    """See `Loops.poll_available_capacity`."""
    with run.call("poll_available_capacity"):
        run.ready(objective=False)
        return run.engine.loop.call(run.engine.dispatch.ask_for_free_slots)


def summary(run: Run) -> OptimizationResult:
    """See `Loops.summarize_final_result`."""
    trials = run.trials().values()
    ended = (TrialState.FAILED, TrialState.CANCELLED)
    done = any(trial.state is TrialState.SUCCEEDED for trial in trials)
    best = run.with_optimizer(lambda optimizer: optimizer.best()) if done else None
    return OptimizationResult(
        best=best,
        counts=dict(Counter(trial.state.value for trial in trials)),
        causes=dict(Counter(t.cause.value for t in trials if t.cause and t.state in ended)),
        why_stopped=run.why_stopped or run.engine.exchange.why_complete or "All trials have ended.",
        wall_time=run.seconds,
        worker_use=run.recorder.usage.share(run.seconds),
    )
