"""The trials in progress."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from axsched_core.run.records import Purpose, Record, Stage
from axsched_core.trials import TrialState


class Active:
    """The trials in progress: from the request of a job for them until the optimizer knows how they
    ended, or until they have no job any more and stay open.

    Some may be *left*: the call does not wait for them any longer, and their jobs may continue.
    """

    def __init__(self) -> None:
        self.halted: Purpose | None = None
        """Set while nothing may start."""
        self.departed = 0
        """The number of trials that were removed so far."""
        self.pause_after: int | None = None
        """When more have departed than this, nothing begins in the current call: the caller wants
        to look at each change. None: it does not."""
        self._records: dict[int, Record] = {}
        self._left: set[int] = set()

    @property
    def paused(self) -> bool:
        """True if nothing may begin in the current call, because something has changed."""
        return self.pause_after is not None and self.departed > self.pause_after

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._records.values()))

    def __contains__(self, index: int) -> bool:
        return index in self._records

    def get(self, index: int) -> Record | None:
        """The trial with this index, if it is in progress."""
        return self._records.get(index)

    def at(self, stage: Stage) -> list[Record]:
        """The trials at this stage."""
        return [record for record in self._records.values() if record.stage is stage]

    def to_tell(self) -> list[Record]:
        """The trials with an outcome that the optimizer does not know."""
        return [r for r in self._records.values() if r.stage is Stage.TELLING or r.untold]

    def undecided(self) -> list[Record]:
        """The trials without a decided outcome."""
        return [r for r in self._records.values() if r.stage is not Stage.TELLING]

    @property
    def busy(self) -> bool:
        """True while the call waits for a trial in progress."""
        return any(index not in self._left for index in self._records)

    def want(self, records: Iterable[Record]) -> None:
        """Request jobs for these trials; none of them may be in progress."""
        for record in records:
            if record.stage is Stage.TELLING:
                continue  # it was cancelled while the call was being prepared
            assert record.index not in self, f"trial {record.index} is in progress"
            record.stage, record.state = Stage.WAITING, TrialState.QUEUED
            record.refusals, record.not_before = 0, 0.0
            self.add(record)

    def add(self, record: Record) -> None:
        """Add a trial in its current state; the call waits for it."""
        self._records[record.index] = record
        self._left.discard(record.index)

    def remove(self, record: Record) -> None:
        """The trial is not in progress any longer."""
        self.departed += self._records.pop(record.index, None) is not None
        self._left.discard(record.index)

    def leave(self, records: Iterable[Record]) -> None:
        """Do not wait for these any longer."""
        self._left.update(record.index for record in records)

    def is_left(self, record: Record) -> bool:
        """True if the trial is in progress and the call does not wait for it."""
        return record.index in self._left

    def wait_for_all(self) -> None:
        """A new call also waits for those that were left."""
        self._left.clear()
