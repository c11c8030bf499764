"""How long a container has run, without the time that it was paused."""

from __future__ import annotations

import time

from attrs import define


@define
class Stopwatch:
    """Counts one container's own time. Its times are of `time.monotonic`."""

    limit: float | None = None
    """Seconds that it may run; None: for ever, or somebody else sees to it."""
    _started: float | None = None
    _paused_since: float | None = None
    _paused: float = 0.0

    def start(self, ago: float = 0.0) -> None:
        """It has started, so many seconds ago."""
        if self._started is None:
            self._started = time.monotonic() - ago

    def pause(self) -> None:
        """Somebody has paused it."""
        if self._paused_since is None:
            self._paused_since = time.monotonic()

    def go_on(self) -> None:
        """It runs again."""
        self._paused, self._paused_since = self.paused(), None

    def paused(self) -> float:
        """Seconds that it has been paused so far, as far as anybody has noticed."""
        since = self._paused_since
        return self._paused + (0.0 if since is None else time.monotonic() - since)

    def left(self) -> float | None:
        """Seconds that it may run on; None while that cannot end: no limit, or paused."""
        if self.limit is None or self._started is None or self._paused_since is not None:
            return None
        return self.limit - (time.monotonic() - self._started - self._paused)
