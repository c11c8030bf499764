"""Calls about one trial that the user controls by hand: make it, give its result, abandon it."""

from __future__ import annotations

import logging
from typing import Any

from axsched_core import plain
from axsched_core.errors import InvalidInput, TrialNotFinished, sentence
from axsched_core.jobs import JobResult
from axsched_core.objectives.results import InvalidResult, Result, read_result
from axsched_core.optimizers.base import Optimizer, TrialView
from axsched_core.run import termination
from axsched_core.run.records import Record
from axsched_core.run.run import Run
from axsched_core.trials import Trial, TrialState

log = logging.getLogger("axsched")


def next_trial(run: Run) -> int | None:
    """See `AxScheduler.get_next_trial`."""
    with run.call("get_next_trial"):
        run.optimizer.check()
        termination.go_on()
        run.write_down()
        made: list[Record] = []

        def ask(optimizer: Optimizer) -> str:
            asked = optimizer.ask(1)
            for one in asked.candidates:
                origin = optimizer.origins([one.index]).get(one.index)
                made.append(run.record(one.index, one.parameters, origin, one.method))
            return asked.reason

        with run.parking(made):
            reason = run.with_optimizer(ask)
        if not made:
            log.info("Nothing to propose now: %s", reason)
            return None
        run.writer.flush()  # the user may evaluate it by hand, for hours
        return made[0].index


def complete(run: Run, trial_index: int, raw_data: Any) -> Trial:
    """See `AxScheduler.complete_trial`."""
    with run.call("complete_trial"):
        run.ready(objective=False)
        trial_index = whole(trial_index, "trial_index", least=0)
        if raw_data is None:
            if trial_index in run.engine.active:
                run.perform(lambda: None)
            return _completed_by_its_job(run, trial_index)
        record = open_record(run, trial_index, on_the_way=True)
        try:
            found = read_result(
                JobResult(metrics=raw_data),
                objectives=run.optimizer.objective_names,
                required=run.optimizer.required_metrics,
                limit=run.config.max_result_bytes,
            )
        except InvalidResult as error:
            raise InvalidInput(f"raw_data of trial {trial_index}: {sentence(error)}") from error
        return _settle(run, record, TrialState.SUCCEEDED, found=found)


def abandon(run: Run, trial_index: int, reason: str) -> Trial:
    """See `AxScheduler.abandon_trial`."""
    with run.call("abandon_trial"):
        run.ready(objective=False)
        record = open_record(run, trial_index, on_the_way=True)
        return _settle(run, record, TrialState.CANCELLED, reason)


def open_record(run: Run, trial_index: int, *, on_the_way: bool = False) -> Record:
    """The record of a trial that may still be completed; it is made if there is none.

    Args:
        run: the run.
        trial_index: the trial.
        on_the_way: it may have a job.

    Raises:
        InvalidInput: there is no such trial, or it is not open, or it has a job.
    """
    view = open_view(run, trial_index, on_the_way=on_the_way)
    return run.record(view.index, view.parameters)


def open_view(run: Run, trial_index: int, *, on_the_way: bool = False) -> TrialView:
    """The optimizer's view of the same trial; no record is made."""
    trial_index = whole(trial_index, "trial_index", least=0)
    view = run.with_optimizer(lambda optimizer: optimizer.trials([trial_index])).get(trial_index)
    if view is None:
        raise InvalidInput(f"The experiment has no trial {trial_index}.")
    if not view.open:
        raise InvalidInput(f"Trial {trial_index} is not open: it is {view.status}.")
    record = run.engine.active.get(trial_index)
    if record is not None and record.state.ended:
        raise InvalidInput(
            f"Trial {trial_index} has ended already: it is {record.state.value}, and the optimizer "
            "has not yet been told; the next call tells it."
        )
    if record is not None and not on_the_way:
        raise InvalidInput(f"Trial {trial_index} is in progress already: {record.state.value}.")
    if not on_the_way and run.guard.elsewhere(trial_index):
        raise InvalidInput(
            f"Trial {trial_index} is in progress in another scheduler of the same object."
        )
    return view


def whole(value: Any, name: str, least: int = 1) -> int:
    """``value`` as an int; raise `InvalidInput` if it is not whole, or less than ``least``."""
    number = plain.whole(value)
    if number is None or number < least:
        raise InvalidInput(f"{name} must be a whole number of at least {least}, got {value!r}.")
    return number


def _settle(
    run: Run, record: Record, state: TrialState, reason: str = "", found: Result | None = None
) -> Trial:
    """End a trial. If the optimizer cannot be told now, the next call tells it."""
    settler = run.engine.dispatch.settler

    def begin() -> None:
        if found is not None:
            settler.take_notes(record, found)
        settler.end_by_hand(record, state, reason, found.metrics if found else None)

    run.perform(begin)
    return record.snapshot()


def _completed_by_its_job(run: Run, trial_index: int) -> Trial:
    record = run.engine.records.get(trial_index)
    if record is None:
        raise InvalidInput(
            f"Trial {trial_index} has had no job of this scheduler: run_trial({trial_index}) "
            "first, or give raw_data."
        )
    if record.state is TrialState.SUCCEEDED:
        return record.snapshot()
    if record.state.ended:
        why = f"it is {record.state.value}: {record.message}"
    else:
        why = f"its job is {record.state.value}: wait_for_completed_trials(), or give raw_data"
    raise TrialNotFinished(f"Trial {trial_index} has no result; {sentence(why)}")
