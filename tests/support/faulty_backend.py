"""A backend that outlives its drivers and fails in every way that the contract allows.

`FaultyBackend` is everything outside a driver: the backend with its jobs, and the test's own record
of what was told. The driver's side is in ``faulty_backend_driver.py``. At each call from there it
checks whether something was planned: a fault, Ctrl-C, or the driver's death.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from attrs import define, field, frozen

from axsched_core import AxScheduler, jobfolder
from axsched_core.jobs import (
    Cause,
    JobHandle,
    JobRequest,
    JobState,
    JobStatus,
)

OUTAGES = ("outage", "error")
FAULTS = {
    "submit": (
        *OUTAGES,
        "outage, but taken",
        "error, but taken",
        "error, half was taken",
        "full",
        "refused",
        "first refused",
    ),
    "poll": (*OUTAGES, "silence"),
    "fetch": (*OUTAGES, "silence", "not ready"),
    "cancel": (*OUTAGES, "not possible", "in vain"),
    "reattach": (*OUTAGES, "silence"),
    "capacity": ("outage", "error", "none free"),
    "progress": (*OUTAGES, "silence"),
}
"""The possible faults, by hook."""
PLACES = (*FAULTS, "ask", "tell", "report", "annotate", "save", "flush")
"""Where a driver may die."""
FATES = {
    "well": JobStatus(JobState.SUCCEEDED),
    "nonsense": JobStatus(JobState.SUCCEEDED),
    "nothing left": JobStatus(JobState.SUCCEEDED),
    "exception": JobStatus(JobState.FAILED, Cause.EXCEPTION),
    "preempted": JobStatus(JobState.FAILED, Cause.PREEMPTED),
    "node failed": JobStatus(JobState.FAILED, Cause.NODE_FAIL),
    "lost": JobStatus(JobState.LOST),
    "killed by the operator": JobStatus(JobState.CANCELLED),
}
"""How jobs end."""


class Killed(BaseException):
    """The driver is dead."""


@define(eq=False)
class BackendJob:
    """A job that the backend has accepted."""

    request: JobRequest
    state: str = "queued"
    """queued, running or ended"""
    status: JobStatus = field(factory=lambda: JobStatus(JobState.QUEUED))
    value: float | None = None
    """Its result, if it ended without an error."""
    lines: bytes = b""
    """What it has reported."""


class _Grave:
    """The journal and the lock of a dead driver; its threads may still use them."""

    path = Path("/")

    def flush(self) -> None:
        raise Killed

    def nothing(self, *_: Any, **__: Any) -> None:
        return

    add = check = release = close = drop = nothing


@frozen
class Trouble:
    """What happens to a driver during one call of its user."""

    faults: Sequence[tuple[str, str]] = ()
    """(hook, what): each at the hook's next calls."""
    fates: Sequence[str] = ()
    """How the next jobs end."""
    death: tuple[str, int, bool] | None = None
    """(place, which call of it, after it) where the driver dies."""
    torn: int = 0
    """How many bytes of its flush it writes before it dies there."""
    ctrl_c: tuple[str, int] | None = None
    """(hook, how often) at which Ctrl-C is pressed."""


