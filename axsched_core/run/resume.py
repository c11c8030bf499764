"""From a run directory back to a running driver."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from axsched_core.config import SchedulerConfig
from axsched_core.errors import InvalidInput
from axsched_core.jobs import Report
from axsched_core.journal import cancel_request, header, lines, replay
from axsched_core.journal.replay import ReplayedRun, ReplayedTrial
from axsched_core.journal.rundir import RunDirectory
from axsched_core.journal.writer import Writer
from axsched_core.optimizers import adapt, from_file
from axsched_core.optimizers.base import Optimizer, Outcome, OutcomeKind
from axsched_core.run import objective, termination
from axsched_core.run.dispatch import Dispatch
from axsched_core.run.outcomes import kind_of
from axsched_core.run.records import Attempt, Purpose, Record, Stage, Submission
from axsched_core.run.retry import Ended
from axsched_core.run.run import Run
from axsched_core.trials import TrialState

log = logging.getLogger("axsched")


def resume(
    run_dir: Path,
    *,
    optimizer: Any = None,
    runner: str | object | None = None,
    runner_options: Mapping[str, Any] | None = None,
    config: SchedulerConfig | Mapping[str, Any] | None = None,
    plugins: Sequence[object] = (),
    stopping: tuple[Any, Any] = (None, None),
    stored: Optimizer | None = None,
) -> Run:
    """Continue the run of a driver that has ended; see `AxScheduler.resume`.

    ``stored`` is the optimizer from a database; it replaces the snapshot.
    """
    path = run_dir.expanduser().absolute()
    if not (path / lines.NAME).is_file():
        raise InvalidInput(f"{path} is not a run directory: it holds no {lines.NAME}.")
    writer = Writer()
    writer.open(path, None)
    try:
        for request in cancel_request.found(path):
            request.done()  # of an earlier driver
        found = replay.read(path / lines.NAME)
        if any(trial.key and not trial.state for trial in found.trials.values()):
            replay.check_place(path, found)
        lines.repair(path / lines.NAME, found.length)
        adapter = stored or _optimizer_of_before(path, found, optimizer)
        if runner is None:
            runner, runner_options = runner_of_before(path, found.run, runner_options)
        run = Run(
            adapter,
            runner,
            _settings(found.run["config"], config),
            runner_options,
            plugins=plugins,
            stopping=stopping,
            found=(RunDirectory.existing(path, found.run["run_id"]), writer),
        )
    except BaseException:
        writer.close()
        raise
    try:
        _restore(run, found)
        if stored is not None:
            run.snapshots.due()  # the last one may be of an earlier state
    except BaseException:
        run.let_go()
        raise
    termination.settle()  # jobs may be in progress already
    return run


def _optimizer_of_before(path: Path, found: ReplayedRun, given: Any) -> Any:
    if found.snapshot is None:
        raise InvalidInput(f"{path}: the last driver ended before anything was begun; start again.")
    snapshot = path / found.snapshot
    if given is not None:
        return adapt(given).load(snapshot)
    return from_file(found.run["optimizer"], snapshot, found.run["seed"])


def runner_of_before(
    path: Path, run: Mapping[str, Any], given: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """The name and options of a run's runner; given options replace written ones.

    Raises:
        InvalidInput: there are options that were not written down.
    """
    if run["runner_options"] is None and given is None:
        raise InvalidInput(
            f"The runner {run['runner']!r} of {path} was given as an instance, so its options were "
            "not written down; pass another one: resume(run_dir, runner=...), or the options: "
            "resume(run_dir, runner_options={...}), in the shell --option key=value."
        )
    chosen = {**(run["runner_options"] or {}), **(given or {})}
    if missing := [name for name in run["secrets"] if name not in chosen]:
        raise InvalidInput(
            f"The runner options {', '.join(missing)} are secret, so their values were not written "
            f"down; pass them again: resume(run_dir, runner_options={{{missing[0]!r}: ...}}), "
            f"in the shell --option {missing[0]}=..."
        )
    return run["runner"], chosen


def _settings(
    first: Mapping[str, Any], given: SchedulerConfig | Mapping[str, Any] | None
) -> SchedulerConfig | Mapping[str, Any]:
    """A mapping changes the first driver's settings; a `SchedulerConfig` replaces all of them."""
    if given is None or isinstance(given, Mapping):
        mine = attrs.fields_dict(SchedulerConfig)  # a newer version may have had more
        return {**{name: first[name] for name in first if name in mine}, **(given or {})}
    return given


