"""The current state of a run: read from its journal, while its driver lives or after it died.

Nothing here needs the optimizer, takes the run's lock, or writes. You can read a run directory
while it is written, and also a copy of one on another machine.

Example:
    >>> run = Run("axsched_jobs/experiment-20260101-120000-0123456789")
    >>> changed = run.look()
    >>> run.state, run.counts, run.best
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from attrs import define, field

from axsched_core.errors import InvalidInput, JournalDamaged
from axsched_core.journal import lines
from axsched_core.journal.lock import Holder, holder
from axsched_core.journal.optimized import Optimized
from axsched_core.journal.seen import ENDED, Attempt, Call, Trial
from axsched_core.trials import TrialState

_CHUNK = 8 << 20
"""Bytes that are read at once."""

Line = Mapping[str, Any]


@define(eq=False)
class Run:
    """One run. The last `look` has set all fields; before the first they are empty.

    Args:
        path: the run directory.
    """

    path: Path
    id: str = field(default="", init=False)
    name: str = field(default="", init=False)
    """The experiment's; "" if it has none."""
    runner: str = field(default="", init=False)
    host: str = field(default="", init=False)
    """The machine of the first driver."""
    versions: Mapping[str, str] = field(factory=dict, init=False)
    """Package -> version, of the first driver."""
    config: Mapping[str, Any] = field(factory=dict, init=False)
    """The settings of the first driver."""
    began_at: float | None = field(default=None, init=False)
    """Seconds since the epoch."""
    last_at: float | None = field(default=None, init=False)
    """When the last line was written, in seconds since the epoch."""
    optimized: Optimized = field(factory=Optimized, init=False)
    """What is optimized."""
    calls: list[Call] = field(factory=list, init=False)
    made: int = field(default=0, init=False)
    """Trials that the optimizer has made for calls and batches."""
    to_make: int = field(default=0, init=False)
    """Trials that the last call has not made yet."""
    trials: dict[int, Trial] = field(factory=dict, init=False)
    """By index. `look` changes the dict and the trials in it."""
    counts: dict[str, int] = field(factory=dict, init=False)
    """State -> number of trials, only for states with trials."""
    driver: Holder | None = field(default=None, init=False)
    """The driver that works on it; None: none is visible from here."""

    _best: Trial | None = field(default=None, init=False, repr=False)
    _score: float = field(default=0.0, init=False, repr=False)
    _with_results: int = field(default=0, init=False, repr=False)
    _changed: set[int] = field(factory=set, init=False, repr=False)
    _file: tuple[int, int] | None = field(default=None, init=False, repr=False)
    _offset: int = field(default=0, init=False, repr=False)
    _lines: int = field(default=0, init=False, repr=False)
    _last: bytes = field(default=b"", init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.path = Path(self.path).expanduser().absolute()

    # ---- answers ---------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """``"running"`` (a driver works on it), ``"interrupted"`` (none does, and there is work
        left for `resume`), or ``"finished"``."""
        if self.driver is not None:
            return "running"
        ended = sum(self.counts.get(state, 0) for state in ENDED)
        left = not self.id or self.to_make or ended < len(self.trials)
        return "interrupted" if left else "finished"

    @property
    def best(self) -> Trial | None:
        """The trial with the best observed value that breaks no constraint; None: `why_no_best`.

        If several have the same value, the first. It does not see data that the optimizer got in
        another way, and does not check the search space: Ax may name another trial.
        """
        return None if self.optimized.why_not_ranked else self._best

    @property
    def why_no_best(self) -> str:
        """Why there is no `best`; "" if there is one."""
        if self.best is not None:
            return ""
        if self.optimized.why_not_ranked:
            return self.optimized.why_not_ranked
        if not self._with_results:
            return "No trial has a result."
        return "No trial has values of all metrics and breaks no constraint."

    def folder(self, trial: Trial, attempt: Attempt | None = None) -> Path | None:
        """The folder of a trial's job (its last one); None if it never had one. It may not exist:
        it was cleaned up, or not copied."""
        if attempt is None:
            if not trial.attempts:
                return None
            attempt = trial.attempts[-1]
        return self.path / "jobs" / f"{trial.index:05d}-{attempt.number}"

    # ---- reading ---------------------------------------------------------------------------

    def look(self) -> frozenset[int]:
        """Read what was added since the last look; the first look reads everything.

        An incomplete last line is left for the next look. A journal that was cut or replaced is
        read again from the start.

        Returns:
            The indices of the trials that have changed.

        Raises:
            InvalidInput: the folder holds no journal, or one of a newer format or another run.
            JournalDamaged: names the line; the lines before it were read.
            OSError: it cannot be read.
        """
        # First: the last lines of a driver that ends just now must not look interrupted.
        self.driver = holder(self.path)
        self._changed = set()
        try:
            with (self.path / lines.NAME).open("rb") as file:
                if not self._goes_on(file):
                    self._begin()
                file.seek(self._offset)
                self._read(file)
        except FileNotFoundError as error:
            raise InvalidInput(
                f"{self.path} is not a run directory: it holds no {lines.NAME}."
            ) from error
        return frozenset(self._changed)

    def _goes_on(self, file: BinaryIO) -> bool:
        """True if the file still begins with the part that was read."""
        stat = os.fstat(file.fileno())
        same, self._file = self._file == (stat.st_dev, stat.st_ino), (stat.st_dev, stat.st_ino)
        if not same or stat.st_size < self._offset:
            return False
        file.seek(self._offset - len(self._last))
        return file.read(len(self._last)) == self._last

    def _begin(self) -> None:
        self._changed = set(self.trials)
        self._offset, self._lines, self._last = 0, 0, b""
        self.id = self.name = self.runner = self.host = ""
        self.versions, self.config, self.began_at, self.last_at = {}, {}, None, None
        self.optimized, self.calls, self.made = Optimized(), [], 0
        self._forget_trials()

    def _forget_trials(self) -> None:
        self.to_make, self._with_results, self._best = 0, 0, None
        self.trials, self.counts = {}, {}

    def _read(self, file: BinaryIO) -> None:
        rest = b""
        while chunk := file.read(_CHUNK):
            data = rest + chunk if rest else chunk
            *whole, rest = data.split(b"\n")
            self._take(whole)

    def _take(self, whole: list[bytes]) -> None:
        handlers, line, before = self._handlers(), None, self._lines
        try:
            for line in _all_parsed(whole):
                kind = line["k"]
                handler = handlers.get(kind)
                if not self._lines:
                    self._check_first(kind, line)
                if handler is not None:
                    handler(line)
                elif kind not in lines.KINDS:
                    lines.may_skip(line, kind)
                self._lines += 1
        except InvalidInput:
            raise
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
            words = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
            path = self.path / lines.NAME
            raise JournalDamaged(path, self._lines + 1, words) from error
        finally:
            if taken := whole[: self._lines - before]:
                self._offset += sum(map(len, taken)) + len(taken)
                self._last = taken[-1] + b"\n"
        if line is not None:
            self.last_at = line.get("t", self.last_at)

    def _check_first(self, kind: str, line: Line) -> None:
        if kind != "run":
            raise ValueError("not the first line of a run")
        lines.check_first(self.path / lines.NAME, line)

    # ---- lines -----------------------------------------------------------------------------

    def _handlers(self) -> dict[str, Callable[[Line], None]]:
        return {
            "run": self._run,
            "optimized": self._optimized,
            "snapshot": self._snapshot,
            "call": self._call,
            "ended": self._ended,
            "trial": self._trial,
            "past": self._past,
            "key": self._key,
            "handle": self._handle,
            "withdrawn": self._withdrawn,
            "waiting": self._waiting,
            "running": self._running,
            "progress": self._progress,
            "attempt": self._attempt,
            "outcome": self._outcome,
            "open": self._open,
            "anew": self._anew,
        }

    def _run(self, line: Line) -> None:
        if self._lines:
            raise ValueError("a second first line")
        self.id, self.runner = line["run_id"], line["runner"]
        self.name, self.host = line.get("name", ""), line.get("host", "")
        self.versions, self.config = line.get("versions", {}), line.get("config", {})
        self.began_at = line.get("t")
        self.optimized = Optimized.of(line.get("optimized"))

    def _optimized(self, line: Line) -> None:
        self.optimized = Optimized.of(line)
        self._best, self._with_results = None, 0
        for trial in self.trials.values():
            self._rank(trial)

    def _snapshot(self, line: Line) -> None:
        if line.get("fresh"):
            self._changed.update(self.trials)
            self._forget_trials()

    def _call(self, line: Line) -> None:
        self.to_make = line["to_make"]
        host, timeout = line.get("host", ""), line.get("timeout")
        self.calls.append(Call(self.to_make, line.get("t"), host, timeout))

    def _ended(self, line: Line) -> None:
        self.to_make = 0
        if self.calls and self.calls[-1].ended_at is None:
            self.calls[-1].ended_at = line.get("t")

    def _trial(self, line: Line) -> None:
        index = line["i"]
        if index in self.trials:  # a driver that died had made it too
            self._count(self.trials[index].state, -1)
        self.trials[index] = Trial(index, line["p"], line.get("t"), line.get("m", ""))
        self._count("CANDIDATE", 1)
        if line.get("counted"):
            self.made += 1
            if self.to_make:
                self.to_make -= 1
                self.calls[-1].made += 1
        self._changed.add(index)

    def _past(self, line: Line) -> None:
        for one in line["trials"]:
            both = {**one, "t": line.get("t")}
            self._trial(both)
            self._outcome({**both, "state": TrialState.SUCCEEDED.value, "cause": None})
            self.trials[one["i"]].past = True

    def _key(self, line: Line) -> None:
        trial, number = self.trials[line["i"]], line["n"]
        if trial.attempts and trial.attempts[-1].number == number:
            trial.attempts.pop()  # it was prepared, not sent, and prepared again
        runner = line.get("lane", self.runner)  # an early version had one runner a run
        trial.attempts.append(Attempt(number, line["key"], runner))
        self._is(trial, "QUEUED")

    def _handle(self, line: Line) -> None:
        trial = self.trials[line["i"]]
        attempt = trial.attempts[-1]
        attempt.backend_id, attempt.submitted_at = line["id"], line.get("t")
        self._changed.add(trial.index)

    def _withdrawn(self, line: Line) -> None:
        trial, attempt = self._of(line)
        trial.attempts.remove(attempt)
        self._changed.add(trial.index)

    def _waiting(self, line: Line) -> None:
        trial, attempt = self._of(line)
        attempt.state, attempt.waits_for = "QUEUED", line["message"]
        attempt.remedy = line.get("remedy", "")
        self._is(trial, "QUEUED")

    def _running(self, line: Line) -> None:
        trial, attempt = self._of(line)
        attempt.state, attempt.waits_for, attempt.remedy = "RUNNING", "", ""
        attempt.host = line.get("host", attempt.host)
        attempt.started_at = line.get("start") or attempt.started_at or line.get("t")
        self._is(trial, "RUNNING")

    def _progress(self, line: Line) -> None:
        trial, attempt = self._of(line)
        attempt.reports[line["step"]] = {
            name: (value[0], value[1]) if isinstance(value, list) else (value, None)
            for name, value in line["m"].items()
        }
        self._changed.add(trial.index)

    def _attempt(self, line: Line) -> None:
        trial, attempt = self._of(line)
        found = line.get
        attempt.state, attempt.waits_for, attempt.remedy = line["state"], "", ""
        attempt.cause, attempt.message = found("cause", ""), found("message", "")
        attempt.backend_word, attempt.host = found("word", ""), found("host", attempt.host)
        attempt.exit_code, attempt.signal = found("exit"), found("signal")
        attempt.max_rss_bytes, attempt.again = found("rss"), found("again", False)
        attempt.started_at = found("start", attempt.started_at)
        attempt.ended_at = found("end", found("t"))
        if attempt.again:
            self._is(trial, "QUEUED")
        else:
            self._changed.add(trial.index)

    def _outcome(self, line: Line) -> None:
        trial = self.trials[line["i"]]
        results, trial.results = line.get("results"), None
        if results is not None:
            trial.results = {name: (mean, sem) for name, (mean, sem) in results.items()}
        trial.cause, trial.message = line["cause"] or "", line["message"]
        trial.notes, trial.ended_at = line.get("notes"), line.get("t")
        self._is(trial, line["state"])
        self._rank(trial)

    def _open(self, line: Line) -> None:
        self._is(self.trials[line["i"]], "CANDIDATE")

    def _anew(self, line: Line) -> None:
        for trial in self.trials.values():
            if trial.ended and not trial.past:
                trial.past = True
                self._changed.add(trial.index)

    # ---- small things ----------------------------------------------------------------------

    def _of(self, line: Line) -> tuple[Trial, Attempt]:
        trial, number = self.trials[line["i"]], line["n"]
        for attempt in reversed(trial.attempts):
            if attempt.number == number:
                return trial, attempt
        raise LookupError(f"trial {trial.index} has had no attempt {number}")

    def _is(self, trial: Trial, state: str) -> None:
        if trial.state != state:
            self._count(trial.state, -1)
            self._count(state, 1)
            trial.state = state
        self._changed.add(trial.index)

    def _count(self, state: str, more: int) -> None:
        self.counts[state] = self.counts.get(state, 0) + more
        if not self.counts[state]:
            del self.counts[state]

    def _rank(self, trial: Trial) -> None:
        if trial.state != "SUCCEEDED" or not trial.results:
            return
        self._with_results += 1
        score = self.optimized.score({name: mean for name, (mean, _) in trial.results.items()})
        if score is None:
            return
        if self._best is None or (score, -trial.index) > (self._score, -self._best.index):
            self._best, self._score = trial, score


@define(eq=False)
class Runs:
    """The runs below a folder (a ``job_output_dir``); for a run directory, only that run.

    Args:
        path: the folder.
    """

    path: Path
    runs: dict[Path, Run] = field(factory=dict, init=False)
    """Run directory -> run, by name, as the last `look` found them."""
    unreadable: dict[Path, str] = field(factory=dict, init=False)
    """Run directory -> why its journal cannot be read (to its end)."""

    def __attrs_post_init__(self) -> None:
        self.path = Path(self.path).expanduser().absolute()

    def look(self) -> dict[Path, Run]:
        """Look for runs, and call `Run.look` for each.

        Returns:
            `runs`.

        Raises:
            OSError: the folder cannot be read.
        """
        alone = (self.path / lines.NAME).exists()
        folders = [self.path] if alone else sorted(self.path.iterdir())
        known, self.runs, self.unreadable = self.runs, {}, {}
        for folder in folders:
            if not (folder / lines.NAME).is_file():
                continue
            self.runs[folder] = known.get(folder) or Run(folder)
            try:
                self.runs[folder].look()
            except (InvalidInput, JournalDamaged, OSError) as error:
                self.unreadable[folder] = str(error)
        return self.runs


def _all_parsed(whole: list[bytes]) -> Iterable[dict[str, Any]]:
    """The lines, parsed together, which takes half of the time; one by one if that fails."""
    try:
        found = json.loads(b"[" + b",".join(map(_shortened, whole)) + b"]")
    except (ValueError, RecursionError):
        return map(_parsed, whole)
    if len(found) != len(whole) or not all(type(line) is dict for line in found):
        return map(_parsed, whole)
    return found  # type: ignore[no-any-return]


def _parsed(raw: bytes) -> dict[str, Any]:
    line = json.loads(raw)
    if not isinstance(line, dict) or not isinstance(line.get("k"), str):
        raise ValueError("it is no line of a journal")
    return line


def _shortened(raw: bytes) -> bytes:
    """A line, without the part that only the optimizer can read (most of a journal's bytes).

    Raises:
        ValueError: it does not begin and end like a line.
    """
    if not (raw.startswith(b'{"k"') and raw.endswith(b"}")):
        raise ValueError("is it two lines, or half of one?")
    if raw.startswith(b'{"k":"trial"') and raw.endswith(b"}}"):
        # "p" holds plain values, and quotes inside a JSON string are escaped: this is its end. If
        # another optimizer's "p" holds more, this is not JSON, and all lines are read whole.
        cut = raw.find(b'},"o":')
        if cut > 0:
            return raw[: cut + 1] + b"}"
    return raw
