"""Calls to the runner, and the peace that a backend in trouble is left in."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from axsched_core.errors import BackendUnavailable, RunnerError

log = logging.getLogger("axsched")

FAULTS_BEFORE_GIVING_UP = 5
"""Exceptions in a row from one hook, outages aside, after which a runner is called broken."""
T = TypeVar("T")


class Calls:
    """Counts the troubles of each hook, and spaces the calls to it.

    Args:
        name: the runner's.
        interval: seconds; the usual pause between two polls.
        on_trouble: told of each trouble: the hook, and what it raised, in words.
        on_recovery: told which hook works again.
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
        """True while ``hook`` is not to be called."""
        return now < self._not_before.get(hook, 0.0)

    def ready_at(self, hook: str, default: float) -> float:
        """When ``hook`` may be called next."""
        return self._not_before.get(hook, default)

    def rest_until(self, hook: str, moment: float) -> None:
        """Leave ``hook`` in peace until this moment (`time.monotonic` seconds)."""
        self._not_before[hook] = moment

    def hasten(self, hook: str, moment: float) -> None:
        """Call ``hook`` at this moment if it would be later; never sooner in trouble."""
        if not self._troubles.get(hook):
            self._not_before[hook] = min(moment, self._not_before.get(hook, moment))

    def call(self, hook: str, call: Callable[[], T]) -> T | None:
        """Call the runner. None: it is in trouble, and is left in peace for a while.

        Raises:
            RunnerError: it failed several times in a row, and not for an outage.
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
        """True where the last call failed."""
        return hook in self._troubles

    def _trouble(self, hook: str, error: Exception, now: float) -> None:
        count = self._troubles[hook] = self._troubles.get(hook, 0) + 1
        outage = isinstance(error, BackendUnavailable)
        words = f"Runner {self._name!r}: {hook}: {type(error).__name__}: {error}"
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


def pause_after_trouble(failures: int, interval: float) -> float:
    """Seconds to leave a backend in peace after so many failures in a row: growing, jittered.

    "Full jitter" over an exponentially growing cap of ten intervals at the most.
    """
    cap = min(interval * 10, interval * 2**failures)
    return random.uniform(min(interval, cap) / 2, cap)
