"""``axsched clean``: be rid of what a run has left on its backend."""

from __future__ import annotations

from pathlib import Path

import click

from axsched_core import journal, plugins
from axsched_core.cli.runs import RUN_DIR, in_words, journal_of
from axsched_core.errors import InvalidInput
from axsched_core.lock import RunLock
from axsched_core.session import RunnerSession


@click.command()
@RUN_DIR
@click.option("--yes", is_flag=True, help="Do not ask.")
def clean(run_dir: Path, yes: bool) -> None:
    """Remove what the run in RUN_DIR has left on its backend: containers, queued jobs.

    Shows it first, and asks. Jobs that run are stopped, and their results are lost; the run can
    still be resumed, and makes them anew. The run directory itself is not touched. Refused while
    a driver is at the run. Ends with status 1 where you say no.
    """
    with in_words():
        path = journal_of(run_dir)
        run = journal.read(path).run
        lock = RunLock(path.parent)
        lock.acquire()
        try:
            # An instance's options are not written down: then the runner's defaults have to do.
            runner = plugins.load(run["runner"]).make_runner(run["runner_options"] or {})
            session = RunnerSession(runner)
            try:
                _clean(session, run["run_id"], yes)
            finally:
                session.release()
        finally:
            lock.release()


def _clean(session: RunnerSession, run_id: str, yes: bool) -> None:
    for hook in ("axsched_find_leftovers", "axsched_remove_leftovers"):
        if not session.has(hook):
            raise InvalidInput(
                f"The runner {session.info.name!r} cannot say what it leaves (it lacks the hook "
                f"{hook})."
            )
    left = session.find_leftovers(run_id)
    if not left:
        click.echo("The run has left nothing.")
        return
    for one in left:
        click.echo(one)
    if not yes:
        click.confirm(f"Remove these {len(left)}?", abort=True)
    for one in session.remove_leftovers(run_id):
        click.echo(f"removed: {one}")
