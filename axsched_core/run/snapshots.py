"""Writes ``snapshot-N.json``: at first, and when the user has changed the optimizer.

``experiment.json``, after Ctrl-C, is `run.interruption`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from axsched_core.errors import OptimizationInterrupted, OptimizationTerminated
from axsched_core.journal.rundir import RunDirectory
from axsched_core.optimizers.base import Optimizer
from axsched_core.optimizers.content import Changes, Content
from axsched_core.run.recorder import Recorder

log = logging.getLogger("axsched")


class Snapshots:
    """The snapshots of one run directory.

    The optimizer's content is remembered after each of our calls (`remember`), and compared when
    the next one begins (`notice`). The differences come from the user. Both do nothing for a run
    without a journal and without a database.

    Args:
        call: runs a function on the thread that owns the optimizer, and returns its result.
        recorder: the run's; a snapshot's line in the journal waits there for the next flush.
        rundir: the run directory.
    """

    def __init__(
        self, call: Callable[[Callable[[], Any]], Any], recorder: Recorder, rundir: RunDirectory
    ) -> None:
        self._call, self._recorder, self._rundir = call, recorder, rundir
        self._writer = recorder.writer
        self._held: Content | None = None
        """None: it is not known which changes in the optimizer are ours and which are the
        user's."""
        self._due, self._fresh, self._made = True, False, 0

    def goes_on(self, optimizer: Optimizer) -> None:
        """Continue a run directory with a complete last snapshot and journal."""
        files = self._rundir.path.glob("snapshot-*.json")
        numbers = [int(path.stem.split("-")[1]) for path in files]
        self._made, self._due = 1 + max(numbers, default=-1), False
        self.remember(optimizer)

    def due(self) -> None:
        """Make the next call write one, even if nothing has changed."""
        self._due = True

    def another(self) -> None:
        """The optimizer was replaced: earlier trials do not count any more."""
        self._held, self._due, self._fresh = None, True, True

    def remember(self, optimizer: Optimizer, error: BaseException | None = None) -> None:
        """Remember what the optimizer holds, after we have worked on it.

        Args:
            optimizer: the optimizer.
            error: the exception that ended our call; None: there was none.
        """
        if not self._follows(optimizer):
            return
        try:
            if isinstance(error, BaseException) and not isinstance(error, _IN_ORDER):
                self._held = None  # the optimizer may be in the middle of its work
            else:
                self._held = self._call(optimizer.content)
        except BaseException as second:
            self._held = None
            if error is None or not isinstance(second, Exception):
                raise
            error.add_note(f"Nor can the optimizer be looked at: {second!r}")

    def notice(self, optimizer: Optimizer) -> None:
        """Find the user's changes, log them, and write and store the optimizer.

        Raises:
            AxschedError, OSError: it cannot be written now; the next call tries again.
        """
        if not self._follows(optimizer):
            return
        changed = self._look(optimizer)
        if not self._due:
            return
        self._writer.flush()  # a replaced driver writes nothing
        self.write(optimizer)
        self._writer.flush()
        if changed and optimizer.in_database:
            self._call(optimizer.store)

    def _follows(self, optimizer: Optimizer) -> bool:
        return self._writer.opened or optimizer.in_database

    def _look(self, optimizer: Optimizer) -> bool:
        now: Content = self._call(optimizer.content)
        changes: Changes | None = None if self._held is None else now.since(self._held)
        if changes is not None and not changes:
            return False
        self._held, self._due = now, True
        if changes is not None:
            log.info("What is optimized has changed since the last call: %s.", changes.words)
        self._call(lambda: optimizer.changed(changes))
        return True

    def write(self, optimizer: Optimizer) -> None:
        """Write one if it is due and there is a journal."""
        if not (self._due and self._writer.opened):
            return
        name = f"snapshot-{self._made}.json"
        self._call(lambda: optimizer.save(self._rundir.path / name))
        self._recorder.snapshot(name, fresh=self._fresh)
        self._recorder.optimized(self._call(optimizer.describe))
        self._due, self._fresh, self._made = False, False, self._made + 1


_IN_ORDER = (Exception, OptimizationInterrupted, OptimizationTerminated)
"""Exceptions that end a call while the optimizer is idle."""
