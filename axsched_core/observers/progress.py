"""A progress line where the terminal can show one, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import Event, Metrics


class Progress:
    """Shows how a run goes on, on standard error.

    Args:
        console: where to; None: standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        self._started = 0.0
        self._total = 0
        self._running: set[int] = set()
        self._waiting: dict[int, str] = {}
        """Trial -> why its job has to wait."""
        self._ended = {"SUCCEEDED": 0, "FAILED": 0}
        self._last = ""

    @hookimpl
    def axsched_on_event(self, event: Event) -> None:
        """Take one event in, and show what came of it."""
        show = getattr(self, f"_{event.kind}", None)
        if show is not None:
            show(event)
        if self._live is not None:
            self._live.update(self._line(), refresh=event.kind != "job_state")

    def _run_started(self, event: Event) -> None:
        self._started, self._total = time.monotonic(), int(event.data.get("trials", 0))
        self._ended = {"SUCCEEDED": 0, "FAILED": 0}
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

    def _run_ended(self, event: Event) -> None:
        if self._live is not None:
            self._live.update(self._line(), refresh=True)
            self._live.stop()
            self._live = None
        self._running.clear()
        self._waiting.clear()

    def _message(self, event: Event) -> None:
        self._console.print(event.message, markup=False, highlight=False, soft_wrap=True)

    def _job_submitted(self, event: Event) -> None:
        if event.trial_index is not None:
            self._running.add(event.trial_index)
            self._waiting.pop(event.trial_index, None)

    def _job_retried(self, event: Event) -> None:
        self._running.discard(event.trial_index if event.trial_index is not None else -1)

    def _job_waiting(self, event: Event) -> None:
        if event.trial_index is None:
            return
        news = event.message not in self._waiting.values()  # one line for all that hear the same
        self._waiting[event.trial_index] = event.message
        if news and self._live is None:
            words = f"trial {event.trial_index} waits: {event.message}"
            self._console.print(words, markup=False, highlight=False, soft_wrap=True)

    def _trial_ended(self, event: Event) -> None:
        index = event.trial_index if event.trial_index is not None else -1
        self._running.discard(index)
        self._waiting.pop(index, None)
        state = event.state or ""
        self._ended[state] = self._ended.get(state, 0) + 1
        results = event.data.get("results")
        self._last = f"trial {event.trial_index} {state}"
        if results:
            self._last += f" {_short(results)}"
        elif event.cause is not None and event.cause != state:
            self._last += f" {event.cause}"
        if self._live is None:
            done = sum(self._ended.values())
            of = f" of {self._total}" if self._total else ""
            self._console.print(
                f"[{done}{of}] {self._last}", markup=False, highlight=False, soft_wrap=True
            )

    def _line(self) -> Text:
        done = sum(self._ended.values())
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{done}{f'/{self._total}' if self._total else ''} trials", "bold")
        text.append(f"  {len(self._running)} running", "cyan")
        if self._ended["FAILED"]:
            text.append(f"  {self._ended['FAILED']} failed", "red")
        text.append(f"  {minutes}:{seconds:02d}")
        if self._waiting:
            why = list(self._waiting.values())[-1]
            text.append(f"  {len(self._waiting)} waiting: {why}", "yellow")
        if self._last:
            text.append(f"  last: {self._last}", "dim")
        return text


def _short(results: Metrics) -> str:
    return " ".join(f"{name}={mean:.6g}" for name, (mean, _) in list(results.items())[:3])
