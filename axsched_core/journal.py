"""What has happened, on disk before it matters: append-only JSON lines, and how to read them.

The first line names the run; each further line is one event, ``{"k": kind, "t": ..., ...}``, where
``t`` is its time in seconds since the epoch (UTC). Where a field is not known it is left out:

=============  ==========================================================================
``run``        format version, run id, name, host, runner and its options, settings, versions,
               what is optimized (`Optimizer.describe`)
``objective``  what is evaluated (a function lies beside the journal, pickled)
``optimized``  what is optimized has changed: the whole of it, as in ``run``
``place``      the run directory is at another place than before
``snapshot``   from here on the optimizer's file of this name is what lines are replayed on
``call``       ``run_optimization`` began: how many trials it is to make, in how many seconds, on
               which host; ``ended`` when it did
``trial``      the optimizer made (or was given) a trial: index ``i``, parameters ``p``, origin
               ``o``, whether it is ``counted``
``key``        a job is about to be submitted under this key, the ``n``-th attempt
``handle``     the backend has it
``waiting``    why the job is queued, in the backend's words (of many changes not each)
``running``    it runs, or has run: ``start``, ``host``
``attempt``    it is over: ``state``, ``cause``, ``message``, ``exit`` code, ``signal``, the
               backend's ``word``, ``start``, ``end``, ``host``, peak memory in bytes (``rss``);
               ``again``: the trial is to have another
``stopping``   the trial's job is being cancelled for the driver's sake: the trial stays open
``outcome``    how a trial ended, with its results and notes: before the optimizer is told
``open``       the trial's job was stopped, the trial stays open
``anew``       what has ended so far says nothing about the objective from here on
=============  ==========================================================================

``waiting``, ``running`` and ``attempt`` are for readers (`view`): a run goes on without them. What
a newer minor version adds can be read: a field that is not known is ignored, and a kind of line
that is not known is passed over where it holds ``"skip": true``, else refused.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from axsched_core import jobfolder
from axsched_core.errors import InvalidInput, JournalDamaged
from axsched_core.jobs import Cause, JobHandle, Metrics, Parameters, Resources

FORMAT = 1
NAME = "journal.jsonl"
FIRST_LIMIT = 16 << 20
"""Bytes of a first line that are read of another run directory."""


class Journal:
    """A journal that is open for writing.

    Lines wait until `flush` puts them all on disk with one fdatasync.

    Args:
        path: the file; made if need be. A torn last line must have been cut off (`repair`).

    Raises:
        OSError: it cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._waiting: list[bytes] = []
        self._torn: int | None = None
        """Where the whole lines end, after a write that failed and could not be undone."""
        sync_names(path.parent)

    def add(self, event: str, /, **data: Any) -> None:
        """Take a line; it is on disk after the next `flush`."""
        line = json.dumps({"k": event, **data}, separators=(",", ":"), default=_plain)
        self._waiting.append(line.encode() + b"\n")

    def flush(self) -> None:
        """Put all waiting lines on disk.

        Raises:
            OSError: they may be there in part; the file was cut back to what was whole, and
                the lines wait on.
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
            with contextlib.suppress(OSError):  # else before the next lines
                self._cut()
            raise
        self._waiting.clear()

    def _cut(self) -> None:
        if self._torn is not None:
            os.ftruncate(self._descriptor, self._torn)
            self._torn = None

    def close(self) -> None:
        """Flush and close; closed it is in any case."""
        try:
            self.flush()
        finally:
            self.drop()

    def drop(self) -> None:
        """Close without writing what waits."""
        self._waiting.clear()
        os.close(self._descriptor)


@define
class TrialMemory:
    """What the journal knows of one trial."""

    index: int
    parameters: Parameters
    origin: Any = None
    """What the optimizer needs to make the trial again as it was made; None: it was given."""
    attempts: int = 0
    number: int = 0
    """Of the last attempt: some may have been passed over."""
    ended: list[Cause | None] = field(factory=list)
    """The causes of the attempts before the last that count."""
    grown: Resources | None = None
    """As `Record.grown`, for the last attempt."""
    key: str | None = None
    """Of the last job; None where there was none."""
    handle: JobHandle | None = None
    """None with a key: nobody knows whether the backend took the job."""
    state: str | None = None
    """How it ended; None while it has not."""
    cause: Cause | None = None
    message: str = ""
    results: Metrics | None = None
    notes: Any = None
    past: bool = False
    """As `Record.past`."""
    stopping: bool = False
    """True where the last driver was cancelling its last job, and has not seen the end of it."""


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
    numbers: Mapping[int, int]
    """The greatest attempt's number that any line names, by trial."""
    length: int = 0
    """Bytes of whole lines; what follows is a torn line."""
    optimized: Any = None
    """What `Optimizer.describe` said last; None in the journal of an early version."""
    place: str | None = None
    """Absolute path of the run directory where the last driver had it; None: as above."""


