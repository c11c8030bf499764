"""What ``axsched cancel`` in another shell asks of the driver, and the answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from axsched_core.journal import cancel_request
from axsched_core.journal.cancel_request import CancelRequest
from axsched_core.journal.rundir import RunDirectory
from axsched_core.journal.writer import Writer
from axsched_core.run import timing
from axsched_core.run.records import Record

log = logging.getLogger("axsched")


class Requests:
    """The requests of other shells that a call is working on.

    Args:
        rundir: the folder that holds them.
        writer: flushed before a request is executed, and before it is answered.
    """

    def __init__(self, rundir: RunDirectory, writer: Writer) -> None:
        self._rundir, self._writer = rundir, writer
        self._open: list[CancelRequest] = []
        self._next_look = 0.0

    def clear(self) -> None:
        """A call begins: requests without an answer will be executed again."""
        self._open.clear()

    def look(self, now: float, do: Callable[[CancelRequest], None]) -> None:
        """Execute new requests, if it is time to check."""
        if now < self._next_look:
            return
        self._next_look = now + timing.LOOK_INTERVAL
        new = [r for r in cancel_request.found(self._rundir.path) if r not in self._open]
        if new:
            # A replaced driver leaves them to its successor.
            self._writer.flush_before_stopping()
        for request in new:
            log.warning("Asked by axsched cancel: %s.", request)
            do(request)
        self._open += new

    def answer(self, undecided: Callable[[], Iterable[Record]]) -> None:
        """Answer the requests, after the outcomes of their trials are on disk.

        Args:
            undecided: gives the trials without a decided outcome.
        """
        if not self._open:
            return
        indices = {record.index for record in undecided()}
        for request in list(self._open):
            asked = indices if request.trials is None else indices.intersection(request.trials)
            if not asked:
                self._writer.flush()
                request.done()
                self._open.remove(request)
