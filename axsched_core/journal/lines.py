"""Events on disk before their effects: append-only JSON lines, and how to read them.

The first line names the run; each further line is one event, ``{"k": kind, "t": ..., ...}``, where
``t`` is its time in seconds since the epoch (UTC). Unknown fields are left out:

=============  ==========================================================================
``run``        format version, run id, name, host, runner and its options, settings, versions,
               what is optimized (`Optimizer.describe`)
``objective``  what is evaluated (a function is pickled in a file next to the journal)
``optimized``  what is optimized has changed: all of it, as in ``run``
``place``      the run directory is at another place than before
``snapshot``   later lines are replayed on the optimizer's file of this name
``call``       ``run_optimization`` began: how many trials it should make, in how many seconds, on
               which host; ``ended`` when it ends
``trial``      the optimizer made (or was given) a trial: index ``i``, parameters ``p``, what made
               it (``m``), origin ``o``, whether it is ``counted``
``past``       past data was attached: all its ``trials``, each with ``i``, ``p``, ``results``,
               ``notes`` and ``message``
``key``        a job is about to be submitted under this key, the ``n``-th attempt, to the runner
               of this name (``lane``; where it is missing, the run had one runner); why earlier
               attempts ``ended``, what the job gets in addition (``grown``), hosts to ``avoid``
``handle``     the backend has it
``waiting``    why the job is queued, in the backend's words (not every one of many changes);
               ``remedy``: what a person must do, if waiting does not help
``running``    it runs, or has run: ``start``, ``host``
``progress``   it has reported intermediate results: ``step``, ``m`` (metric -> mean, or mean and
               standard error); only some, if there are many
``early``      it is being cancelled because its results promise nothing, and ``why``
``attempt``    it is over: ``state``, ``cause``, ``message``, ``exit`` code, ``signal``, the
               backend's ``word``, ``start``, ``end``, ``host``, peak memory in bytes (``rss``);
               ``again``: the trial gets another one
``withdrawn``  the backend never had the ``n``-th job and never gets it: it was no attempt
``stopping``   the trial's job is being cancelled because the driver stops: the trial stays open
``outcome``    how a trial ended, with its results and notes: before the optimizer is told
``open``       the trial's job was stopped, the trial stays open
``anew``       the trials that have ended so far say nothing about the objective from here on
=============  ==========================================================================

``waiting``, ``running`` and ``attempt`` are for readers (`view`): a run can be resumed without
them. Additions of a newer minor version can be read: an unknown field is ignored, and an unknown
kind of line is skipped if it holds ``"skip": true``, and refused if not.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from axsched_core import plain
from axsched_core.errors import InvalidInput, JournalDamaged

FORMAT = 1
NAME = "journal.jsonl"
FIRST_LIMIT = 16 << 20
"""Bytes of the first line that are read in another run directory."""


class Journal:
    """A journal that is open for writing.

    Lines wait until `flush` puts them all on disk with one fdatasync.

    Args:
        path: the file; made if missing. A torn last line must have been cut off (`repair`).

    Raises:
        OSError: it cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._waiting: list[bytes] = []
        self._torn: int | None = None
        """The end of the whole lines, after a write that failed and could not be undone."""
        sync_names(path.parent)

    def add(self, event: str, /, **data: Any) -> None:
        """Take a line; it is on disk after the next `flush`."""
        line = json.dumps({"k": event, **data}, separators=(",", ":"), default=plain.default)
        self._waiting.append(line.encode() + b"\n")

    def flush(self) -> None:
        """Put all waiting lines on disk.

        Raises:
            OSError: some may have been written; the file was cut back to its whole lines, and
                the new lines still wait.
        """
        if not self._waiting:
            return
        self._cut()
        data = memoryview(b"".join(self._waiting))
        before = os.fstat(self._descriptor).st_size
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fdatasync(self._descriptor)
        except OSError:
            self._torn = before
            with contextlib.suppress(OSError):  # if this fails, before the next lines
                self._cut()
            raise
        self._waiting.clear()

    def _cut(self) -> None:
        if self._torn is not None:
            os.ftruncate(self._descriptor, self._torn)
            self._torn = None

    def close(self) -> None:
        """Flush and close; it is closed even if the flush fails."""
        try:
            self.flush()
        finally:
            self.drop()

    def drop(self) -> None:
        """Close without writing the waiting lines."""
        self._waiting.clear()
        os.close(self._descriptor)


FOR_READERS = frozenset({"waiting", "running", "attempt"})
"""Kinds of lines that `resume` does not need."""
KINDS = FOR_READERS | {
    *("run", "place", "objective", "optimized", "snapshot", "call", "ended"),
    *("trial", "past", "key", "handle", "withdrawn", "stopping", "outcome", "open", "anew"),
    *("progress", "early"),
}


def may_skip(line: Mapping[str, Any], kind: str) -> bool:
    """True if a line of an unknown kind may be skipped: the line itself says so.

    Raises:
        ValueError: it does not say so.
    """
    if line.get("skip") is True:
        return True
    raise ValueError(f"unknown kind {kind!r} (a newer axsched-core's? then upgrade it)")


def read_lines(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield (line number, end in bytes, line); stop before a torn last line.

    Raises:
        JournalDamaged: a line other than the last is not a JSON object.
    """
    end = 0
    # The text after the last line feed is torn or empty.
    for number, raw in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            line = json.loads(raw)
            if not isinstance(line, dict) or not isinstance(line.get("k"), str):
                raise ValueError("no event")
        except (ValueError, RecursionError) as error:
            raise JournalDamaged(path, number, f"it is no line of a journal ({error})") from error
        end += len(raw) + 1
        yield number, end, line


def check_first(path: Path, line: Mapping[str, Any]) -> None:
    """Check by its first line that a journal can be read here and belongs to its folder.

    Raises:
        JournalDamaged: it names no format.
        InvalidInput: it has a newer format, or belongs to another run.
    """
    version = line.get("format")
    if not isinstance(version, int):
        raise JournalDamaged(path, 1, f"it names no format, but {version!r}")
    if version > FORMAT:
        raise InvalidInput(
            f"{path} is of format {version}, and this axsched-core reads format {FORMAT}: "
            "upgrade axsched-core."
        )
    run_id, named = line.get("run_id"), _RUN_ID.search(path.parent.name)
    if named and named[1] != run_id:
        raise InvalidInput(
            f"{path} is the journal of another run: it says {run_id}, and its folder's name says "
            f"{named[1]}. Put the right one back (a folder that was renamed on purpose must not "
            "end like another run's)."
        )


_RUN_ID = re.compile(r"-\d{8}-\d{6}-([0-9a-f]{10})$")
"""The end of the names that `RunDirectory` makes."""


def repair(path: Path, length: int) -> None:
    """Cut off the text after the whole lines."""
    if path.stat().st_size > length:
        os.truncate(path, length)


def sync_names(folder: Path) -> None:
    """Make the names of the files in ``folder`` survive a power failure, if that is possible."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems do not support it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
