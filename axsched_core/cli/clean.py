"""``axsched clean``: remove what a run has left on its backend."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from axsched_core.cli.errors_shown import in_words
from axsched_core.cli.options import RUNNER_OPTIONS
from axsched_core.cli.run_argument import RUN_DIR
from axsched_core.cli.runs import journal_of
from axsched_core.errors import InvalidInput, sentence
from axsched_core.journal import lines, replay
from axsched_core.journal.lock import RunLock
from axsched_core.run.resume import runner_of_before
from axsched_core.runners import discovery
from axsched_core.runners.session import RunnerSession


@click.command()
@RUN_DIR
@RUNNER_OPTIONS
@click.option("--yes", is_flag=True, help="Do not ask.")
def clean(run_dir: Path, options: dict[str, Any], yes: bool) -> None:
    """Remove what the run in RUN_DIR has left on its backend: containers, queued jobs.

    Shows it first, and asks. Running jobs are stopped, and their results are lost; the run can
    still be resumed, and makes them again, as its journal says from then on. Refused while
    a driver works on the run. Exits with status 1 if you say no. Secret options of the runner, and
    options of a runner that was passed as an instance, are not saved: give them again.
    """
    with in_words():
        path = journal_of(run_dir)
        found = replay.read(path)
        replay.check_place(path.parent, found)
        run = found.run
        lock = RunLock(path.parent)
        lock.acquire()
        try:
            name, chosen = runner_of_before(path.parent, run, options or None)
            session = RunnerSession(discovery.load(name).make_runner(chosen))
            try:
                _clean(session, path, run["run_id"], yes)
            finally:
                session.release()
        finally:
            lock.release()


def _clean(session: RunnerSession, path: Path, run_id: str, yes: bool) -> None:
    for hook in ("axsched_find_leftovers", "axsched_remove_leftovers"):
        if not session.has(hook):
            raise InvalidInput(
                f"The runner {session.info.name!r} offers no cleaning (it lacks the hook {hook}). "
                "Use the tools of its backend to look for what the run has left."
            )
    left = session.find_leftovers(run_id)
    if not left:
        click.echo("The run has left nothing.")
        return
    for one in left:
        click.echo(one)
    if not yes:
        click.confirm(f"Remove these {len(left)}?", abort=True)
    _keep_open(path)
    for one in session.remove_leftovers(run_id):
        click.echo(f"removed: {one}")


def _keep_open(path: Path) -> None:
    """Write down that jobs which have not ended are stopped for no reason of their own.

    As when a driver stops: their trials stay open, whatever the backend then says of the jobs.

    Raises:
        InvalidInput: the journal cannot be written.
    """
    found = replay.read(path)  # again: a driver may have been at the run until the lock was taken
    try:
        lines.repair(path, found.length)
        journal = lines.Journal(path)
        for trial in found.trials.values():
            if trial.key is not None and trial.state is None and not trial.stopping:
                journal.add("stopping", t=round(time.time(), 3), i=trial.index)
        journal.close()
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be written: {sentence(error)} Nothing was removed."
        ) from error
