"""How many trials must still be made, and how many the optimizer is asked for now."""

from __future__ import annotations

from attrs import define, field, frozen

IN_BULK, MOST_IN_BULK = 32, 100
"""How many trials are made in one go if they use no results: at least, and at most. Ax prepares
each call anew and looks at all trials, so many calls are slow (benchmarks/peers.py). In a call it
compares each point with all points before and with those of the same call, so large ones are slow
too; and each trial that is ready costs a little in every turn."""


@frozen
class Wish:
    """How many trials the optimizer is asked for."""

    n: int = 0
    """In any case."""
    in_bulk: int = 0
    """In all, if they use no results: they are as good early as late."""

    def __bool__(self) -> bool:
        return self.n > 0 or self.in_bulk > 0


@define
class Budget:
    """The number of trials that a run must still make.

    It changes on the engine's thread. The journal counts the same from its lines (``call``,
    ``trial`` with ``counted``, ``ended``): for a driver that has died, ``to_make`` from
    `journal.replay` is the `open` of that driver.
    """

    ahead: int = 0
    """How many trials are made in advance while no job can be submitted."""
    to_make: int = 0
    """Trials that this call must still ask the optimizer for, or later calls if a batch does not
    wait."""
    left: int = 0
    """Trials that an interrupted call has not made. `driving.finish` makes them."""
    made: list[int] = field(factory=list)
    """The indices of the trials that were made in this call, in order."""
    _in_bulk: bool = True
    """True if the next trials use no results, as far as is known."""
    _meanwhile: int = 0
    """How many trials have ended while the optimizer made the last ones."""
    _starved_at: int | None = None
    """How many trials had ended when the optimizer made fewer than it was asked for."""

    @property
    def open(self) -> int:
        """All trials that must still be made, now or by `driving.finish`."""
        return self.to_make + self.left

    def begin(self) -> None:
        """A call begins: it has made no trial yet, and the optimizer may be asked."""
        self.made, self._in_bulk, self._starved_at = [], True, None
        self._meanwhile = 0

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

    def to_ask(self, *, ended: int, waiting: int, running: int, free_slots: int) -> Wish:
        """How many trials the optimizer is asked for now.

        As many as jobs can be submitted at once, and `ahead` more, so that a job that ends makes
        room for a trial that is there already. A trial that is made later can use more results;
        those that use none are made in bulk, long before the last that is ready has begun: as many
        trials are to be ready as will probably begin while the optimizer makes more.

        An adapter may make fewer. Ax's asks a strategy in its initial phase for only the rest of
        that phase: see `optimizers._generation`.

        Args:
            ended: how many trials have ended so far. An optimizer that made fewer trials than it
                was asked for is asked again when there are more.
            waiting: trials that already wait for a job.
            running: jobs that are submitted.
            free_slots: how many more jobs could be submitted.
        """
        if not self.to_make:
            return Wish()
        n = min(self.to_make, max(0, free_slots + self.ahead - waiting))
        if self._starved_at == ended:
            n = 0
        in_bulk, places = 0, free_slots + running
        stock = max(self.ahead, places, IN_BULK, 2 * self._meanwhile)
        if self.ahead and self._in_bulk and waiting < free_slots + stock:
            size = min(max(IN_BULK, ended // 8, 4 * self._meanwhile), MOST_IN_BULK)
            in_bulk = free_slots + stock + size - waiting
            if self.to_make < in_bulk + size:
                in_bulk = self.to_make  # no further call for a few
        return Wish(n, in_bulk)

    def asked(
        self, *, wish: Wish, made: int, in_bulk: bool, ended: int, meanwhile: int = 0
    ) -> None:
        """The optimizer has answered.

        Args:
            wish: what it was asked for.
            made: how many trials it has made.
            in_bulk: `Asked.in_bulk`.
            ended: how many trials had ended when it was asked.
            meanwhile: how many have ended since.
        """
        self._in_bulk, self._meanwhile = in_bulk, meanwhile
        if made < wish.n:
            self._starved_at = ended
