"""How many trials are still to be made, and for how many of them the optimizer is asked now."""

from __future__ import annotations

from attrs import define, field


@define
class Budget:
    """The number of trials that a run has still to make.

    It is changed on the engine's thread. The journal counts the same from its lines (``call``,
    ``trial`` with ``counted``, ``ended``): what `journal.replay` finds as ``to_make`` of a driver
    that has died is the `open` of that driver.
    """

    to_make: int = 0
    """Trials for which the optimizer is still to be asked in this call, or in the next ones where
    a batch does not wait."""
    left: int = 0
    """Trials that an interrupted call has not made. `driving.finish` makes them."""
    made: list[int] = field(factory=list)
    """Trials that were made in this call: their indices, in order."""
    _starved_at: int | None = None
    """How many trials had ended when the optimizer made fewer than it was asked for."""

    @property
    def open(self) -> int:
        """All trials that are still to be made, now or by `driving.finish`."""
        return self.to_make + self.left

    def begin(self) -> None:
        """A call begins: nothing was made in it yet, and the optimizer may be asked."""
        self.made, self._starved_at = [], None

    def want(self, n: int) -> None:
        """Have ``n`` more trials made."""
        self.to_make += n

    def take_left(self) -> int:
        """Take what an interrupted call has left: it is made now, or never."""
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
        """For how many trials the optimizer is asked now.

        For as many as jobs can be submitted at once, and no more: a trial that is made later is
        made with more results. (Trials that are made in advance are to be added here.)

        An adapter may make fewer. Ax's asks a strategy in its initial phase only for the rest of
        that phase: see `optimizers._generation`.

        Args:
            ended: how many trials have ended so far. An optimizer that made fewer trials than it
                was asked for is asked again when there are more.
            waiting: trials that wait for a job already.
            free_slots: how many jobs could be submitted.
        """
        if not self.to_make or self._starved_at == ended:
            return 0
        return min(self.to_make, max(0, free_slots - waiting))

    def starved(self, ended: int) -> None:
        """The optimizer has made fewer trials than it was asked for when so many had ended."""
        self._starved_at = ended
