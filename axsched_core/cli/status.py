"""``axsched status``: how a run stands, or each run of a folder in a line."""

from __future__ import annotations

import time
from pathlib import Path

import click

from axsched_core.cli import plain_text, summary
from axsched_core.cli.errors_shown import in_words
from axsched_core.cli.plain_text import escaped, styled
from axsched_core.cli.run_argument import newest_first, run_or_newest
from axsched_core.journal import lines
from axsched_core.journal.view import Run, Runs

COLOURS = {"running": "green", "interrupted": "yellow", "unreadable": "red"}


@click.command()
@click.argument("run", required=False, metavar="[RUN | FOLDER]")
@click.option("--json", "json_", is_flag=True, help="Print it as JSON.")
def status(run: str | None, json_: bool) -> None:
    """Show how a run stands: counts, best trial, failures, speed, and the next command.

    For a FOLDER of runs: one line a run, the newest first. Without an argument: the newest run in
    ./outputs. It only reads, also while the run's driver works.
    """
    with in_words():
        folder = _folder_of_runs(run)
        if folder is not None:
            _list(folder, json_)
            return
        found = Run(run_or_newest(run))
        found.look()
        if json_:
            click.echo(summary.as_json(summary.run_document(found)))
        else:
            click.echo("\n".join(_rows(found)))


def _folder_of_runs(given: str | None) -> Path | None:
    """The folder, if the argument names one that is no run directory itself."""
    if given is None:
        return None
    path = Path(given).expanduser()
    return path if path.is_dir() and not (path / lines.NAME).exists() else None


def _rows(run: Run) -> list[str]:
    now = time.time()
    rows = [
        styled(escaped(run.path.name), bold=True),
        _row("State", styled(escaped(summary.state(run)), fg=COLOURS.get(run.state))),
        _row("Trials", summary.counts(run)),
    ]
    rows += _best_rows(run)
    last: dict[str, str] = {}
    for trial in summary.last_failures(run, len(run.trials)):
        last.setdefault(trial.cause or "?", f"last: trial {trial.index}: {brief(trial.message)}")
    for number, (cause, count) in enumerate(list(summary.failures(run).items())[: summary.CAUSES]):
        name = "" if number else "Failures"
        rows.append(
            _row(name, styled(f"{count} x {escaped(cause)}", fg="red") + f"  {last[cause]}")
        )
    if pace := speed(run, now):
        rows.append(_row("Speed", pace))
    if run.last_at is not None:
        rows.append(_row("Last news", f"{plain_text.duration(now - run.last_at)} ago"))
    rows.append(_row("Folder", escaped(str(run.path))))
    if command := summary.next_command(run):
        rows.append(_row("To go on", escaped(command)))
    return rows


def _row(name: str, text: str) -> str:
    return f"  {name:<10} {text}"


def brief(message: str) -> str:
    """The first line and the last, which says most, of a message."""
    parts = [part for part in (line.strip() for line in message.splitlines()) if part]
    text = " ... ".join(dict.fromkeys((parts[0], parts[-1]))) if parts else ""
    return escaped(text if len(text) <= 160 else text[:157] + "...")


def _best_rows(run: Run) -> list[str]:
    best = run.best
    if best is None:
        return [_row("Best", escaped(run.why_no_best))]
    value = summary.objective(run, best)
    name = escaped(run.optimized.objectives[0].name)
    aim = "minimized" if run.optimized.objectives[0].minimize else "maximized"
    shown = "?" if value is None else plain_text.number(value)
    return [
        _row("Best", f"{styled(f'{name} = {shown}', bold=True)} ({aim}), trial {best.index}, at"),
        *(_row("", f"{escaped(k)} = {plain_text.number(v)}") for k, v in best.parameters.items()),
    ]


def speed(run: Run, now: float) -> str:
    """The rate of trials, and when the running call will have ended; "" if not known."""
    rate = summary.trials_per_second(run, now)
    if rate is None:
        return ""
    an_hour = rate * 3600
    words = f"{an_hour:,.0f} trials an hour" if an_hour >= 10 else f"{an_hour:.2g} trials an hour"
    left = summary.seconds_left(run, now)
    return words + (f", about {plain_text.duration(left)} left" if left is not None else "")


def _list(folder: Path, json_: bool) -> None:
    found = Runs(folder)
    found.look()
    order = newest_first(list(found.runs))
    if json_:
        documents = [
            summary.run_document(found.runs[one], found.unreadable.get(one, "")) for one in order
        ]
        click.echo(summary.as_json({"schema": summary.SCHEMA, "runs": documents}))
    elif not order:
        click.echo(f"There is no run in {escaped(str(folder))}.")
    else:
        width = max(len(escaped(one.name)) for one in order)
        for one in order:
            click.echo(_line(found.runs[one], found.unreadable.get(one, ""), width))


def _line(run: Run, problem: str, width: int) -> str:
    name = f"{escaped(run.path.name):<{width}}"
    if problem:
        return f"{name}  {styled('unreadable ', fg='red')}  {brief(problem)}"
    state = styled(f"{run.state:<11}", fg=COLOURS.get(run.state))
    best, value = run.best, None
    if best is not None and (value := summary.objective(run, best)) is not None:
        goal = escaped(run.optimized.objectives[0].name)
        return f"{name}  {state}  {summary.counts(run)}; best {goal} = {plain_text.number(value)}"
    return f"{name}  {state}  {summary.counts(run)}"
