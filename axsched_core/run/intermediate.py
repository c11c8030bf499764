"""Reads what running jobs report, passes it on, and keeps it until the optimizer knows it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence

from axsched_core.config import SchedulerConfig
from axsched_core.jobs import JobState, Report
from axsched_core.objectives import intermediate
from axsched_core.run import timing
from axsched_core.run.active import Active
from axsched_core.run.lane import Lane
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Record, Stage, handles_of

log = logging.getLogger("axsched")

HOOK = "axsched_read_progress"


class Intermediate:
    """The intermediate results of running jobs.

    Args:
        config: the scheduler's settings.
        lanes: the run's runners.
        recorder: records what has happened.
        active: the trials in progress.
    """

    def __init__(
        self, config: SchedulerConfig, lanes: Sequence[Lane], recorder: Recorder, active: Active
    ) -> None:
        self._config, self._recorder, self._active = config, recorder, active
        self._lanes = [lane for lane in lanes if lane.reads_progress]
        self._pauses = {lane.name: timing.PROGRESS_INTERVAL for lane in self._lanes}
        """Seconds between two reads; longer while nothing is reported."""
        self._news: dict[int, Record] = {}
        """The trials with reports that the optimizer does not have."""
        self._said: set[str] = set()
        """What is wrong with lines, as already logged."""

    def due(self, now: float) -> float | None:
        """When to read next (`time.monotonic` seconds); None: no running job can report."""
        moments = [lane.calls.ready_at(HOOK, now) for lane in self._lanes if self._running(lane)]
        return min(moments, default=None)

    def _running(self, lane: Lane) -> list[Record]:
        return [
            record
            for record in self._active.at(Stage.SUBMITTED)
            if record.job.lane is lane and record.job.status.state is JobState.RUNNING
        ]

    def read(self, now: float) -> None:
        """Read what was added, if it is time for it.

        Raises:
            RunnerError: a runner is broken.
        """
        for lane in self._lanes:
            running = [] if lane.calls.resting(HOOK, now) else self._running(lane)
            if not running:
                continue
            begin = time.monotonic()
            news = self._read(lane, running)
            cost = time.monotonic() - begin
            if lane.calls.in_trouble(HOOK):
                continue
            longer = timing.PROGRESS_INTERVAL if news else 2 * self._pauses[lane.name]
            longest = max(self._config.monitoring_interval, timing.PROGRESS_COST * cost)
            pause = min(longest, max(longer, timing.PROGRESS_COST * cost))
            self._pauses[lane.name] = pause
            lane.calls.rest_until(HOOK, now + pause)

    def begun(self, lane: Lane, now: float) -> None:
        """A job has begun to run: it may report soon."""
        if lane in self._lanes:
            first = min(timing.PROGRESS_INTERVAL, self._config.monitoring_interval)
            self._pauses[lane.name] = first
            lane.calls.hasten(HOOK, now + first)

    def read_rest(self, record: Record) -> None:
        """Read what a job has reported before it ended.

        Raises:
            RunnerError: its runner is broken.
        """
        lane = record.job.lane
        while lane in self._lanes and self._read(lane, [record]):
            pass  # a call reads no more than a few megabytes

    def _read(self, lane: Lane, records: Sequence[Record]) -> bool:
        """True if any job has reported something."""
        offsets = {r.job.request.key: r.job.progress.offset for r in records}
        found = lane.read_progress(handles_of(records), offsets) or {}
        for record in records:
            if data := found.get(record.job.request.key):
                self._take(record, data)
        return any(found.values())

    def _take(self, record: Record, data: bytes) -> None:
        progress = record.job.progress
        progress.offset += len(data)
        reports, wrong = intermediate.read(data)
        for words in wrong:
            if words not in self._said and len(self._said) < timing.MOST_COMPLAINTS:
                self._said.add(words)
                log.warning(
                    "Trial %d: an intermediate result is left out: %s. (Said once.)",
                    record.index,
                    words,
                )
        kept = [r for r in reports if progress.thinned.takes() or r is reports[-1]]
        if kept:
            progress.last = kept[-1]
            progress.untold += kept
            self._news[record.index] = record
            self._recorder.reported(record, kept)

    # ---- what the optimizer does not know ------------------------------------------------------

    def untold(self) -> dict[int, list[Report]]:
        """Trial -> the reports that the optimizer does not have yet."""
        self._news = {
            i: r for i, r in self._news.items() if self._active.get(i) is r and _untold(r)
        }
        return {index: list(_untold(record)) for index, record in self._news.items()}

    def told(self, reports: Mapping[int, Iterable[Report]]) -> None:
        """The optimizer has these; newer ones of the same trials still wait."""
        for index, known in reports.items():
            record = self._news.get(index)
            if record is not None and record.latest is not None:
                gone = set(map(id, known))
                waiting = record.latest.progress.untold
                record.latest.progress.untold = [r for r in waiting if id(r) not in gone]


def _untold(record: Record) -> list[Report]:
    return record.latest.progress.untold if record.latest is not None else []
