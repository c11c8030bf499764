"""One job, and how far it is."""

from __future__ import annotations

import enum
from pathlib import Path

from attrs import define

from axsched_docker.spec import Plan, container_name


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
    only_run: str = ""
    """When the run began that is the only one, although the engine was about to start another."""
    attempts: int = 0
    trouble_said: bool = False
    """The log has said that this machine does not take its files."""

    @property
    def name(self) -> str:
        """Of its container."""
        return container_name(self.key)
