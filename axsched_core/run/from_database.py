"""From an experiment in a database back to a running driver, through its journal if possible."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from axsched_core.config import SchedulerConfig
from axsched_core.errors import InvalidInput
from axsched_core.journal import lines, replay
from axsched_core.journal.writer import Writer
from axsched_core.optimizers import LastRun, Optimizer, from_database
from axsched_core.run import resume
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Record, Stage
from axsched_core.run.run import Run
from axsched_core.runners.session import RunnerSession
from axsched_core.trials import TrialState

log = logging.getLogger("axsched")


def from_stored(
    name: str,
    *,
    db_settings: Any,
    runner: str | object,
    runner_options: Mapping[str, Any] | None,
    config: SchedulerConfig | Mapping[str, Any] | None,
    plugins: Sequence[object],
) -> Run:
    """Continue a stored experiment; see `AxScheduler.from_stored_experiment`."""
    adapter, last = from_database(name, db_settings)
    left = 0
    if (found := _journal_of(last)) is not None:
        run_dir, first = found
        if _name_of(runner) == first["runner"]:
            by_name = isinstance(runner, str) and first["runner_options"] is not None
            return resume.resume(
                run_dir,
                optimizer=None,
                runner=None if by_name else runner,
                runner_options=runner_options,
                config=config,
                plugins=plugins,
                stored=adapter,
            )
        left = _take_results(adapter, run_dir, _name_of(runner))
    _interrupt_open(adapter)
    run = Run(adapter, runner, config, runner_options, plugins=plugins)
    run.budget.left = left
    return run


def _name_of(runner: str | object) -> str:
    if isinstance(runner, str):
        return runner
    session = RunnerSession(runner)
    session.release()
    return session.info.name


def _journal_of(last: LastRun | None) -> tuple[Path, Mapping[str, Any]] | None:
    """The run directory of the last run and its journal's first line, if they are visible here."""
    if last is None or not last.run_dir:
        return None
    path = Path(last.run_dir)
    try:
        _, _, first = next(lines.read_lines(path / lines.NAME))
        if first.get("run_id") == last.run_id:  # another host may have a folder of that name
            return path, first
    except (OSError, StopIteration):
        pass
    log.warning(
        "The last run of this experiment was in %s on %s, which cannot be seen from here: its "
        "open trials are run again. See to it that its driver has ended.",
        path,
        last.host,
    )
    return None


def _take_results(optimizer: Optimizer, run_dir: Path, runner: str) -> int:
    """Tell the optimizer the results of a run on another runner.

    Returns:
        How many trials it still had to make.

    Raises:
        InvalidInput: it has jobs that no driver has seen end.
        RunLocked: its driver still uses it.
    """
    writer = Writer()
    writer.open(run_dir, None)
    recorder = Recorder(writer, lambda event: None)  # a run that is over has no observers
    try:
        found = replay.read(run_dir / lines.NAME)
        theirs = found.run["runner"]
        if under_way := [t.index for t in found.trials.values() if t.key and not t.state]:
            raise InvalidInput(
                f"The last run of this experiment, {run_dir}, has jobs that may not have ended "
                f"(trials {', '.join(map(str, under_way))}). They are the runner {theirs!r}'s, "
                f"and {runner!r} cannot find them. Pass runner={theirs!r}, or end them first."
            )
        told = found.run["config"].get("failed_points", SchedulerConfig().failed_points)
        resume.bring_up_to_date(optimizer, found.trials.values(), told)
        recorder.call_ended()
        for trial in found.trials.values():
            if trial.state is None:
                words = "another run has taken it over"
                closed = Record(trial.index, trial.parameters, Stage.ENDED)
                closed.state, closed.message = TrialState.CLOSED, words
                recorder.trial_decided(closed)
        return found.to_make
    finally:
        writer.close()


def _interrupt_open(optimizer: Optimizer) -> None:
    """Mark our open trials, so that the next call runs them."""
    optimizer.annotate(
        {
            index: {"axsched": {**view.metadata["axsched"], "interrupted": True}}
            for index, view in optimizer.trials().items()
            if view.open and "axsched" in view.metadata
        }
    )
