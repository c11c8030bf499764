"""What has happened, on disk before it matters: append-only JSON lines, and how to read them.

The first line names the run; each further line is one event, ``{"k": kind, ...}``:

=============  ==========================================================================
``run``        format version, run id, runner and its options, settings, versions
``objective``  what is evaluated (a function lies beside the journal, pickled)
``snapshot``   from here on the optimizer's file of this name is what lines are replayed on
``call``       ``run_optimization`` began: how many trials it is to make; ``ended`` when it did
``trial``      the optimizer made (or was given) a trial: index, parameters, origin
``key``        a job is about to be submitted under this key
``handle``     the backend has it
``outcome``    how a trial ended, with its results: before the optimizer is told
``open``       the trial's job was stopped, the trial stays open
=============  ==========================================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from axsched_core.errors import JournalDamaged
from axsched_core.jobs import Cause, JobHandle, Metrics, Parameters

FORMAT = 1
NAME = "journal.jsonl"


class Journal:
    """A journal that is open for writing.

    Lines wait until `flush` puts them all on disk with one fdatasync.

    Args:
        path: the file; made if need be. A torn last line must have been cut off (`repair`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._waiting: list[bytes] = []

    def add(self, event: str, /, **data: Any) -> None:
        """Take a line; it is on disk after the next `flush`."""
        self._waiting.append(
            json.dumps({"k": event, **data}, separators=(",", ":")).encode() + b"\n"
        )

    def flush(self) -> None:
        """Put all waiting lines on disk.

        Raises:
            OSError: they may be there in part; the file was cut back to what was whole, and
                the lines wait on.
        """
        if not self._waiting:
            return
        data = b"".join(self._waiting)
        before = os.fstat(self._descriptor).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, before)
            raise
        self._waiting.clear()

    def close(self) -> None:
        """Flush and close."""
        try:
            self.flush()
        finally:
            os.close(self._descriptor)


@define
class TrialMemory:
    """What the journal knows of one trial."""

    index: int
    parameters: Parameters
    origin: Any = None
    """What the optimizer needs to make the trial again as it was made; None: it was given."""
    attempts: int = 0
    excused: int = 0
    key: str | None = None
    """Of the last job; None where there was none."""
    handle: JobHandle | None = None
    """None with a key: nobody knows whether the backend took the job."""
    state: str | None = None
    """How it ended; None while it has not."""
    cause: Cause | None = None
    message: str = ""
    results: Metrics | None = None
    interrupted: bool = False


@frozen
class RunMemory:
    """What a journal says, put together."""

    run: Mapping[str, Any]
    objective: Mapping[str, Any] | None
    snapshot: str | None
    trials: Mapping[int, TrialMemory]
    """The trials that the snapshot does not hold, or that have gone on since."""
    to_make: int
    """How many trials the interrupted call had still to make."""
    length: int = 0
    """Bytes of whole lines; what follows is a torn line."""


@define
class _Reader:
    run: dict[str, Any] = field(factory=dict)
    objective: dict[str, Any] | None = None
    snapshot: str | None = None
    trials: dict[int, TrialMemory] = field(factory=dict)
    to_make: int = 0

    def take(self, line: dict[str, Any]) -> None:
        kind = line.pop("k")
        getattr(self, f"_{kind}")(**line)

    def _run(self, **data: Any) -> None:
        self.run = data

    def _objective(self, **data: Any) -> None:
        self.objective = data

    def _snapshot(self, name: str, fresh: bool = False) -> None:
        self.snapshot = name
        if fresh:
            self.trials.clear()

    def _call(self, to_make: int) -> None:
        self.to_make = to_make

    def _ended(self) -> None:
        self.to_make = 0

    def _trial(self, i: int, p: dict[str, Any], o: Any = None, counted: bool = False) -> None:
        self.trials[i] = TrialMemory(i, p, o)
        self.to_make -= counted

    def _key(self, i: int, n: int, key: str, x: int = 0) -> None:
        trial = self.trials[i]
        trial.excused = x
        trial.attempts, trial.key, trial.handle, trial.interrupted = n, key, None, False

    def _handle(self, i: int, id: str, data: dict[str, Any]) -> None:
        trial = self.trials[i]
        assert trial.key is not None
        trial.handle = JobHandle(trial.key, id, data)

    def _outcome(
        self, i: int, state: str, cause: str | None, message: str, results: Any = None
    ) -> None:
        trial = self.trials[i]
        trial.state, trial.message = state, message
        trial.cause = Cause(cause) if cause else None
        if results is not None:
            trial.results = {name: (mean, sem) for name, (mean, sem) in results.items()}

    def _open(self, i: int) -> None:
        self.trials[i].interrupted = True
        self.trials[i].handle = self.trials[i].key = None


def lines(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield (line number, end in bytes, line); stop before a torn last line.

    Raises:
        JournalDamaged: a line that is not the last is no JSON object.
    """
    data = path.read_bytes()
    end = 0
    for number, raw in enumerate(data.splitlines(keepends=True), 1):
        whole = raw.endswith(b"\n")
        try:
            line = json.loads(raw)
            if not isinstance(line, dict) or "k" not in line:
                raise ValueError("no line of a journal")
        except ValueError as error:
            if end + len(raw) == len(data) and not whole:
                return
            raise JournalDamaged(path, number, str(error)) from error
        if not whole:
            return
        end += len(raw)
        yield number, end, line


def read(path: Path) -> RunMemory:
    """Read a journal.

    Raises:
        JournalDamaged: it is damaged elsewhere than at its very end, or of a newer version.
        FileNotFoundError: there is none.
    """
    reader, length = _Reader(), 0
    for number, length, line in lines(path):  # noqa: B007 - the last length is wanted
        if number == 1 and (line["k"] != "run" or line.get("format", 0) > FORMAT):
            raise JournalDamaged(
                path,
                1,
                f"it is of format {line.get('format')}, this axsched-core reads {FORMAT}; "
                "upgrade axsched-core",
            )
        try:
            reader.take(line)
        except (AttributeError, KeyError, TypeError, ValueError, AssertionError) as error:
            raise JournalDamaged(path, number, f"{type(error).__name__}: {error}") from error
    return RunMemory(
        reader.run, reader.objective, reader.snapshot, reader.trials, reader.to_make, length
    )


def repair(path: Path, length: int) -> None:
    """Cut off what follows the whole lines."""
    if path.stat().st_size > length:
        os.truncate(path, length)


def salvage(path: Path, damage: int) -> Path:
    """Keep the lines before line ``damage``; the old file stays beside. Returns its new name."""
    old = path.with_name(f"{path.name}.damaged")
    kept = b"".join(path.read_bytes().splitlines(keepends=True)[: damage - 1])
    os.replace(path, old)
    path.write_bytes(kept)
    return old
