"""``axsched resume``, ``salvage`` and ``cancel``: what is to be done about a run from outside."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from axsched_core import cancel_request, journal
from axsched_core.errors import AxschedError, InvalidInput, OptimizationInterrupted, RunLocked
from axsched_core.lock import RunLock
from axsched_core.scheduler import AxScheduler

TAKEN_WITHIN = 30.0
"""Seconds that `cancel` waits for a living driver to take its request."""

RUN_DIR = click.argument("run_dir", type=click.Path(path_type=Path))


@contextmanager
def in_words() -> Iterator[None]:
    """Errors that speak for themselves go without a traceback."""
    try:
        yield
    except (AxschedError, OSError) as error:
        raise click.ClickException(str(error)) from error
    except OptimizationInterrupted as interrupted:
        click.echo(str(interrupted), err=True)
        raise SystemExit(130) from interrupted


@click.command()
@RUN_DIR
def resume(run_dir: Path) -> None:
    """Go on with the run in RUN_DIR whose driver has ended, and finish it.

    Prints Ax's best parameters as JSON. Ends with status 1 and the reason where that cannot be,
    with 130 after Ctrl-C.
    """
    with in_words(), AxScheduler.resume(run_dir) as scheduler:
        best = scheduler.finish()
        click.echo(json.dumps(best, indent=2, default=repr))


@click.command()
@RUN_DIR
def salvage(run_dir: Path) -> None:
    """Have the run in RUN_DIR go on although its journal is damaged.

    The lines before the damage are kept; the journal as it was stays beside. Jobs that only the
    lost lines knew are forgotten, and their trials made anew.
    """
    with in_words():
        path = journal_of(run_dir)
        lock = RunLock(path.parent)
        lock.acquire()
        try:
            done = journal.salvage(path)
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
def cancel(run_dir: Path, trials: tuple[int, ...]) -> None:
    """Cancel the jobs of the run in RUN_DIR, or only those of some TRIALS (their indices).

    The trials are abandoned. Where the run's driver lives, it is asked to do it; else it is done
    here, and the run can still be resumed.
    """
    with in_words():
        path = journal_of(run_dir)
        _refuse_ended(path, trials)
        try:
            lock = RunLock(path.parent)
            lock.acquire()
        except RunLocked:
            _ask_driver(path.parent, trials)
            return
        lock.release()
        # Other trials' jobs are none of our business: they run on.
        with AxScheduler.resume(run_dir, config={"on_exit": "leave"}) as scheduler:
            if trials:
                for index in trials:
                    scheduler.abandon_trial(index, "cancelled by axsched cancel")
            else:
                scheduler.cancel()
    click.echo("Cancelled; no driver was at it.")


def _ask_driver(run_dir: Path, trials: tuple[int, ...]) -> None:
    request = cancel_request.ask(run_dir, trials or None)
    deadline = time.monotonic() + TAKEN_WITHIN
    while request.path.exists():
        if time.monotonic() > deadline:
            click.echo(
                f"The driver has not taken the request in {TAKEN_WITHIN:.0f} s. It looks while "
                f"one of its calls waits for trials; to withdraw the request: rm {request.path}"
            )
            raise SystemExit(1)
        time.sleep(0.05)
    click.echo("The driver cancels.")


def _refuse_ended(path: Path, trials: tuple[int, ...]) -> None:
    known = journal.read(path).trials
    for index in trials:
        if index not in known:
            raise InvalidInput(f"{path.parent} knows no trial {index}.")
        if known[index].state is not None:
            raise InvalidInput(f"Trial {index} has ended already: {known[index].state}.")


def journal_of(run_dir: Path) -> Path:
    path = run_dir.expanduser().absolute() / journal.NAME
    if not path.is_file():
        raise InvalidInput(f"{path.parent} is no run directory: it holds no {journal.NAME}.")
    return path
