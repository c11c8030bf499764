"""Hears of the ends of containers as they happen."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from axsched_core.errors import BackendUnavailable
from axsched_docker.engine import KEY_LABEL, Engine, EngineError

log = logging.getLogger("axsched")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two tries to open the stream."""


class Watcher:
    """Follows the engine's events in a thread of its own.

    When the engine dies the stream ends without a word, so it is opened again, from the last event
    that was seen; nothing is lost, and some events are seen twice.

    Args:
        engine: whose events.
        run_id: the run whose containers matter.
        since: the moment to begin at: seconds, by the engine's clock.
        ended: called with the key of a job whose container has ended.
    """

    def __init__(
        self,
        engine: Engine,
        run_id: str,
        since: float,
        ended: Callable[[str], None],
    ) -> None:
        self._engine, self._run_id = engine, run_id
        self._ended = ended
        self._since = f"{since:.9f}"
        self._stream: Any = None
        self._over = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, name="axsched-docker-events", daemon=True).start()

    def reopen(self) -> None:
        """Ends were seen of which the stream has not told: it may be dead."""
        with self._lock:
            self._close_stream()

    def close(self) -> None:
        """Stop."""
        self._over.set()
        with self._lock:
            self._close_stream()

    def _watch(self) -> None:
        pause = SHORTEST_PAUSE
        while not self._over.is_set():
            try:
                seen = self._follow()
            except (BackendUnavailable, EngineError) as error:
                log.info("The events of %s: %s", self._engine.url, error)
                seen = False
            self._over.wait(pause)
            pause = SHORTEST_PAUSE if seen else min(2 * pause, LONGEST_PAUSE)

    def _follow(self) -> bool:
        """Follow one stream to its end; True where it could be opened."""
        stream = self._engine.events(self._run_id, self._since)
        with self._lock:
            self._stream = stream
            if self._over.is_set():
                self._close_stream()
        for event in stream:
            actor = event.get("Actor") or {}
            key = (actor.get("Attributes") or {}).get(KEY_LABEL)
            nanoseconds = event.get("timeNano")
            if nanoseconds:
                self._since = f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
            if key:
                self._ended(key)
        if not self._over.is_set():
            self._engine.fell_silent()
        return True

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        try:
            stream.close()
        except (OSError, AttributeError, ValueError) as error:
            # It has ended already; docker-py looks for a socket that is no more.
            log.debug("closing the stream of events: %r", error)
