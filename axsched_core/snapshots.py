"""When the optimizer is written into the run directory: whenever it holds what we did not do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from axsched_core.memory import Memory
from axsched_core.optimizers.base import Optimizer
from axsched_core.optimizers.content import Changes, Content

log = logging.getLogger("axsched")
T = TypeVar("T")


class Snapshots:
    """The snapshots of one run directory.

    What the optimizer holds is taken down after each of our calls (`remember`), and compared when
    the next one begins (`look`). What differs is the user's doing.

    Args:
        call: has something done in the thread that owns the optimizer, and returns its answer.
    """

    def __init__(self, call: Callable[[Callable[[], Any]], Any]) -> None:
        self._call = call
        self._held: Content | None = None
        self._due, self._fresh, self._made = True, False, 0

    def goes_on(self, run_dir: Path, optimizer: Optimizer) -> None:
        """Take up a run directory in which the last snapshot and the journal say all."""
        numbers = [int(path.stem.split("-")[1]) for path in run_dir.glob("snapshot-*.json")]
        self._made, self._due = 1 + max(numbers, default=-1), False
        self.remember(optimizer)

    def due(self) -> None:
        """Have the next call write one, whether or not anything has changed."""
        self._due = True

    def another(self) -> None:
        """The optimizer was replaced: no trial before it counts any more."""
        self._held, self._due, self._fresh = None, True, True

    def remember(self, optimizer: Optimizer) -> None:
        """Take down what the optimizer holds, after we have worked on it."""
        self._held = self._call(optimizer.content)

    def lose_track(self) -> None:
        """Nobody knows what we have done to the optimizer, and what the user will have."""
        self._held, self._due = None, True

    def look(self, optimizer: Optimizer) -> bool:
        """See what the user has changed, say so, and have it written and stored.

        Returns:
            True where something has changed.
        """
        now: Content = self._call(optimizer.content)
        changes: Changes | None = None if self._held is None else now.since(self._held)
        if changes is not None and not changes:
            return False
        self._held, self._due = now, True
        if changes is not None:
            log.info("What is optimized has changed since the last call: %s.", changes.words)
        self._call(lambda: optimizer.changed(changes))
        return True

    def write(self, optimizer: Optimizer, run_dir: Path, memory: Memory) -> None:
        """Write one where it is due; its line in the journal waits for the next flush."""
        if not self._due:
            return
        name = f"snapshot-{self._made}.json"
        self._call(lambda: optimizer.save(run_dir / name))
        memory.snapshot(name, fresh=self._fresh)
        self._due, self._fresh, self._made = False, False, self._made + 1
