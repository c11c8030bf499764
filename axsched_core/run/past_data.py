"""Results from before this run become completed trials: all of them, or none."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from axsched_core.errors import InvalidInput
from axsched_core.journal import view
from axsched_core.optimizers.base import Optimizer, Outcome, OutcomeKind
from axsched_core.run import past_rows
from axsched_core.run.past_rows import Measurement
from axsched_core.run.records import Record, Stage
from axsched_core.run.run import Run
from axsched_core.trials import TrialState


def attach_data(run: Run, data: Any, ignore: Collection[str]) -> list[int]:
    """See `PastData.attach_data`."""
    with run.call("attach_data"):
        run.ready(objective=False, write=False)
        table = past_rows.read(data)

        def checked(optimizer: Optimizer) -> list[Measurement]:
            rows = past_rows.measurements(table, optimizer, ignore)
            return past_rows.check(rows, optimizer, table.source)

        return _attach(run, run.with_optimizer(checked), table.source)


def warm_start(run: Run, other_run: str | Path) -> list[int]:
    """See `PastData.warm_start`."""
    with run.call("warm_start"):
        run.ready(objective=False, write=False)
        other = _looked_at(run, other_run)
        rows = [
            Measurement(f"trial {trial.index}", trial.parameters, trial.results, trial.notes)
            for trial in other.trials.values()
            if trial.state == TrialState.SUCCEEDED.value and trial.results is not None
        ]
        if not rows:
            raise InvalidInput(f"{other.path} has no succeeded trial.")

        def checked(optimizer: Optimizer) -> list[Measurement]:
            return past_rows.check(rows, optimizer, str(other.path))

        return _attach(run, run.with_optimizer(checked), str(other.path))


def _looked_at(run: Run, other_run: str | Path) -> view.Run:
    if not isinstance(other_run, str | Path):
        raise InvalidInput(f"warm_start takes the path of a run directory, got {other_run!r:.80}.")
    other = view.Run(Path(other_run))
    try:
        other.look()
    except OSError as error:
        raise InvalidInput(f"{other.path} cannot be read: {error}.") from error
    if run.writer.opened and other.id == run.rundir.run_id:
        raise InvalidInput(f"{other.path} is this run itself; its results are there already.")
    return other


def _attach(run: Run, found: Sequence[Measurement], source: str) -> list[int]:
    """Make completed trials; the optimizer is told all results at once, after the journal has
    them."""
    if not found:
        return []
    run.write_down()
    indices: list[int] = []
    interrupt: KeyboardInterrupt | None = None
    try:
        run.with_optimizer(partial(_make, found=found, indices=indices))
    except KeyboardInterrupt as error:
        interrupt = error
    except BaseException:
        # The next call makes a snapshot: the journal does not know the stale trials.
        run.engine.exchange.changed_outside = True
        raise
    # Behind the same work, if Ctrl-C came: then all of them are made, and none may stay open.
    views = run.with_optimizer(lambda optimizer: optimizer.trials(indices))
    if interrupt is not None and not indices:
        raise interrupt

    # In the optimizer's form: numbers of the right type, fixed parameters added.
    records = [
        Record(
            index,
            dict(views[index].parameters),
            stage=Stage.TELLING,
            state=TrialState.SUCCEEDED,
            message=f"past data: {past.where} of {Path(source).name}",
            results=past.metrics,
            notes=past.notes,
            past=True,
            given=True,
        )
        for index, past in zip(indices, found, strict=True)
    ]

    def begin() -> None:
        for record in records:
            run.engine.records[record.index] = record
            run.engine.active.add(record)
        run.recorder.past_data(records)
        run.recorder.say(f"Past data: {len(records)} trials from {source}.")

    run.perform(begin)
    if interrupt is not None:
        raise run.interrupted(run.save_interrupted()) from interrupt
    return indices


def _make(optimizer: Optimizer, *, found: Sequence[Measurement], indices: list[int]) -> None:
    """Make the trials, or none; fills ``indices``."""
    try:
        for past in found:
            indices.append(optimizer.attach(past.parameters))
    except BaseException:
        # They cannot be removed, but must not be run.
        optimizer.tell([Outcome(i, OutcomeKind.STALE, reason="not attached") for i in indices])
        indices.clear()
        raise