def _restore(run: Run, found: ReplayedRun) -> None:
    """Bring the optimizer and the engine to the last driver's state."""
    engine, runners = run.engine, [lane.runner.name for lane in run.lanes]
    run.recorder.go_on(found)
    if found.run["runner"] not in runners:
        raise InvalidInput(
            f"The jobs of {run.rundir.path} were submitted by the runner {found.run['runner']!r}; "
            f"{', '.join(map(repr, runners))} cannot find them. Pass the same kind of runner."
        )
    run.with_optimizer(lambda optimizer: optimizer.go_on_with(found.optimized or {}))
    told = run.config.failed_points
    run.with_optimizer(lambda optimizer: bring_up_to_date(optimizer, found.trials.values(), told))
    if (then := found.run["versions"]) != (here := header.versions()):
        log.warning("This run was begun with %s; it goes on with %s.", then, here)
    changed = found.objective is not None and objective.take_up(run, found.objective)
    run.learn_metrics()
    engine.attempts.remember(found.numbers)
    engine.take_up(remembered(trial, engine.dispatch) for trial in found.trials.values())
    with_jobs = [record for record in engine.records.values() if record.latest]
    marks = {record.index: run.recorder.mark(record) for record in with_jobs}
    run.with_optimizer(lambda optimizer: _mark_again(optimizer, marks))
    for record in with_jobs:
        if record.stage is Stage.ENDED:
            record.forget_job()
    for record in engine.active.at(Stage.SUBMITTED):
        run.recorder.job_found_again(record)
    if changed:
        run.begin_anew()
    run.budget.left = found.to_make
    run.snapshots.goes_on(run.optimizer)


def _mark_again(optimizer: Optimizer, marks: Mapping[int, Mapping[str, Any]]) -> None:
    """Mark the optimizer's trials with the data about their jobs that the snapshot does not
    have."""
    views = optimizer.trials(list(marks))
    optimizer.annotate(
        {
            index: {"axsched": marks[index]}
            for index, view in views.items()
            if view.metadata.get("axsched") != marks[index]
        }
    )


def bring_up_to_date(
    optimizer: Optimizer, trials: Iterable[ReplayedTrial], failed_points: str
) -> None:
    """Repeat on a snapshot of the optimizer what the driver did since, according to the journal.

    ``failed_points`` is the setting of that name.
    """
    known = optimizer.trials()
    in_order = sorted(trials, key=lambda trial: trial.index)
    for trial in in_order:
        if trial.index not in known:
            optimizer.restore(trial.index, trial.parameters, trial.origin)
    optimizer.tell_intermediate(
        {
            trial.index: [Report(step, metrics) for step, metrics in trial.reports]
            for trial in in_order
            if trial.reports
        }
    )
    now = optimizer.trials()
    optimizer.tell(
        [
            Outcome(trial.index, kind, trial.results or {}, trial.message)
            for trial in in_order
            if now[trial.index].open and (kind := _replayed(trial, failed_points))
        ]
    )
    optimizer.annotate(
        {
            trial.index: {"axsched": {**mark, "notes": trial.notes}}
            for trial in in_order
            if trial.notes is not None
            and (mark := now[trial.index].metadata.get("axsched") or {}).get("notes") != trial.notes
        }
    )
    failed = TrialState.FAILED.value
    optimizer.may_return([t.index for t in in_order if t.past and t.state == failed])


def _replayed(trial: ReplayedTrial, failed_points: str) -> OutcomeKind | None:
    if trial.state is None:
        return None
    if trial.state == TrialState.CLOSED.value:
        # The user had ended it in the optimizer itself. The next snapshot says how; a driver that
        # was killed before it has lost this, and the trial must at least not be open again.
        return OutcomeKind.ABANDONED
    return kind_of(TrialState(trial.state), trial.cause, failed_points, past=trial.past)


def remembered(trial: ReplayedTrial, dispatch: Dispatch) -> Record:
    """The record of a trial of the last driver."""
    record = Record(
        trial.index,
        trial.parameters,
        method=trial.method,
        attempts=trial.attempts,
        ended=tuple(Ended(cause) for cause in trial.ended),
        grown=trial.grown,
        avoid=tuple(trial.avoid),
    )
    if trial.key is not None:
        request = dispatch.attempts.request(
            trial.index, trial.number, trial.parameters, trial.grown, trial.avoid
        )
        known = Submission.IN_DOUBT if trial.handle is None else Submission.ACCEPTED
        record.latest = Attempt(
            request,
            dispatch.lane_called(trial.lane),
            trial.handle,
            known,
            inherited=True,
            stopping=trial.stopping or trial.early is not None,
        )
        if trial.reports:
            step, metrics = trial.reports[-1]
            record.latest.progress.last = Report(step, metrics)
            record.latest.progress.journalled = step
        if trial.early is not None and trial.state is None:
            record.latest.purpose, record.latest.stop_reason = Purpose.EARLY, trial.early
    if trial.state is not None:
        record.stage, record.state = Stage.ENDED, TrialState(trial.state)
        record.cause, record.message = trial.cause, trial.message
        record.results, record.notes = trial.results, trial.notes
        record.past = trial.past
    elif trial.key is None:
        # Made but not submitted, or stopped by Ctrl-C: the next call runs it.
        record.reopened = True
    else:
        record.orphaned = trial.handle is None
        record.state = TrialState.QUEUED
        record.stage = Stage.WAITING if record.orphaned else Stage.SUBMITTED
    return record
