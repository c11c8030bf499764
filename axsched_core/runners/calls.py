"""Calls to the runner, and the pauses while a backend is in trouble."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from axsched_core.errors import BackendUnavailable, RunnerError

log = logging.getLogger("axsched")

FAULTS_BEFORE_GIVING_UP = 5
"""Number of exceptions in a row from one hook, without outages, after which a runner is broken."""
T = TypeVar("T")


class Calls:
    """Counts the failures of each hook, and makes pauses between the calls to it.

    Args:
        name: the runner's.
        interval: seconds; the usual pause between two polls.
        on_trouble: called for each failed call: the hook, and the error as text.
        on_recovery: called when a hook works again.
    """

    def __init__(
        self,
        name: str,
        interval: float,
        on_trouble: Callable[[str, str], None],
        on_recovery: Callable[[str], None],
    ) -> None:
        self._name, self._interval = name, interval
        self._on_trouble, self._on_recovery = on_trouble, on_recovery
        self._troubles: dict[str, int] = {}
        self._not_before: dict[str, float] = {}

    def resting(self, hook: str, now: float) -> bool:
        """True while ``hook`` must not be called."""
        return now < self._not_before.get(hook, 0.0)

    def ready_at(self, hook: str, default: float) -> float:
        """When ``hook`` may be called next."""
        return self._not_before.get(hook, default)

    def rest_until(self, hook: str, moment: float) -> None:
        """Do not call ``hook`` until this moment (`time.monotonic` seconds)."""
        self._not_before[hook] = moment

    def hasten(self, hook: str, moment: float) -> None:
        """Call ``hook`` at this moment if it would be later; after a failure never sooner."""
        if not self._troubles.get(hook):
            self._not_before[hook] = min(moment, self._not_before.get(hook, moment))

    def call(self, hook: str, call: Callable[[], T]) -> T | None:
        """Call the runner. None: the call failed, and there is a pause now.

        Raises:
            RunnerError: it failed several times in a row, and not because of an outage.
        """
        now = time.monotonic()
        if self._troubles.get(hook) and self.resting(hook, now):
            return None
        try:
            answer = call()
        except Exception as error:  # noqa: BLE001 - a runner may raise anything
            self._trouble(hook, error, now)
            return None
        if self._troubles.pop(hook, 0):
            self._not_before.pop(hook, None)
            log.warning("Runner %r: %s works again.", self._name, hook)
            self._on_recovery(hook)
        return answer

    def in_trouble(self, hook: str) -> bool:
        """True if the last call failed."""
        return hook in self._troubles

    def _trouble(self, hook: str, error: Exception, now: float) -> None:
        count = self._troubles[hook] = self._troubles.get(hook, 0) + 1
        outage = isinstance(error, BackendUnavailable)
        words = f"Runner {self._name!r}: {hook}: {_in_words(error)}"
        if not outage and count >= FAULTS_BEFORE_GIVING_UP:
            del self._troubles[hook]
            raise RunnerError(
                f"{words} ({count} times in a row). Jobs that were submitted may still run; "
                "wait_for_completed_trials() takes them up again."
            ) from error
        interval = self._interval if outage else min(self._interval, 1.0)
        pause = pause_after_trouble(count, interval)
        self._not_before[hook] = now + pause
        log.warning("%s; trying again in %.1f s.", words, pause, exc_info=not outage)
        self._on_trouble(hook, words)


def _in_words(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as worse:  # noqa: BLE001 - a runner's exception may not be able to say it
        return f"{type(error).__name__} (it has no words: {type(worse).__name__})"


def pause_after_trouble(failures: int, interval: float) -> float:
    """Seconds to pause after this number of failures in a row: growing, with jitter.

    "Full jitter" over an exponentially growing cap of at most ten intervals.
    """
    cap = min(interval * 10, interval * 2**failures)
    return random.uniform(min(interval, cap) / 2, cap)