@define
class _Reader:
    run: dict[str, Any] = field(factory=dict)
    objective: dict[str, Any] | None = None
    snapshot: str | None = None
    trials: dict[int, TrialMemory] = field(factory=dict)
    to_make: int = 0
    numbers: dict[int, int] = field(factory=dict)
    optimized: Any = None
    place: str | None = None

    def take(self, line: dict[str, Any]) -> None:
        kind = line.pop("k")
        if kind not in KINDS and may_skip(line, kind):
            return
        line.pop("t", None)
        if (kind == "run") == bool(self.run):
            raise ValueError("a second first line" if self.run else "not the first line of a run")
        if kind in FOR_READERS:
            return
        if (known := _FIELDS[kind]) is not None:
            line = {name: value for name, value in line.items() if name in known}
        getattr(self, f"_{kind}")(**line)

    def _run(self, **data: Any) -> None:
        self.run = data
        self.optimized = data.get("optimized")
        self.place = data.get("place")

    def _place(self, place: str) -> None:
        self.place = place

    def _optimized(self, **data: Any) -> None:
        self.optimized = data

    def _objective(self, **data: Any) -> None:
        self.objective = data

    def _snapshot(self, name: str, fresh: bool = False) -> None:
        self.snapshot = name
        if fresh:
            self.trials.clear()
            self.to_make = 0

    def _call(self, to_make: int) -> None:
        self.to_make = to_make

    def _ended(self) -> None:
        self.to_make = 0

    def _trial(self, i: int, p: dict[str, Any], o: Any = None, counted: bool = False) -> None:
        self.trials[i] = TrialMemory(i, p, o)
        self.to_make = max(0, self.to_make - counted)  # a batch's trials are of no call

    def _key(
        self,
        i: int,
        n: int,
        key: str,
        ended: Sequence[str | None] = (),
        grown: tuple[int | None, float | None] | None = None,
    ) -> None:
        trial = self.trials[i]
        trial.ended = [Cause(cause) if cause else None for cause in ended]
        if grown is not None:
            trial.grown = Resources(memory_bytes=grown[0], time_limit=grown[1])
        if n != trial.number:  # else it was prepared, not sent, and prepared again
            trial.attempts += 1
        trial.number, trial.key, trial.handle = n, key, None
        self.numbers[i] = max(n, self.numbers.get(i, 0))
        trial.stopping = False

    def _handle(self, i: int, id: str, data: dict[str, Any]) -> None:
        trial = self.trials[i]
        assert trial.key is not None
        trial.handle = JobHandle(trial.key, id, data)

    def _stopping(self, i: int) -> None:
        self.trials[i].stopping = True

    def _outcome(
        self,
        i: int,
        state: str,
        cause: str | None,
        message: str,
        results: Any = None,
        notes: Any = None,
    ) -> None:
        trial = self.trials[i]
        trial.notes = notes
        trial.state, trial.message = state, message
        trial.cause = Cause(cause) if cause else None
        if results is not None:
            trial.results = {name: (mean, sem) for name, (mean, sem) in results.items()}

    def _open(self, i: int) -> None:
        self.trials[i].handle = self.trials[i].key = None

    def _anew(self) -> None:
        for trial in self.trials.values():
            trial.past = trial.past or trial.state is not None


FOR_READERS = frozenset({"waiting", "running", "attempt"})
"""Kinds of lines that a run which goes on does without."""
KINDS = FOR_READERS | {
    *("run", "place", "objective", "optimized", "snapshot", "call", "ended"),
    *("trial", "key", "handle", "stopping", "outcome", "open", "anew"),
}


def _fields_of(kind: str) -> frozenset[str] | None:
    """What a kind of line may hold; None: anything."""
    parameters = inspect.signature(getattr(_Reader, f"_{kind}")).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return None
    return frozenset(parameters)


_FIELDS = {kind: _fields_of(kind) for kind in KINDS - FOR_READERS}


def may_skip(line: Mapping[str, Any], kind: str) -> bool:
    """True where a line of a kind that is not known here may be passed over: it says so itself.

    Raises:
        ValueError: it does not.
    """
    if line.get("skip") is True:
        return True
    raise ValueError(f"unknown kind {kind!r} (a newer axsched-core's? then upgrade it)")


