"""``axsched trials``: the trials of a run as a table."""

from __future__ import annotations

import csv
import datetime
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from axsched_core import table
from axsched_core.cli import plain_text, summary
from axsched_core.cli.errors_shown import in_words
from axsched_core.cli.run_argument import run_or_newest
from axsched_core.errors import InvalidInput, did_you_mean
from axsched_core.journal.seen import Trial
from axsched_core.journal.view import Run

if TYPE_CHECKING:
    from rich.text import Text

COLOURS = {"SUCCEEDED": "green", "FAILED": "red", "RUNNING": "cyan", "CANCELLED": "yellow"}
"""State -> colour in a terminal."""

Key = Callable[[Trial], Any]


@click.command()
@click.argument("run", required=False)
@click.option("--failed", is_flag=True, help="Only failed trials, with the reason.")
@click.option(
    "--sort",
    "key",
    default="trial",
    metavar="KEY",
    help="trial, state, cause, attempts, duration, host, objective, or the name of a metric or "
    "parameter. Trials without a value come last. Default: trial.",
)
@click.option("--reverse", is_flag=True, help="The greatest value first.")
@click.option("--csv", "csv_", is_flag=True, help="Print comma-separated values, a column each.")
@click.option("--json", "json_", is_flag=True, help="Print them as JSON.")
def trials(run: str | None, failed: bool, key: str, reverse: bool, csv_: bool, json_: bool) -> None:
    """List the trials of RUN (default: the newest run in ./outputs).

    RUN is a run directory, or the beginning of the name or id of a run in ./outputs.
    """
    if csv_ and json_:
        raise click.UsageError("--csv and --json cannot be used together.")
    with in_words():
        found = Run(run_or_newest(run))
        found.look()
        chosen = [one for one in found.trials.values() if one.state == "FAILED" or not failed]
        chosen = _sorted(found, chosen, key, reverse)
        if json_:
            documents = [summary.trial_document(found, one) for one in chosen]
            whole = {"schema": summary.SCHEMA, "run": str(found.path), "trials": documents}
            click.echo(summary.as_json(whole))
        elif csv_:
            _write_csv(chosen)
        else:
            _print_table(found, chosen, failed)


def _sorted(run: Run, chosen: list[Trial], key: str, reverse: bool) -> list[Trial]:
    value = _key(run, key)
    having = [one for one in chosen if value(one) is not None]
    # A choice may have values of several types: numbers first, then texts.
    having.sort(key=lambda one: _comparable(value(one)), reverse=reverse)
    return having + [one for one in chosen if value(one) is None]


def _key(run: Run, name: str) -> Key:
    now = time.time()
    fixed: dict[str, Key] = {
        "trial": lambda one: one.index,
        "state": lambda one: one.state,
        "cause": lambda one: one.cause or None,
        "attempts": lambda one: len(one.attempts),
        "duration": lambda one: summary.seconds(_last(one), now),
        "host": lambda one: one.attempts[-1].host or None if one.attempts else None,
        "objective": lambda one: summary.objective(run, one),
    }
    if name in fixed:
        return fixed[name]
    if name in _metrics(run):
        return lambda one: (one.results or {}).get(name, (None, None))[0]
    if name in _parameters(run):
        return lambda one: one.parameters.get(name)
    known = [*fixed, *_metrics(run), *_parameters(run)]
    raise InvalidInput(f"Cannot sort by {name!r}.{did_you_mean(name, known)}")


def _comparable(value: Any) -> tuple[int, Any]:
    return (1, value) if isinstance(value, str) else (0, value)


def _last(trial: Trial) -> Any:
    return trial.attempts[-1] if trial.attempts else None


def _metrics(run: Run) -> list[str]:
    return list(dict.fromkeys(name for one in run.trials.values() for name in one.results or ()))


def _parameters(run: Run) -> list[str]:
    return list(dict.fromkeys(name for one in run.trials.values() for name in one.parameters))


# ---- CSV -----------------------------------------------------------------------------------


def _write_csv(chosen: list[Trial]) -> None:
    rows = table.table(map(table.row, chosen))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(_cell, rows[0] if rows else table.COLUMNS))
    for one in rows:
        # As everywhere: no text may control the terminal; line feeds are quoted.
        writer.writerow(map(_cell, one.values()))


def _cell(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="milliseconds")
    return plain_text.escaped(value, keep="\n\t") if isinstance(value, str) else value


# ---- the table -----------------------------------------------------------------------------


def _print_table(run: Run, chosen: list[Trial], failed: bool) -> None:
    from rich import box
    from rich.table import Table

    if not chosen:
        click.echo("No trial has failed." if failed else "The run has no trials yet.")
        return
    screen, now = console(), time.time()
    # Without a terminal there is a line a trial, however long.
    fits = screen.is_terminal
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, right in (("trial", True), ("state", False), ("cause", False)):
        shown.add_column(name, justify="right" if right else "left", no_wrap=True)
    wide = ("message", "parameters") if failed else ("metrics", "parameters")
    for name in wide:
        shown.add_column(name, overflow="fold", no_wrap=not fits)
    for name in ("attempts", "duration", "host"):
        shown.add_column(name, justify="left" if name == "host" else "right", no_wrap=True)
    best = run.best
    for one in chosen:
        shown.add_row(*row(one, now, failed), style="bold" if one is best else "")
    screen.print(shown)


def row(trial: Trial, now: float, failed: bool = False) -> list[Text]:
    """The cells of a trial."""
    from rich.text import Text

    last = _last(trial)
    means: Mapping[str, float] = {name: mean for name, (mean, _) in (trial.results or {}).items()}
    message = plain_text.escaped(" ".join(trial.message.split()))
    return [
        Text(str(trial.index)),
        Text(trial.state, style=COLOURS.get(trial.state, "")),
        Text(plain_text.escaped(trial.cause)),
        Text(message if failed else plain_text.pairs(means)),
        Text(plain_text.pairs(trial.parameters)),
        Text(str(len(trial.attempts))),
        Text(plain_text.duration(summary.seconds(last, now))),
        Text(plain_text.escaped(last.host) if last else ""),
    ]


def console() -> Any:
    """A rich console on standard output that takes no text for markup."""
    from rich.console import Console

    found = Console(markup=False, emoji=False, highlight=False, file=sys.stdout)
    if not found.is_terminal:
        found = Console(markup=False, emoji=False, highlight=False, file=sys.stdout, width=100_000)
    return found
