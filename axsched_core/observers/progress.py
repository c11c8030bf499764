"""A progress line if the terminal can show one, otherwise plain lines."""

from __future__ import annotations

import time
from collections import Counter

from rich.console import Console
from rich.live import Live
from rich.text import Text

from axsched_core import plain
from axsched_core.events import (
    Event,
    JobRequeued,
    JobRetried,
    JobStarted,
    JobSubmitted,
    JobWaiting,
    Message,
    RunEnded,
    RunStarted,
    TrialCreated,
    TrialEnded,
    TrialReopened,
)
from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import Metrics
from axsched_core.trials import TrialState

LONGEST = 160
"""Characters of a failure's message in a line."""


class Progress:
    """Shows the progress of a run, on standard error.

    Args:
        console: where to write; None: standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        self._started = 0.0
        self._total = 0
        self._running: set[int] = set()
        self._queued: set[int] = set()
        """Trials with a job that the backend has and that does not run yet."""
        self._waiting: dict[int, str] = {}
        """Trial -> why its job must wait."""
        self._ended: Counter[TrialState] = Counter()
        self._last = ""

    @hookimpl
    def axsched_on_event(self, event: Event) -> None:
        """Process one event, and show the new state."""
        match event:
            case RunStarted():
                self._run_started(event)
            case RunEnded():
                self._run_ended()
            case Message(message=message):
                self._print(message)
            case JobSubmitted(trial_index=index) | JobRequeued(trial_index=index):
                self._is_gone(index)
                self._queued.add(index)
            case JobStarted(trial_index=index):
                self._is_gone(index)
                self._running.add(index)
            case JobRetried(trial_index=index) | TrialReopened(trial_index=index):
                self._is_gone(index)
            case JobWaiting():
                self._job_waiting(event)
            case TrialEnded():
                self._trial_ended(event)
        # Hundreds of trials may be made at once, and the line does not show them.
        if self._live is not None and not isinstance(event, TrialCreated):
            self._live.update(self._line(), refresh=True)

    def _run_started(self, event: RunStarted) -> None:
        if self._live is not None:  # a second one could not give the terminal back
            self._live.stop()
        self._started, self._total = time.monotonic(), event.trials
        self._ended = Counter()
        self._last = ""
        if self._console.is_terminal:
            self._live = Live(
                self._line(),
                console=self._console,
                transient=False,
                auto_refresh=False,
                redirect_stdout=True,
                redirect_stderr=True,
            )
            self._live.start()

    def _run_ended(self) -> None:
        if self._live is not None:
            self._live.update(self._line(), refresh=True)
            self._live.stop()
            self._live = None
        self._running.clear()
        self._queued.clear()
        self._waiting.clear()

    def _is_gone(self, index: int) -> None:
        self._running.discard(index)
        self._queued.discard(index)
        self._waiting.pop(index, None)

    def _job_waiting(self, event: JobWaiting) -> None:
        news = event.message not in self._waiting.values()  # one line for all with the same message
        self._waiting[event.trial_index] = event.message
        if news and self._live is None:
            remedy = f": {event.remedy}" if event.remedy else ""
            self._print(f"trial {event.trial_index} waits: {event.message}{remedy}")

    def _trial_ended(self, event: TrialEnded) -> None:
        self._is_gone(event.trial_index)
        self._ended[event.state] += 1
        self._last = f"trial {event.trial_index} {event.state.value}"
        if event.results:
            self._last += f" {_short(event.results)}"
        elif event.cause is not None and event.cause.value != event.state.value:
            self._last += f" {event.cause.value}"
            if event.message:
                self._last += f": {plain.one_line(event.message, LONGEST)}"
        if self._live is None:
            of = f" of {self._total}" if self._total else ""
            self._print(f"[{self._ended.total()}{of}] {self._last}")

    def _print(self, words: str) -> None:
        self._console.print(words, markup=False, highlight=False, soft_wrap=True)

    def _line(self) -> Text:
        done = self._ended.total()
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{done}{f'/{self._total}' if self._total else ''} trials", "bold")
        text.append(f"  {len(self._running)} running", "cyan")
        if self._queued:
            text.append(f"  {len(self._queued)} queued", "cyan")
        if self._ended[TrialState.FAILED]:
            text.append(f"  {self._ended[TrialState.FAILED]} failed", "red")
        text.append(f"  {minutes}:{seconds:02d}")
        if self._waiting:
            ((why, _),) = Counter(self._waiting.values()).most_common(1)
            text.append(f"  {len(self._waiting)} waiting: {why}", "yellow")
        if self._last:
            text.append(f"  last: {self._last}", "dim")
        return text


def _short(results: Metrics) -> str:
    return " ".join(f"{name}={mean:.6g}" for name, (mean, _) in list(results.items())[:3])
