"""How many trials must still be made, and how many the optimizer is asked for now."""

from __future__ import annotations

from attrs import define, field


@define
class Budget:
    """The number of trials that a run must still make.

    It changes on the engine's thread. The journal counts the same from its lines (``call``,
    ``trial`` with ``counted``, ``ended``): for a driver that has died, ``to_make`` from
    `journal.replay` is the `open` of that driver.
    """

    to_make: int = 0
    """Trials that this call must still ask the optimizer for, or later calls if a batch does not
    wait."""
    left: int = 0
    """Trials that an interrupted call has not made. `driving.finish` makes them."""
    made: list[int] = field(factory=list)
    """The indices of the trials that were made in this call, in order."""
    _starved_at: int | None = None
    """How many trials had ended when the optimizer made fewer than it was asked for."""

    @property
    def open(self) -> int:
        """All trials that must still be made, now or by `driving.finish`."""
        return self.to_make + self.left

    def begin(self) -> None:
        """A call begins: it has made no trial yet, and the optimizer may be asked."""
        self.made, self._starved_at = [], None

    def want(self, n: int) -> None:
        """Request ``n`` more trials."""
        self.to_make += n

    def take_left(self) -> int:
        """Take the trials that an interrupted call has left: this call makes them, or no call
        does."""
        left, self.left = self.left, 0
        return left

    def take(self, index: int) -> None:
        """A trial was made."""
        if self.to_make:
            self.to_make -= 1
        else:  # the call was stopped while the optimizer made it
            self.left = max(0, self.left - 1)
        self.made.append(index)

    def stop(self) -> None:
        """Make no more trials in this call; `driving.finish` makes the rest."""
        self.left, self.to_make = self.open, 0

    def drop(self) -> None:
        """Make no more trials at all."""
        self.to_make = self.left = 0

    # ---- how many to ask for now ---------------------------------------------------------------

    def to_ask(self, *, ended: int, waiting: int, free_slots: int) -> int:
        """How many trials the optimizer is asked for now.

        As many as jobs can be submitted at once, and no more: a trial that is made later can use
        more results. (Trials that are made in advance would be added here.)

        An adapter may make fewer. Ax's asks a strategy in its initial phase for only the rest of
        that phase: see `optimizers._generation`.

        Args:
            ended: how many trials have ended so far. An optimizer that made fewer trials than it
                was asked for is asked again when there are more.
            waiting: trials that already wait for a job.
            free_slots: how many jobs could be submitted.
        """
        if not self.to_make or self._starved_at == ended:
            return 0
        return min(self.to_make, max(0, free_slots - waiting))

    def starved(self, ended: int) -> None:
        """The optimizer has made fewer trials than requested when ``ended`` trials had ended."""
        self._starved_at = ended
