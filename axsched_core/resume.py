"""From a journal back to a running driver, and the first line that makes it possible."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from axsched_core.config import SchedulerConfig
from axsched_core.dispatch import Dispatch
from axsched_core.engine import OUTCOMES
from axsched_core.journal import TrialMemory
from axsched_core.optimizers.base import Optimizer, Outcome
from axsched_core.rundir import RunDirectory
from axsched_core.trials import Job, Record, Stage, TrialState


def header(
    rundir: RunDirectory,
    optimizer: Optimizer,
    runner: str,
    runner_options: Mapping[str, Any] | None,
    config: SchedulerConfig,
) -> dict[str, Any]:
    """The first line of a journal: all that another driver needs to know of the first."""
    settings = {**attrs.asdict(config), "job_output_dir": str(config.job_output_dir)}
    return {
        "run_id": rundir.run_id,
        "optimizer": optimizer.kind,
        "seed": optimizer.seed,
        "runner": runner,
        "runner_options": runner_options,
        "config": settings,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of what may matter to a run that is taken up again."""
    found = {}
    for name in ("axsched-core", "ax-platform"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optimizer that is not Ax's needs none
    return found


def replay(optimizer: Optimizer, trials: Iterable[TrialMemory]) -> None:
    """Do with a snapshot of the optimizer what the journal says was done since."""
    known = optimizer.trials()
    in_order = sorted(trials, key=lambda trial: trial.index)
    for trial in in_order:
        if trial.index not in known:
            optimizer.restore(trial.index, trial.parameters, trial.origin)
    now = optimizer.trials()
    optimizer.tell(
        [
            Outcome(trial.index, kind, trial.results or {}, trial.message)
            for trial in in_order
            if now[trial.index].open and (kind := OUTCOMES.get(TrialState(trial.state or "QUEUED")))
        ]
    )


def remembered(memory: TrialMemory, dispatch: Dispatch) -> Record:
    """The record of a trial of the last driver; what is on the way goes to ``dispatch``."""
    record = Record(
        memory.index, memory.parameters, attempts=memory.attempts, excused=memory.excused
    )
    dispatch.remember(record)
    if memory.key is not None:
        request = dispatch.make_request(memory.index, memory.attempts, memory.parameters)
        record.latest = Job(request, memory.handle, sent=True, inherited=True)
    if memory.state is not None:
        record.stage, record.state = Stage.ENDED, TrialState(memory.state)
        record.cause, record.message = memory.cause, memory.message
        record.results = memory.results
    elif memory.key is None:
        # Made but not submitted, or stopped by Ctrl-C: the next run takes it up.
        record.reopened = True
    else:
        record.orphaned = memory.handle is None
        record.state = TrialState.QUEUED
        record.stage = Stage.WAITING if record.orphaned else Stage.SUBMITTED
        dispatch.active[record.index] = record
    return record