def lines(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield (line number, end in bytes, line); stop before a torn last line.

    Raises:
        JournalDamaged: a line that is not the last is no JSON object.
    """
    end = 0
    # What follows the last line feed is torn, or nothing.
    for number, raw in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            line = json.loads(raw)
            if not isinstance(line, dict) or not isinstance(line.get("k"), str):
                raise ValueError("no event")
        except (ValueError, RecursionError) as error:
            raise JournalDamaged(path, number, f"it is no line of a journal ({error})") from error
        end += len(raw) + 1
        yield number, end, line


def read(path: Path) -> RunMemory:
    """Read a journal.

    Raises:
        JournalDamaged: it is damaged elsewhere than at its very end.
        InvalidInput: it is of a newer version, or another run's.
        FileNotFoundError: there is none.
    """
    reader, length = _Reader(), 0
    for number, length, line in lines(path):  # noqa: B007 - the last length is wanted
        if number == 1 and line["k"] == "run":
            check_first(path, line)
        try:
            reader.take(line)
        except (AttributeError, LookupError, TypeError, ValueError, AssertionError) as error:
            words = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
            raise JournalDamaged(path, number, words) from error
    return RunMemory(
        reader.run,
        reader.objective,
        reader.snapshot,
        reader.trials,
        reader.to_make,
        reader.numbers,
        length,
        reader.optimized,
        reader.place,
    )


def check_place(run_dir: Path, found: RunMemory) -> None:
    """Refuse a copy of a run directory while the original is there.

    The two have the same run id, so their jobs have the same names on a backend.

    Raises:
        InvalidInput: it is such a copy.
    """
    if found.place is None or os.path.abspath(run_dir) == found.place:
        return
    original = Path(found.place)
    try:
        if original.samefile(run_dir):
            return
        with (original / NAME).open("rb") as file:
            first = json.loads(file.readline(FIRST_LIMIT))
    except (OSError, ValueError, RecursionError):
        return  # it was moved, or is another's by now
    if isinstance(first, dict) and first.get("run_id") == found.run["run_id"]:
        raise InvalidInput(
            f"{run_dir} is a copy of {original}, which is still there. Their jobs have the same "
            "names, so this one would take, cancel or remove those of the other. Go on there; or "
            "rename or remove that one first, if none of its jobs is under way."
        )


def check_first(path: Path, line: Mapping[str, Any]) -> None:
    """See from its first line that a journal can be read here, and is the folder's own.

    Raises:
        JournalDamaged: it names no format.
        InvalidInput: it is of a newer format, or another run's.
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
"""How `RunDirectory` ends its names."""


def repair(path: Path, length: int) -> None:
    """Cut off what follows the whole lines."""
    if path.stat().st_size > length:
        os.truncate(path, length)


@frozen
class Salvaged:
    """What `salvage` did."""

    kept: int
    """Lines."""
    lost: int
    """Lines, the damaged one included; they remain in ``damaged``."""
    damaged: Path
    """The journal as it was."""
    forgotten: Path | None = None
    """Where the folders of the jobs now lie that only the lost lines knew; None: there were none.
    """


def salvage(path: Path) -> Salvaged:
    """Keep the lines before the first damaged one; the journal as it was stays beside.

    Jobs that only the lost lines knew are not found again: their folders are put aside, so that
    their trials, which are made anew, do not get their results. Those that have not begun never
    will. The caller holds the run's lock.

    Raises:
        InvalidInput: the journal is not damaged, or nothing of it can be kept.
        OSError: the run directory cannot be written; the journal is as it was.
    """
    try:
        read(path)
    except JournalDamaged as error:
        damage = error.line
    else:
        raise InvalidInput(f"{path} is not damaged; resume goes on from it.")
    all_lines = path.read_bytes().split(b"\n")
    kept = all_lines[: damage - 1]
    if not kept:
        raise InvalidInput(
            f"{path} is damaged in its first line, which says what run it is: nothing can be kept."
        )
    aside = _free_name(path, "damaged")
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(b"".join(line + b"\n" for line in kept))
            file.flush()
            os.fsync(file.fileno())
        _link_or_copy(path, aside)
        forgotten = _put_aside(path.parent / "jobs", kept)
        os.replace(beside, path)  # last: until then all can be done again
    finally:
        beside.unlink(missing_ok=True)
    sync_names(path.parent)
    lost = len(all_lines) - len(kept) - (not all_lines[-1])
    return Salvaged(len(kept), lost, aside, forgotten)


def _put_aside(jobs: Path, kept: list[bytes]) -> Path | None:
    events = [json.loads(line) for line in kept]
    known = {f"{e['i']:05d}-{e['n']}" for e in events if e["k"] == "key"}
    unknown = [folder for folder in jobs.glob("*") if folder.name not in known]
    if not unknown:
        return None
    aside = _free_name(jobs, "forgotten")
    aside.mkdir(mode=0o700)
    for folder in unknown:
        jobfolder.keep_from_running(folder, "driver: forgotten by salvage")
        os.rename(folder, aside / folder.name)
    return aside


def _free_name(path: Path, word: str) -> Path:
    """``<path>.<word>``, or the first of ``<path>.<word>-2``, ... that is free."""
    number, free = 2, path.with_name(f"{path.name}.{word}")
    while free.exists():
        number, free = number + 1, path.with_name(f"{path.name}.{word}-{number}")
    return free


def as_written(value: Any) -> Any:
    """The value as it comes back from a journal: keys are strings, paths too, tuples are lists."""
    return json.loads(json.dumps(value, default=_plain))


def _plain(value: Any) -> Any:
    """What JSON does not know: a NumPy number, a path, a set, anything in words.

    What comes of it is checked where it is used again; a journal must not end a run.
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)  # the same in each session
    return value.item() if getattr(value, "shape", None) == () else repr(value)


def _link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source`` where the file system can, else a copy."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def sync_names(folder: Path) -> None:
    """Have the names of the files in ``folder`` survive a power failure, where that can be had."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems know nothing of it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
