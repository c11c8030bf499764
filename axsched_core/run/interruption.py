"""After Ctrl-C or a signal: ``experiment.json`` is written, and the user reads how to go on."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from axsched_core.errors import OptimizationInterrupted, OptimizationTerminated
from axsched_core.journal.rundir import RunDirectory
from axsched_core.run import termination
from axsched_core.run.records import Record
from axsched_core.trials import TrialState

NAME = "experiment.json"
"""The file in the run directory; for the user, `resume` does not need it."""

log = logging.getLogger("axsched")


def save(rundir: RunDirectory, write: Callable[[Path], None]) -> Path | None:
    """Save the experiment into the run directory.

    Args:
        rundir: the run directory.
        write: writes the experiment to a path.

    Returns:
        The file. None if there is no run directory, or if it cannot be saved: the log says why.
    """
    if not rundir.path.exists():
        return None
    path = rundir.path / NAME
    try:
        write(path)
    except OptimizationTerminated:
        log.error("There was no time left to save the experiment to %s.", path)
    except Exception as error:  # noqa: BLE001 - it must not hide that this was interrupted
        log.error("The experiment could not be saved to %s: %s", path, error)
    else:
        return path
    return None


def shell(path: Path) -> str:
    """The path as a word of a shell."""
    return shlex.quote(str(path))


def error(
    *,
    records: Iterable[Record],
    active: Iterable[Record],
    not_made: int,
    run_dir: Path,
    resumable: bool,
    saved: Path | None,
) -> OptimizationInterrupted | OptimizationTerminated:
    """The error that a call raises: it says what happened to the trials, and how to go on.

    Args:
        records: all trials of the run.
        active: those that are in progress.
        not_made: how many trials the call has not made.
        run_dir: the run directory.
        resumable: the run has a journal.
        saved: what `save` returned.
    """
    known = list(records)
    # A trial with a decided outcome has no job any more.
    running = sum(not record.state.ended for record in active)
    done = sum(record.state is TrialState.SUCCEEDED for record in known)
    opened = [r for r in known if r.reopened and r.state is TrialState.CANDIDATE]
    not_begun = not_made + sum(not record.attempts for record in opened)  # made in advance
    words = (
        f"{termination.name() or 'Interrupted'}: {done} trials have results, "
        f"{sum(r.attempts > 0 for r in opened)} were stopped and stay open, "
        + (f"{running} have jobs that may run on, " if running else "")
        + f"{not_begun} have not begun"
        + (f"; the experiment is saved in {saved}" if saved else "")
    )
    again = f"AxScheduler.resume({str(run_dir)!r}).finish()"
    if termination.name():
        shell_line = f"axsched resume {shell(run_dir)}"
        to_go_on = f". To go on: {again}, or in a shell: {shell_line}" if resumable else "."
        return termination.ending(words + to_go_on)
    words += ". To go on: scheduler.finish()"
    if resumable:
        words += f"; in a new session: {again}, or in a shell: axsched resume {shell(run_dir)}"
    return OptimizationInterrupted(words)
