"""``axsched resume`` and ``axsched salvage``: what is to be done about a run whose driver died."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from axsched_core import journal
from axsched_core.errors import AxschedError, InvalidInput, OptimizationInterrupted
from axsched_core.lock import RunLock
from axsched_core.scheduler import AxScheduler

RUN_DIR = click.argument("run_dir", type=click.Path(path_type=Path))


@contextmanager
def _in_words() -> Iterator[None]:
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
    with _in_words(), AxScheduler.resume(run_dir) as scheduler:
        best = scheduler.finish()
        click.echo(json.dumps(best, indent=2, default=repr))


@click.command()
@RUN_DIR
def salvage(run_dir: Path) -> None:
    """Have the run in RUN_DIR go on although its journal is damaged.

    The lines before the damage are kept; the journal as it was stays beside. Jobs that only the
    lost lines knew are forgotten, and their trials made anew.
    """
    path = run_dir.expanduser().absolute() / journal.NAME
    with _in_words():
        if not path.is_file():
            raise InvalidInput(f"{path.parent} is no run directory: it holds no {journal.NAME}.")
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
