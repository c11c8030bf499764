"""The content of a journal, put together for a driver that continues the run."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from axsched_core.errors import InvalidInput, JournalDamaged
from axsched_core.jobs import Cause, JobHandle, Metrics, Parameters, Resources
from axsched_core.journal.lines import (
    FIRST_LIMIT,
    FOR_READERS,
    KINDS,
    NAME,
    check_first,
    may_skip,
    read_lines,
)
from axsched_core.trials import TrialState


@define
class ReplayedTrial:
    """What the journal knows about one trial."""

    index: int
    parameters: Parameters
    origin: Any = None
    """What the optimizer needs to make the trial again in the same way; None: it was attached."""
    method: str = ""
    """As `Candidate.method`."""
    attempts: int = 0
    number: int = 0
    """Of the last attempt: some numbers may have been skipped."""
    ended: list[Cause | None] = field(factory=list)
    """The causes of the attempts before the last that count."""
    grown: Resources | None = None
    """As `Record.grown`, for the last attempt."""
    avoid: list[str] = field(factory=list)
    """As `Record.avoid`, before the last attempt."""
    key: str | None = None
    """Of the last job; None if there was none."""
    lane: str | None = None
    """The name of the runner that has it; None: the line is of an early version, or there was no
    job."""
    handle: JobHandle | None = None
    """None with a key: it is not known whether the backend took the job."""
    state: str | None = None
    """How it ended; None if it has not ended."""
    cause: Cause | None = None
    message: str = ""
    results: Metrics | None = None
    notes: Any = None
    reports: list[tuple[float, Metrics]] = field(factory=list)
    """(step, metrics) of the last job: some of its intermediate results."""
    early: str | None = None
    """Why its last job is being stopped early; None if it is not."""
    past: bool = False
    """As `Record.past`."""
    stopping: bool = False
    """True if the last driver was cancelling its last job, and has not seen its end."""


@frozen
class ReplayedRun:
    """The content of a journal, put together."""

    run: Mapping[str, Any]
    objective: Mapping[str, Any] | None
    snapshot: str | None
    trials: Mapping[int, ReplayedTrial]
    """The trials that the snapshot does not hold, or that have changed since."""
    to_make: int
    """How many trials the interrupted call had not made yet."""
    numbers: Mapping[int, int]
    """Trial -> the greatest number of an attempt in any line."""
    length: int = 0
    """Bytes of whole lines; a torn line may follow."""
    optimized: Any = None
    """The last answer of `Optimizer.describe`; None in the journal of an early version."""
    place: str | None = None
    """Absolute path of the last driver's run directory; None: as above."""


@define
class _Reader:
    run: dict[str, Any] = field(factory=dict)
    objective: dict[str, Any] | None = None
    snapshot: str | None = None
    trials: dict[int, ReplayedTrial] = field(factory=dict)
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

    def _trial(
        self, i: int, p: dict[str, Any], o: Any = None, counted: bool = False, m: str = ""
    ) -> None:
        self.trials[i] = ReplayedTrial(i, p, o, m)
        self.to_make = max(0, self.to_make - counted)  # a batch's trials belong to no call

    def _past(self, trials: Sequence[Mapping[str, Any]]) -> None:
        for one in trials:
            i, message, results = one["i"], one["message"], one["results"]
            self._trial(i, one["p"])
            self._outcome(i, TrialState.SUCCEEDED.value, None, message, results, one.get("notes"))
            self.trials[i].past = True

    def _key(
        self,
        i: int,
        n: int,
        key: str,
        ended: Sequence[str | None] = (),
        grown: tuple[int | None, float | None] | None = None,
        lane: str | None = None,
        avoid: Sequence[str] = (),
    ) -> None:
        trial = self.trials[i]
        trial.avoid = list(avoid)
        trial.ended = [Cause(cause) if cause else None for cause in ended]
        if grown is not None:
            trial.grown = Resources(memory_bytes=grown[0], time_limit=grown[1])
        if n != trial.number:  # if equal, it was prepared, not sent, and prepared again
            trial.attempts += 1
            trial.reports.clear()
        trial.early = None
        trial.number, trial.key, trial.lane, trial.handle = n, key, lane, None
        self.numbers[i] = max(n, self.numbers.get(i, 0))
        trial.stopping = False

    def _handle(self, i: int, id: str, data: dict[str, Any]) -> None:
        trial = self.trials[i]
        assert trial.key is not None
        trial.handle = JobHandle(trial.key, id, data)

    def _withdrawn(self, i: int, n: int) -> None:
        trial = self.trials[i]
        trial.attempts -= 1
        trial.key = trial.handle = None

    def _stopping(self, i: int) -> None:
        self.trials[i].stopping = True

    def _progress(self, i: int, step: float, m: dict[str, Any]) -> None:
        found = {
            name: (value[0], value[1]) if isinstance(value, list) else (float(value), None)
            for name, value in m.items()
        }
        self.trials[i].reports.append((step, found))

    def _early(self, i: int, why: str) -> None:
        self.trials[i].early = why

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
        trial.results = None
        if results is not None:
            trial.results = {name: (mean, sem) for name, (mean, sem) in results.items()}

    def _open(self, i: int) -> None:
        self.trials[i].handle = self.trials[i].key = None

    def _anew(self) -> None:
        for trial in self.trials.values():
            trial.past = trial.past or trial.state is not None


def _fields_of(kind: str) -> frozenset[str] | None:
    """What a kind of line may hold; None: anything."""
    parameters = inspect.signature(getattr(_Reader, f"_{kind}")).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return None
    return frozenset(parameters)


_FIELDS = {kind: _fields_of(kind) for kind in KINDS - FOR_READERS}


def read(path: Path) -> ReplayedRun:
    """Read a journal.

    Raises:
        JournalDamaged: it is damaged, and not only at its very end.
        InvalidInput: it has a newer format, or belongs to another run.
        FileNotFoundError: there is none.
    """
    reader, length = _Reader(), 0
    for number, length, line in read_lines(path):  # noqa: B007 - the last length is wanted
        if number == 1 and line["k"] == "run":
            check_first(path, line)
        try:
            reader.take(line)
        except (AttributeError, LookupError, TypeError, ValueError, AssertionError) as error:
            words = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
            raise JournalDamaged(path, number, words) from error
    return ReplayedRun(
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


def check_place(run_dir: Path, found: ReplayedRun) -> None:
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
        return  # it was moved, or is now another run's
    if isinstance(first, dict) and first.get("run_id") == found.run["run_id"]:
        raise InvalidInput(
            f"{run_dir} is a copy of {original}, which is still there. Their jobs have the same "
            "names, so this one would take, cancel or remove those of the other. Go on there; or, "
            "if all of its jobs have ended, rename or remove that one first."
        )
