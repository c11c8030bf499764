"""Trials that are run together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from axsched_core.errors import InvalidInput
from axsched_core.jobs import Parameters
from axsched_core.trials import Trial

if TYPE_CHECKING:
    from axsched_core.scheduler import AxScheduler


@frozen
class Entry:
    """One trial that the user has put into a batch."""

    parameters: Parameters
    index: int | None = None
    """The trial of the optimizer that this is; None: found by its parameters, or attached."""


@frozen(eq=False)
class Batch:
    """What ``scheduler.batch_trial_context()`` gives; made by the scheduler alone."""

    _scheduler: AxScheduler
    _wait: bool
    _entries: list[Entry] = field(factory=list, init=False)
    _generated: list[int] = field(factory=list, init=False)
    _indices: list[int] = field(factory=list, init=False)

    def add_trial(self, parameters: Mapping[str, Any], trial_index: int | None = None) -> None:
        """Add a trial with these parameters.

        Parameters that came from the client's own ``get_next_trial`` are that trial: the one
        with ``trial_index``, or else the oldest with equal parameters that has no data and no
        job of ours. Other parameters are attached as a new trial when the batch runs.

        Raises:
            InvalidInput: the parameters are outside the search space, or ``trial_index`` is
                not an open trial with these parameters.
        """
        self._not_run_yet("add_trial")
        given = [entry.index for entry in self._entries if entry.index is not None]
        if trial_index in given:
            raise InvalidInput(f"Trial {trial_index} is in this batch already.")
        self._entries.append(self._scheduler._batch_entry(parameters, trial_index))

    def add_generated(self, n: int) -> None:
        """Add ``n`` trials that the optimizer makes: as many as it allows now, the rest later."""
        self._not_run_yet("add_generated")
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise InvalidInput(f"add_generated: n must be a whole number of at least 1, got {n!r}.")
        self._generated.append(n)

    def run(self) -> None:
        """Run everything that was added, side by side; leaving the context does it else.

        Returns when all have ended, or at once where the context was made with
        ``synchronous=False``.
        """
        self._not_run_yet("run")
        entries, n = list(self._entries), sum(self._generated)
        self._entries.clear()
        self._generated.clear()
        if entries or n:
            self._scheduler._run_batch(entries, n, self._indices, wait=self._wait)

    @property
    def trials(self) -> list[Trial]:
        """The batch's trials as they are now (generated ones that slots had to wait for: not
        in a batch that does not wait)."""
        known = self._scheduler.trials
        return [known[index] for index in self._indices]

    def _not_run_yet(self, what: str) -> None:
        if self._indices:
            raise InvalidInput(f"{what}: this batch has been run; make another.")
