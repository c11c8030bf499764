"""Threads that do what would keep the engine of axsched waiting."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("axsched")

RETRY = 1.0
"""Seconds until what an outage has cut short is tried again."""


class ThreadPool:
    """Do tasks, some of them later. Daemons: what is not done when the driver ends is not done.

    Args:
        count: how many threads.
    """

    def __init__(self, count: int) -> None:
        self._tasks: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        for number in range(count):
            threading.Thread(
                target=self._work, name=f"axsched-docker-{number}", daemon=True
            ).start()

    def do(self, task: Callable[[], None], after: float = 0.0) -> None:
        """Do ``task``, ``after`` so many seconds. It should raise nothing."""
        with self._changed:
            heapq.heappush(self._tasks, (time.monotonic() + after, next(self._numbers), task))
            self._changed.notify()

    def close(self) -> None:
        """Do what has begun to its end, and nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except Exception:
                log.exception("A fault in the docker runner.")

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._closed:
                pause = None
                if self._tasks:
                    pause = self._tasks[0][0] - time.monotonic()
                    if pause <= 0:
                        return heapq.heappop(self._tasks)[2]
                self._changed.wait(pause)
        return None
