"""``axsched resume``, ``salvage`` and ``cancel``: work on a run from outside its driver."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from axsched_core.cli.errors_shown import in_words
from axsched_core.cli.options import RUNNER_OPTIONS
from axsched_core.cli.run_argument import RUN_DIR
from axsched_core.errors import InvalidInput
from axsched_core.journal import cancel_request, lines, replay
from axsched_core.journal import salvage as salvaging
from axsched_core.journal.lock import RunLock, holder
from axsched_core.journal.replay import ReplayedRun
from axsched_core.run import driving
from axsched_core.run import resume as resuming
from axsched_core.scheduler import AxScheduler
from axsched_core.trials import TrialState

TAKEN_WITHIN = 30.0
"""Seconds that `cancel` waits for a living driver, which itself waits for jobs to end."""

NAMED = 20
"""How many trials `cancel` names."""


@click.command()
@RUN_DIR
@RUNNER_OPTIONS
def resume(run_dir: Path, options: dict[str, Any]) -> None:
    """Continue the run in RUN_DIR after its driver has ended, and finish it.

    Prints the best trial as JSON: as observed, and by Ax's own model. Exits with status 1 and the
    reason if it cannot, with 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP. Secret options
    of the runner are not saved: give them again.
    """
    with in_words(), AxScheduler.resume(run_dir, runner_options=options or None) as scheduler:
        best = scheduler.finish()
        click.echo(json.dumps(best.to_plain(), indent=2, default=repr))


@click.command()
@RUN_DIR
def salvage(run_dir: Path) -> None:
    """Repair the damaged journal of the run in RUN_DIR, so that the run can go on.

    The lines before the damage are kept; the damaged journal stays next to it. Jobs that only the
    lost lines knew are forgotten, and their trials are made again.
    """
    with in_words():
        path = journal_of(run_dir)
        lock = RunLock(path.parent)
        lock.acquire()
        try:
            done = salvaging.salvage(path)
        finally:
            lock.release()
    click.echo(f"{done.kept} lines are kept, {done.lost} are lost.")
    click.echo(f"The journal as it was: {done.damaged}")
    if done.forgotten is not None:
        click.echo(
            f"Jobs that are not known any more, with what they have left: {done.forgotten}\n"
            "Those that run already may do so to their end; cancel them on their backend."
        )
    click.echo(f"To go on: axsched resume {run_dir}")


@click.command()
@RUN_DIR
@click.argument("trials", type=int, nargs=-1)
@RUNNER_OPTIONS
def cancel(run_dir: Path, trials: tuple[int, ...], options: dict[str, Any]) -> None:
    """Cancel the run in RUN_DIR, or only some of its TRIALS (their indices).

    Running jobs are cancelled, and all open trials are abandoned; resume then makes no further
    trials. With TRIALS this applies only to them. If the run's driver lives, it is asked to do
    it; if not, this command does it, and the run can still be resumed. Exits with status 1 if a
    job could not be stopped, or the driver does not answer.
    """
    with in_words():
        path = journal_of(run_dir)
        before = replay.read(path)
        _refuse_ended(path, before, trials)
        if not before.to_make and not _open(before):
            number = len(before.trials)
            click.echo(f"Nothing was left to cancel: all {number} trials of the run have ended.")
            return
        by_driver = _done_by_driver(path.parent, trials)
        if not by_driver:
            _cancel_here(path.parent, trials, options)
        click.echo(_what_was_cancelled(before, replay.read(path), by_driver))


def _open(run: ReplayedRun) -> list[int]:
    return [index for index, trial in run.trials.items() if trial.state is None]


def _what_was_cancelled(before: ReplayedRun, after: ReplayedRun, by_driver: bool) -> str:
    known = before.trials.keys() | after.trials.keys()
    ended = {index for index, trial in before.trials.items() if trial.state is not None}
    cancelled = sorted(
        index
        for index in known - ended
        if index in after.trials and after.trials[index].state == TrialState.CANCELLED.value
    )
    names = ", ".join(map(str, cancelled[:NAMED])) + (", ..." if len(cancelled) > NAMED else "")
    words = f"{len(cancelled)} trial{'' if len(cancelled) == 1 else 's'}"
    words += f" ({names})" if cancelled else ""
    unmade = max(0, before.to_make - (len(after.trials) - len(before.trials)) - after.to_make)
    if unmade:
        words += f", and {unmade} more will not be made"
    return f"Cancelled{', by its driver' if by_driver else '; the run has no driver'}: {words}."


def _cancel_here(run_dir: Path, trials: tuple[int, ...], options: dict[str, Any]) -> None:
    # Other trials' jobs are none of our business: they run on.
    run = resuming.resume(run_dir, runner_options=options or None, config={"on_exit": "leave"})
    with closing(run):
        ended, running = driving.cancel_from_shell(run, set(trials) or None)
    for trial in ended:
        if trial.state is not TrialState.CANCELLED:
            click.echo(f"Trial {trial.index} has ended by itself: {trial.state}.")
    if running:
        raise click.ClickException(
            "The jobs of these trials could not be stopped, and may run on: "
            f"{', '.join(str(trial.index) for trial in running)}. The trials are as they were: try "
            "again later, or stop the jobs on their backend."
        )


def _done_by_driver(run_dir: Path, trials: tuple[int, ...]) -> bool:
    """Ask the run's driver; False if there is none, or none any more."""
    if not _has_driver(run_dir):
        return False
    request = cancel_request.ask(run_dir, trials or None)
    deadline = time.monotonic() + TAKEN_WITHIN
    try:
        while request.path.exists():
            if time.monotonic() > deadline:
                raise click.ClickException(
                    f"The driver has not done it in {TAKEN_WITHIN:.0f} s, and is not asked any "
                    "more. It looks while one of its calls waits for trials."
                )
            time.sleep(0.2)
            if not _has_driver(run_dir):
                return not request.path.exists()
        return True
    finally:
        request.done()  # also after an error: no later call may find it


def _has_driver(run_dir: Path) -> bool:
    return holder(run_dir) is not None


def _refuse_ended(path: Path, run: ReplayedRun, trials: tuple[int, ...]) -> None:
    known = run.trials
    for index in trials:
        if index not in known:
            raise InvalidInput(f"{path.parent} knows no trial {index}.")
        if known[index].state is not None:
            raise InvalidInput(f"Trial {index} has ended already: {known[index].state}.")


def journal_of(run_dir: Path) -> Path:
    path = run_dir.expanduser().absolute() / lines.NAME
    if not path.is_file():
        raise InvalidInput(f"{path.parent} is not a run directory: it holds no {lines.NAME}.")
    return path
