"""``axsched watch``: a run while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from axsched_core.cli import plain_text, summary
from axsched_core.cli.errors_shown import in_words
from axsched_core.cli.plain_text import duration, escaped
from axsched_core.cli.run_argument import run_or_newest
from axsched_core.cli.status import brief, speed
from axsched_core.cli.trials import console
from axsched_core.journal.seen import Trial
from axsched_core.journal.view import Run

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

LISTED = 8
"""The most running, queued or failed trials that are listed."""
PLOT = 60
"""The most characters of the plot."""
BARS, ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"


@click.command()
@click.argument("run", required=False)
@click.option("--once", is_flag=True, help="Print one frame, and end.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
def watch(run: str | None, once: bool, every: float) -> None:
    """Show RUN (default: the newest run in ./outputs) until no driver works on it any more.

    Ctrl-C ends only the watching. If standard output is no terminal, a frame is printed after each
    change.
    """
    with in_words():
        found = Run(run_or_newest(run))
        found.look()
        screen = console()
        try:
            if once or found.driver is None:
                screen.print(frame(found, screen), soft_wrap=not screen.is_terminal)
            elif screen.is_terminal:
                _live(found, screen, every)
            else:
                _frames(found, screen, every)
        except KeyboardInterrupt:
            raise SystemExit(130) from None


def _live(run: Run, screen: Console, every: float) -> None:
    from rich.live import Live

    live = Live(frame(run, screen), console=screen, auto_refresh=False)
    try:
        live.start(refresh=True)
        while run.driver is not None:
            time.sleep(every)
            run.look()
            live.update(frame(run, screen), refresh=True)
    finally:
        live.stop()
        screen.show_cursor()  # also after a Ctrl-C while rich started or stopped


def _frames(run: Run, screen: Console, every: float) -> None:
    screen.print(frame(run, screen), soft_wrap=True)
    while run.driver is not None:
        time.sleep(every)
        if run.look() or run.driver is None:
            screen.print(frame(run, screen), soft_wrap=True)


def frame(run: Run, screen: Console) -> Text:
    """What is shown at one moment. A line that is too long for a terminal is cut."""
    from rich.text import Text

    lines = [Text(text, style=style) for text, style in _lines(run, _bars(screen))]
    if screen.is_terminal:
        lines = lines[: max(1, screen.height - 1)]
        for line in lines:
            line.truncate(screen.width, overflow="ellipsis")
    return Text("\n").join(lines)


def _bars(screen: Console) -> str:
    return BARS if "utf" in screen.encoding.lower() else ASCII_BARS


def _lines(run: Run, bars: str) -> Iterator[tuple[str, str]]:
    """Each line with its style."""
    now = time.time()
    yield f"{escaped(run.path.name)}: {escaped(summary.state(run))}", "bold"
    yield summary.counts(run), ""
    yield from _best(run, bars)
    if pace := speed(run, now):
        yield pace, ""
    yield from _listed("Running", "cyan", _in(run, "RUNNING"), lambda one: _running(one, now))
    yield from _listed("Queued", "yellow", _in(run, "QUEUED"), _queued)
    causes = "  ".join(f"{n} x {escaped(cause)}" for cause, n in summary.failures(run).items())
    failed = summary.last_failures(run, len(run.trials))
    yield from _listed(f"Failed: {causes}", "red", failed, _failed, 3)
    if command := summary.next_command(run):
        yield f"To go on: {escaped(command)}", ""


def _in(run: Run, state: str) -> list[Trial]:
    return [one for one in run.trials.values() if one.state == state]


def _listed(
    title: str,
    style: str,
    trials: list[Trial],
    words: Callable[[Trial], str],
    most: int = LISTED,
) -> Iterator[tuple[str, str]]:
    if not trials:
        return
    yield title, style
    for one in trials[:most]:
        yield f"  trial {one.index}  {words(one)}", ""
    if len(trials) > most:
        yield f"  and {len(trials) - most} more", ""


def _running(trial: Trial, now: float) -> str:
    last = trial.attempts[-1]
    age = f"for {duration(summary.seconds(last, now))}"
    host = f"  on {escaped(last.host)}" if last.host else ""
    again = f"  attempt {last.number}" if last.number > 1 else ""
    return f"{age}{host}{again}  {plain_text.pairs(trial.parameters)}"


def _queued(trial: Trial) -> str:
    why = f"{escaped(trial.waits_for)}" or "no reason is known yet"
    return f"{why}  To do: {escaped(trial.remedy)}" if trial.remedy else why


def _failed(trial: Trial) -> str:
    return f"{escaped(trial.cause)}: {brief(trial.message)}"


def _best(run: Run, bars: str) -> Iterator[tuple[str, str]]:
    best = run.best
    if best is None:
        yield escaped(run.why_no_best), ""
        return
    goal = run.optimized.objectives[0]
    value = summary.objective(run, best)
    shown = "?" if value is None else plain_text.number(value)
    yield f"Best {escaped(goal.name)} = {shown}, trial {best.index}", "green"
    yield f"  at {plain_text.pairs(best.parameters)}", ""
    history = running_best(run)
    if len(history) > 1:
        first, last = plain_text.number(history[0]), plain_text.number(history[-1])
        yield f"  {first} {plot(history, bars)} {last}", ""


def running_best(run: Run) -> list[float]:
    """The best value so far, after each trial that counts, in the order in which they ended."""
    goal = run.optimized.objectives[0]
    found: list[float] = []
    done = [one for one in run.trials.values() if one.state == "SUCCEEDED" and one.results]
    for one in sorted(done, key=lambda one: (one.ended_at or 0, one.index)):
        means = {name: mean for name, (mean, _) in (one.results or {}).items()}
        value = goal.value(means)
        if value is None or run.optimized.score(means) is None:
            continue
        better = min if goal.minimize else max
        found.append(better(found[-1], value) if found else value)
    return found


def plot(values: list[float], bars: str) -> str:
    """A line of bars, the highest for the greatest value; at most `PLOT`."""
    count = min(len(values), PLOT)
    # The last one is always shown, because it is the best.
    shown = [values[(i + 1) * len(values) // count - 1] for i in range(count)]
    low, high = min(shown), max(shown)
    if high == low:
        return bars[0] * count
    top = len(bars) - 1
    return "".join(bars[round((value - low) / (high - low) * top)] for value in shown)