class FaultyBackend:
    """The backend, and the record.

    Args:
        twice: a trial may be evaluated twice, even at the same time: it is not known whether a dead
            driver's job runs, and ``on_unknown="retry"`` has chosen this.
    """

    def __init__(self, *, twice: bool = False) -> None:
        self.twice = twice
        self.jobs: dict[str, BackendJob] = {}
        self.faults: dict[str, list[str]] = {}
        self.fates: list[str] = []
        self.death: tuple[str, int, bool] | None = None
        self.torn = 0
        self.ctrl_c: tuple[str, int] | None = None
        self.told: dict[int, tuple[str, Any]] = {}
        self.past: set[int] = set()
        """Failed trials that do not count any more according to the journal."""
        self.by_hand: dict[int, float] = {}
        self.parameters: dict[int, Mapping[str, Any]] = {}
        """Of trials that are known outside the driver."""
        self.wrong: list[str] = []
        """Errors that must never occur; a driver's threads cannot fail a test."""
        self.scheduler: AxScheduler | None = None
        self.noticed = threading.Semaphore(0)
        self._values = itertools.count(1)

    def check(self, good: bool, words: str) -> None:
        if not good:
            self.wrong.append(words)

    def may_have_become(self, trial: int, kind: str) -> bool:
        """True if a trial's avoided point may now be proposed again."""
        return trial in self.past and (self.told[trial][0], kind) == ("ABANDONED", "FAILED")

    @contextlib.contextmanager
    def in_trouble(self, trouble: Trouble) -> Iterator[None]:
        """A context in which this trouble happens during a call."""
        for hook, fault in trouble.faults:
            self.faults.setdefault(hook, []).append(fault)
        self.fates, self.death, self.ctrl_c = list(trouble.fates), trouble.death, trouble.ctrl_c
        self.torn = trouble.torn
        try:
            yield
        finally:
            self.faults.clear()
            self.fates, self.death, self.ctrl_c = [], None, None

    # ---- jobs ------------------------------------------------------------------------------

    def of(self, trial: int) -> list[BackendJob]:
        return [job for job in self.jobs.values() if job.request.trial_index == trial]

    def take(self, request: JobRequest) -> JobHandle:
        known = self.jobs.setdefault(request.key, BackendJob(request))
        self.check(known.request == request, f"{request.key} was submitted as something else")
        known_parameters = self.parameters.setdefault(request.trial_index, request.parameters)
        self.check(known_parameters == request.parameters, f"{request.key}: other parameters")
        return JobHandle(request.key, "id", {"folder": str(request.folder)})

    def start(self, job: BackendJob) -> None:
        """A worker takes the job; it runs if it was not claimed."""
        key, trial = job.request.key, job.request.trial_index
        if not jobfolder.try_claim(job.request.folder, ""):
            job.state, job.status = "ended", JobStatus(JobState.LOST)
            return
        (job.request.folder / jobfolder.CLAIM).write_text('{"pid": 1}')
        beside = [o.request.key for o in self.of(trial) if o.state == "running"]
        self.check(self.twice or not beside, f"{key} runs beside {beside}")
        before = [o.request.key for o in self.of(trial) if o.value is not None]
        self.check(self.twice or not before, f"{key} evaluates again what {before} did")
        job.state, job.status = "running", JobStatus(JobState.RUNNING)

    def end(self, job: BackendJob, fate: str) -> None:
        folder = job.request.folder
        if fate == "well":
            job.value = float(next(self._values))
            (folder / jobfolder.RESULT).write_text(json.dumps({"loss": job.value}))
        elif fate == "nonsense":
            (folder / jobfolder.RESULT).write_text('{"loss": "much"}')
        job.state, job.status = "ended", FATES[fate]

    def report(self, job: BackendJob) -> None:
        """A running job reports how far it is."""
        if job.state == "running":
            step = job.lines.count(b"\n")
            job.lines += b'{"step": %d, "loss": %d}\n' % (step, 100 - step)

    @staticmethod
    def is_doomed(trial: int) -> bool:
        """True for a trial that the optimizer stops early."""
        return trial % 3 == 1

    def go_on(self, keys: Sequence[str]) -> None:
        for job in [self.jobs[key] for key in keys if key in self.jobs]:
            if job.state == "queued":
                self.start(job)
                self.report(job)
            elif (
                job.state == "running"
                and self.is_doomed(job.request.trial_index)
                and (job.lines.count(b"\n") < 3)
            ):
                self.report(job)  # it takes longer
            elif job.state == "running":
                self.end(job, self.fates.pop(0) if self.fates else "well")

    # ---- what happens to a driver ----------------------------------------------------------

    def call(
        self, place: str, work: Callable[[], Any], last: Callable[[], Any] = lambda: None
    ) -> Any:
        """A driver reaches this place. If it dies right before ``work``, it does ``last``."""
        if self.scheduler is None:
            raise Killed  # a thread of a dead driver
        here = self.death is not None and self.death[0] == place
        if here and self.death is not None:
            self.death = (place, self.death[1] - 1, self.death[2])
        if self.death == (place, 0, False):
            last()
            self.die()
        answer = work()
        if self.ctrl_c is not None and self.ctrl_c[0] == place:
            times, self.ctrl_c = self.ctrl_c[1], None
            for _ in range(times):
                self.press_ctrl_c()
        if here and self.death == (place, 0, True):
            self.die()
        return answer

    def fault(self, hook: str) -> str | None:
        planned = self.faults.get(hook)
        return planned.pop(0) if planned else None

    def die(self) -> NoReturn:
        """From here on nothing of this driver reaches the disk or the backend."""
        assert self.scheduler is not None
        writer, self.scheduler, self.death = self.scheduler._run.writer, None, None
        if (lines := writer._journal) is not None and (lock := writer._lock) is not None:
            grave = _Grave()
            writer._journal, writer._lock = grave, grave  # type: ignore[assignment]
            lines.drop()
            lock._over.set()
            holder = json.loads(lock._path.read_text())
            lock._path.write_text(json.dumps({**holder, "start_time": 1}))  # of another process
        raise Killed

    def press_ctrl_c(self) -> None:
        """Press it while the caller waits, and wait until it is noticed."""
        main, deadline = threading.main_thread().ident, time.monotonic() + 20
        while sys._current_frames()[main or 0].f_code.co_name != "wait":
            if time.monotonic() > deadline:
                self.check(False, "the caller does not wait")
                return
            time.sleep(0.001)
        time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)
        while not self.noticed.acquire(timeout=0.2):
            if time.monotonic() > deadline:
                self.check(False, "Ctrl-C was not noticed")
                return
            # Python misses a signal that comes just before it waits for a lock.
            os.kill(os.getpid(), signal.SIGINT)
