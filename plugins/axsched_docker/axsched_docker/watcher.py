"""Hears of what happens to containers, as it happens."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import docker

from axsched_core.errors import BackendUnavailable
from axsched_docker.engine import KEY_LABEL, Engine, EngineError

log = logging.getLogger("axsched")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two tries to open the stream."""


class Watcher:
    """Follows the engine's events in a thread of its own.

    When the engine dies the stream ends without a word, so it is opened again, from the last event
    that was seen. What ended while the engine was down is in no stream: hence ``reopened``.

    Args:
        engine: whose events.
        run_id: the run whose containers matter.
        since: the moment to begin at: seconds, by the engine's clock.
        happened: called with a job's key, one of `EVENTS`, and its time (seconds, by the engine's
            clock); perhaps twice for one event.
        reopened: called when the stream is open again.
    """

    def __init__(
        self,
        engine: Engine,
        run_id: str,
        since: float,
        happened: Callable[[str, str, float], None],
        reopened: Callable[[], None],
    ) -> None:
        self._engine, self._run_id = engine, run_id
        self._happened, self._reopened = happened, reopened
        self._since = f"{since:.9f}"
        self._stream: Any = None
        self._opened = 0
        self._current = 0
        """The number of the thread that is to follow; 0: none any more."""
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.reopen()

    def reopen(self) -> None:
        """Follow a new stream: the one that there is does not tell what it should.

        In another thread, since the old one may wait for an engine that does not answer.
        """
        with self._lock:
            if self._over.is_set():
                return
            self._current += 1
            self._close_stream()
            name = f"axsched-docker-events-{self._current}"
            target, arguments = self._watch, (self._current,)
            threading.Thread(target=target, args=arguments, name=name, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        with self._lock:
            self._over.set()
            self._current = 0
            self._close_stream()

    def _watch(self, number: int) -> None:
        pause = SHORTEST_PAUSE
        while number == self._current:
            try:
                self._follow(number)
                pause = SHORTEST_PAUSE
            except (BackendUnavailable, EngineError) as error:
                log.info("The events of %s: %s", self._engine.url, error)
                pause = min(2 * pause, LONGEST_PAUSE)
            self._over.wait(pause)

    def _follow(self, number: int) -> None:
        """Follow one stream to its end."""
        stream = self._engine.events(self._run_id, self._since)
        with self._lock:
            if number != self._current:
                _close(stream)
                return
            self._stream = stream
            self._opened += 1
        if self._opened > 1:
            self._reopened()
        for event in stream:
            if number != self._current:
                return
            self._take(event)
        if number == self._current:
            self._engine.fell_silent()

    def _take(self, event: dict[str, Any]) -> None:
        actor = event.get("Actor") or {}
        key = (actor.get("Attributes") or {}).get(KEY_LABEL)
        nanoseconds = event.get("timeNano")
        if nanoseconds:
            self._since = f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
        if key:
            what = str(event.get("Action") or event.get("status")).replace("died", "die")
            self._happened(key, what, (nanoseconds or 0) / 1e9)

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            _close(stream)


def _close(stream: Any) -> None:
    try:
        stream.close()
    except (OSError, AttributeError, ValueError, docker.errors.DockerException) as error:
        # It has ended already, and docker-py looks for a socket that is no more; or it comes
        # over ssh, where none can be closed.
        log.debug("closing the stream of events: %r", error)
