"""One job, and how far it is."""

from __future__ import annotations

import enum
import time
from pathlib import Path

from attrs import define, field

from axsched_docker.spec import Plan, container_name
from axsched_docker.stopwatch import Stopwatch

LONGEST_PAUSE = 15.0
"""Seconds between two tries, at most."""


class Phase(enum.Enum):
    """How far a job is."""

    WAITING = "waiting"
    """For a place, and for one of the threads that start."""
    STARTING = "starting"
    STARTED = "started"
    """Its container exists, and was started."""
    ENDED = "ended"
    """How is in its folder."""


@define(eq=False)
class Job:
    """One job."""

    key: str
    folder: Path
    phase: Phase
    plan: Plan | None = None
    """None for a job of an earlier driver."""
    collecting: bool = False
    """Its files are being fetched, and its container removed."""
    hurried: bool = False
    """It was cancelled while its files were being fetched: nobody waits for more of them than those
    that count."""
    stopping: bool = False
    heard: bool = False
    """Its end was heard of before its start had returned."""
    begun_at: float | None = None
    """When its container started for the first time (seconds, by the engine's clock)."""
    restarted: bool = False
    """Somebody else has started its container again."""
    looked_twice: bool = False
    """It was killed, and a second look is to say whether it was restarted."""
    only_run: str = ""
    """When the run began that is the only one, although the engine was about to start another."""
    watch: Stopwatch = field(factory=Stopwatch)
    over_limit: bool = False
    """It was stopped because its time was over."""
    waits_for: str = ""
    """What keeps it from going on, for people."""
    troubles: int = 0
    """How often in a row the engine has failed at what is now to be done with it."""
    troubled_since: float = 0.0
    """Since when (`time.monotonic`)."""
    pausing: bool = False
    """Its next try to start comes later."""
    trouble_said: bool = False
    """The log has said that this machine does not take its files."""

    def in_trouble(self, why: object, patience: float) -> float | None:
        """Count a failure of the engine's.

        Args:
            why: for people.
            patience: seconds that such failures may go on.

        Returns:
            Seconds until another try; None: the patience is over.
        """
        now = time.monotonic()
        if not self.troubles:
            self.troubled_since = now
        self.waits_for = str(why)
        self.troubles += 1
        if now - self.troubled_since > patience:
            return None
        return min(LONGEST_PAUSE, 2.0 ** min(self.troubles - 1, 10))

    def out_of_trouble(self) -> None:
        """It has worked."""
        self.troubles, self.waits_for = 0, ""

    @property
    def name(self) -> str:
        """Of its container."""
        return container_name(self.key)
