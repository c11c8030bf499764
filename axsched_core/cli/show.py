"""``axsched show``: everything about one trial."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click

from axsched_core import jobfolder
from axsched_core.cli import plain_text, summary
from axsched_core.cli.errors_shown import in_words
from axsched_core.cli.logs import tail
from axsched_core.cli.plain_text import duration, escaped, moment, number, styled
from axsched_core.cli.trial_argument import WORDS, trial_of
from axsched_core.cli.trials import COLOURS
from axsched_core.journal.seen import Attempt, Trial
from axsched_core.journal.view import Run


@click.command()
@WORDS
@click.option(
    "-n",
    "--lines",
    "most",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="So many lines of the end of its output.",
)
@click.option("--json", "json_", is_flag=True, help="Print it as JSON, without its output.")
def show(words: tuple[str, ...], most: int, json_: bool) -> None:
    """Show everything about TRIAL: parameters, results, attempts, the end of its output.

    RUN defaults to the newest run in ./outputs.
    """
    with in_words():
        run, trial = trial_of(words)
        if json_:
            whole = {"schema": summary.SCHEMA, "run": str(run.path)}
            click.echo(summary.as_json(whole | summary.trial_document(run, trial)))
        else:
            click.echo("\n".join([*_rows(run, trial), *_output(run, trial, most)]))


def _rows(run: Run, trial: Trial) -> Iterator[str]:
    state = styled(trial.state, fg=COLOURS.get(trial.state))
    cause = f" ({escaped(trial.cause)})" if trial.cause else ""
    yield f"{styled(f'Trial {trial.index}', bold=True)} of {escaped(run.path.name)}: {state}{cause}"
    yield from _block("Message", trial.message)
    yield "Parameters"
    yield from (f"  {escaped(k)} = {number(v)}" for k, v in trial.parameters.items())
    if trial.results is not None:
        yield "Results"
        for name, (mean, sem) in trial.results.items():
            error = "" if sem is None else f", standard error {number(sem)}"
            yield f"  {escaped(name)} = {number(mean)}{error}"
    if trial.notes is not None:
        yield f"Notes\n  {escaped(str(trial.notes))}"
    for one in trial.attempts:
        yield from _attempt(run, trial, one)


def _block(name: str, text: str) -> Iterator[str]:
    if text:
        yield name
        yield from (f"  {escaped(line, keep=chr(9))}" for line in text.splitlines())


def _attempt(run: Run, trial: Trial, one: Attempt) -> Iterator[str]:
    again = ", tried again" if one.again else ""
    yield f"Attempt {one.number}: {one.state}{again}"
    ran = summary.seconds(one, time.time())
    rows = {
        "cause": one.cause,
        "exit code": "" if one.exit_code is None else str(one.exit_code),
        "signal": "" if one.signal is None else str(one.signal),
        "message": "" if one.message == trial.message else " ".join(one.message.split()),
        "waits for": one.waits_for,
        "to do": one.remedy,
        "runner": one.runner,
        "job": one.backend_id,
        "its word": one.backend_word,
        "submitted": moment(one.submitted_at),
        "started": moment(one.started_at),
        "ended": moment(one.ended_at),
        "ran for": duration(ran),
        "host": one.host,
        "memory": plain_text.memory(one.max_rss_bytes),
        "folder": str(run.folder(trial, one)),
    }
    yield from (f"  {name:<10} {escaped(text)}" for name, text in rows.items() if text)


def _output(run: Run, trial: Trial, most: int) -> Iterator[str]:
    folder = run.folder(trial)
    if folder is None or not most:
        return
    if not folder.is_dir():
        yield "Its folder is not here."
        return
    for name in (jobfolder.STDOUT, jobfolder.STDERR):
        if text := tail(folder, name, most):
            yield f"End of {name}"
            yield from (f"  {line}" for line in text.rstrip("\n").split("\n"))
