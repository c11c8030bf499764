"""Trials that are run together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from axsched_core.errors import InvalidInput
from axsched_core.jobs import Parameters
from axsched_core.optimizers.base import Optimizer, TrialView
from axsched_core.run.by_hand import open_record, open_view, whole
from axsched_core.run.records import Record
from axsched_core.run.run import Run
from axsched_core.trials import Trial, TrialState


@frozen
class Entry:
    """One trial that the user has put into a batch."""

    parameters: Parameters
    index: int | None = None
    """Its trial in the optimizer; None: found by its parameters, or attached."""


@frozen(eq=False)
class Batch:
    """What ``scheduler.batch_trial_context()`` gives; only the scheduler makes one."""

    _run: Run
    _wait: bool
    _entries: list[Entry] = field(factory=list, init=False)
    _generated: list[int] = field(factory=list, init=False)
    _indices: list[int] = field(factory=list, init=False)

    def add_trial(self, parameters: Mapping[str, Any], trial_index: int | None = None) -> None:
        """Add a trial with these parameters.

        Parameters from the client's own ``get_next_trial`` stand for that trial: the one with
        ``trial_index``, otherwise the oldest one with equal parameters that has no data and no job
        of ours. Other parameters are attached as a new trial when the batch runs.

        Raises:
            InvalidInput: the parameters are outside the search space, or ``trial_index`` is
                not an open trial with these parameters.
        """
        self._not_run_yet("add_trial")
        if trial_index is not None:
            trial_index = whole(trial_index, "trial_index", least=0)
        given = [entry.index for entry in self._entries if entry.index is not None]
        if trial_index in given:
            raise InvalidInput(f"Trial {trial_index} is in this batch already.")
        with self._run.call("add_trial"):
            self._run.ready(objective=False, write=False)
            self._entries.append(self._entry(parameters, trial_index))

    def add_generated(self, n: int) -> None:
        """Add ``n`` trials from the optimizer: as many as it allows now, the rest later."""
        self._not_run_yet("add_generated")
        self._generated.append(whole(n, "add_generated: n"))

    def run(self) -> None:
        """Run everything that was added, in parallel. Without this call, the end of the context
        does it.

        Returns when all have ended, or at once if the context was made with ``synchronous=False``.
        """
        self._not_run_yet("run")
        if not self.empty:
            self._go()

    @property
    def empty(self) -> bool:
        """True if no added trial waits to be run."""
        return not (self._entries or self._generated)

    @property
    def trials(self) -> list[Trial]:
        """The batch's trials as they are now. In a batch that does not wait, generated trials that
        had to wait for a slot are not among them."""
        known = self._run.trials()
        return [known[index] for index in self._indices]

    def _not_run_yet(self, what: str) -> None:
        if self._indices:
            raise InvalidInput(f"{what}: this batch has been run; make another.")

    def _entry(self, parameters: Mapping[str, Any], trial_index: int | None) -> Entry:
        if not isinstance(parameters, Mapping):
            raise InvalidInput(
                f"add_trial: parameters must be a mapping, got {type(parameters).__name__}."
            )
        self._run.optimizer.validate(parameters)
        if trial_index is not None:
            # No record: what loading an experiment deletes must not be written down before it.
            view = open_view(self._run, trial_index)
            if dict(view.parameters) != dict(parameters):
                raise InvalidInput(
                    f"Trial {trial_index} has the parameters {dict(view.parameters)}, not "
                    f"{dict(parameters)}. Leave out trial_index to add a new trial."
                )
        return Entry(dict(parameters), trial_index)

    def _go(self) -> None:
        run, engine = self._run, self._run.engine
        with run.call("batch.run"):
            run.ready()
            entries, generated = list(self._entries), sum(self._generated)
            records: list[Record] = []
            for entry in entries:
                if entry.index is not None:  # its state may have changed since it was added
                    open_record(run, entry.index)
            try:
                with run.parking(records):
                    run.with_optimizer(lambda it: self._adopt_or_attach(it, entries, records))
            except BaseException:
                # The batch can be run again, with the trials that the optimizer has by now.
                had = [Entry(record.parameters, record.index) for record in records]
                self._entries[: len(had)] = had
                raise
            self._entries.clear()
            self._generated.clear()
            self._indices.extend(record.index for record in records)

            def begin() -> None:
                engine.want(generated, records)

            try:
                if self._wait:
                    run.wait(begin, lambda: engine.idle)
                else:
                    run.perform(begin)
            finally:
                self._indices.extend(run.budget.made)

    def _adopt_or_attach(
        self, optimizer: Optimizer, entries: Sequence[Entry], records: list[Record]
    ) -> None:
        """Find or make the trials of a batch; runs on the thread that uses the optimizer."""
        taken = {entry.index for entry in entries if entry.index is not None}
        views = optimizer.trials()
        for entry in entries:
            index = entry.index
            if index is None:
                index = next(
                    (
                        view.index
                        for view in views.values()
                        if view.index not in taken
                        and self._is_free(view)
                        and dict(view.parameters) == dict(entry.parameters)
                    ),
                    None,
                )
            if index is None:
                index = optimizer.attach(entry.parameters)
            taken.add(index)
            # In the optimizer's form: numbers of the right type, fixed parameters added.
            parameters = optimizer.trials([index])[index].parameters
            records.append(self._run.record(index, parameters))

    def _is_free(self, view: TrialView) -> bool:
        record = self._run.engine.records.get(view.index)
        unused = record is None or (record.state is TrialState.CANDIDATE and not record.attempts)
        elsewhere = self._run.guard.elsewhere(view.index)
        return view.open and not view.has_data and unused and not elsewhere
