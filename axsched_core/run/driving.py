"""The calls that make, run, watch and cancel trials."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence

from axsched_core import plain
from axsched_core.best import Best
from axsched_core.errors import InvalidInput, OptimizerError, SchedulerBusy
from axsched_core.run.by_hand import open_record, whole
from axsched_core.run.failures import all_failed
from axsched_core.run.records import Purpose, Record
from axsched_core.run.run import Run
from axsched_core.trials import Trial, TrialState

log = logging.getLogger("axsched")


def run_optimization(
    run: Run, max_trials: int, timeout: float | None, synchronous: bool | None
) -> Best:
    """See `AxScheduler.run_optimization`."""
    max_trials = whole(max_trials, "max_trials")
    seconds = plain.number(timeout)
    if timeout is not None and not (seconds is not None and seconds > 0):
        raise InvalidInput(f"timeout must be a positive number of seconds, got {timeout!r}.")
    if not isinstance(synchronous, bool | None):
        raise InvalidInput(f"synchronous must be True, False or None, not {synchronous!r:.80}.")
    with run.call("run_optimization"):
        run.ready()
        _warn_of_small_budget(run, max_trials)
        return _make(run, max_trials, run.stopped_before(), seconds, synchronous)


def finish(run: Run) -> Best:
    """See `AxScheduler.finish`."""
    with run.call("finish"):
        run.ready()
        return _make(run, None, run.stopped_before())


def _make(
    run: Run,
    to_make: int | None,
    again: Sequence[Record],
    timeout: float | None = None,
    synchronous: bool | None = None,
) -> Best:
    """Make trials, and wait for them.

    Args:
        run: the run.
        to_make: how many; None: the ones that an interrupted call has left.
        again: open trials to run too.
        timeout: seconds.
        synchronous: see `AxScheduler.run_optimization`.
    """
    engine, budget = run.engine, run.budget

    def begin() -> None:
        left = budget.take_left()
        # Also make the trials that a batch without waiting has not made yet.
        wanted = left if to_make is None else to_make
        engine.want(wanted, again, timeout, synchronous=synchronous)
        engine.stops_at_failures = True
        engine.deadline = None if timeout is None else time.monotonic() + timeout

    run.wait(begin, lambda: engine.idle)
    run.recorder.call_ended()
    run.writer.flush()
    return _best(run, [engine.records[index] for index in budget.made] + list(again))


def _best(run: Run, ran: Sequence[Record]) -> Best:
    """The best trial after all trials in ``ran`` have ended.

    Raises:
        AllTrialsFailed, OptimizerError: there is none.
    """
    if (error := all_failed(ran)) is not None:
        raise error
    halted, records = run.engine.active.halted, run.engine.records.values()
    lost = [record for record in ran if record.state is TrialState.CANCELLED]
    if (halted or lost) and not any(r.state is TrialState.SUCCEEDED for r in records):
        why = halted.value if halted else lost[-1].message
        raise OptimizerError(
            f"Everything was cancelled ({why}) before any trial had a result, so "
            f"there are no best parameters; {len(lost)} trials were abandoned."
        )
    best = run.with_optimizer(lambda optimizer: optimizer.best())
    if best.why_not_observed:
        log.warning("There is no best trial: %s", best.why_not_observed)
    return best


def _warn_of_small_budget(run: Run, max_trials: int) -> None:
    left = run.with_optimizer(lambda optimizer: optimizer.initial_trials_left())
    if max_trials <= left:
        log.warning(
            "max_trials=%d leaves the optimizer no model-based trial: its initial phase takes "
            "%d more. Ask for more trials to get more than a space-filling design.",
            max_trials,
            left,
        )


def run_trial(run: Run, trial_index: int) -> Trial:
    """See `AxScheduler.run_trial`."""
    with run.call("run_trial"):
        run.ready()
        record = open_record(run, trial_index)

        def begin() -> None:
            run.engine.want(0, [record])

        if run.config.synchronous:
            run.wait(begin, lambda: record.index not in run.engine.active)
        else:
            run.perform(begin)
        return record.snapshot()


def look(run: Run) -> dict[int, Trial]:
    """See `AxScheduler.monitor_trials`."""
    with run.call("monitor_trials"):
        if run.engine.active or run.budget.to_make:
            run.perform(lambda: None)
        return run.trials()


def wait_for_all(run: Run) -> dict[int, Trial]:
    """See `AxScheduler.wait_for_completed_trials`."""
    with run.call("wait_for_completed_trials"):
        engine = run.engine
        if not engine.idle:
            run.wait(lambda: None, lambda: engine.idle)
        return run.trials()


def cancel(run: Run) -> None:
    """See `AxScheduler.cancel`."""
    try:
        with run.call("cancel", must_be_written=False):
            run.stopped_before()
            run.perform(lambda: run.engine.halt(Purpose.ABANDON), lambda: run.engine.at_rest)
    except SchedulerBusy:
        run.engine.cancel()


def cancel_from_shell(run: Run, trials: Collection[int] | None) -> tuple[list[Trial], list[Trial]]:
    """What ``axsched cancel`` does without a living driver: it starts nothing, and the jobs of
    other trials continue.

    Args:
        run: the run.
        trials: their indices; None: all, and nothing is left to `finish`.

    Returns:
        The trials that have ended, and those with jobs that could not be stopped: these are
        unchanged.
    """
    with run.call("cancel", must_be_written=False):
        run.ready(objective=False)
        run.stopped_before()
        known = run.engine.records
        records = known.values() if trials is None else map(known.get, trials)
        chosen = [r for r in records if r is not None and not r.state.ended]

        def begin() -> None:
            if trials is None:
                run.budget.drop()
                run.recorder.call_ended()
            run.engine.cancel_only(chosen)

        run.perform(begin, lambda: run.engine.at_rest)
        ended = [r.snapshot() for r in chosen if r.state.ended]
        return ended, [r.snapshot() for r in chosen if not r.state.ended]
