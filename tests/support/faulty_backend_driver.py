"""A driver of a `FaultyBackend`: runner and optimizer, and its start, death and successor."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from axsched_core import AxScheduler, jobfolder
from axsched_core.errors import BackendUnavailable, InvalidInput, RunLocked
from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import (
    CancelOutcome,
    JobHandle,
    JobRequest,
    JobResult,
    JobState,
    JobStatus,
    NotReady,
    NotSubmitted,
    Report,
    RunnerInfo,
    SubmitError,
)
from axsched_core.journal import lines, replay
from axsched_core.optimizers.base import Asked, Outcome
from axsched_core.run import driving, timing
from axsched_core.run.loop import Loop
from axsched_core.runners import calls
from support.faulty_backend import FaultyBackend, Killed, Trouble
from support.toy import ToyOptimizer

LIMIT = 30.0
"""Seconds that a call may take."""


class FaultyRunner:
    """A driver's way to the backend."""

    def __init__(self, backend: FaultyBackend) -> None:
        self.backend = backend

    def _call(self, hook: str, work: Callable[[str | None], Any]) -> Any:
        def attempt() -> Any:
            fault = self.backend.fault(hook)
            if fault == "outage":
                raise BackendUnavailable("down")
            if fault == "error":
                raise RuntimeError("broken")
            return work(fault)

        return self.backend.call(hook, attempt)

    @hookimpl
    def axsched_runner_info(self) -> RunnerInfo:
        return RunnerInfo("faulty", ["function"], result_grace=0.02)

    @hookimpl
    def axsched_submit(self, requests: Sequence[JobRequest]) -> list[JobHandle | SubmitError]:
        def work(fault: str | None) -> list[JobHandle | SubmitError]:
            jobs, take = self.backend.jobs, self.backend.take
            if fault in ("full", "refused"):  # but nobody may refuse what he has
                no = SubmitError(fault, transient=fault == "full")
                return [take(r) if r.key in jobs else no for r in requests]
            if fault == "error, half was taken":
                for request in requests[: (len(requests) + 1) // 2]:
                    take(request)
                raise RuntimeError(fault)
            refused = fault == "first refused" and requests[0].key not in jobs
            answers: list[JobHandle | SubmitError] = [SubmitError("no")] if refused else []
            answers += [take(request) for request in requests[len(answers) :]]
            if fault == "outage, but taken":
                raise BackendUnavailable(fault)
            if fault == "error, but taken":
                raise RuntimeError(fault)
            return answers

        return self._call("submit", work)

    @hookimpl
    def axsched_poll(self, handles: Sequence[JobHandle]) -> dict[str, JobStatus]:
        def work(fault: str | None) -> dict[str, JobStatus]:
            jobs = self.backend.jobs
            answer = {h.key: jobs[h.key].status for h in handles if h.key in jobs}
            self.backend.go_on(list(answer))
            return {} if fault == "silence" else answer

        return self._call("poll", work)

    @hookimpl
    def axsched_fetch_results(self, handles: Sequence[JobHandle]) -> dict[str, Any]:
        def work(fault: str | None) -> dict[str, JobResult | NotReady]:
            if fault == "silence":
                return {}
            if fault == "not ready":
                return {handle.key: NotReady(fault) for handle in handles}
            return {
                handle.key: jobfolder.read_result(Path(handle.data["folder"]), 10_000)
                for handle in handles
            }

        return self._call("fetch", work)

    @hookimpl
    def axsched_cancel(self, handles: Sequence[JobHandle], reason: str) -> dict[str, CancelOutcome]:
        def work(fault: str | None) -> dict[str, CancelOutcome]:
            if fault == "not possible":
                return {handle.key: CancelOutcome.NOT_POSSIBLE for handle in handles}
            for job in [self.backend.jobs[handle.key] for handle in handles]:
                if job.state != "ended" and fault != "in vain":
                    job.state, job.status = "ended", JobStatus(JobState.CANCELLED)
            return {handle.key: CancelOutcome.REQUESTED for handle in handles}

        return self._call("cancel", work)

    @hookimpl
    def axsched_read_progress(
        self, handles: Sequence[JobHandle], offsets: Mapping[str, int]
    ) -> dict[str, bytes]:
        def work(fault: str | None) -> dict[str, bytes]:
            jobs = [self.backend.jobs[handle.key] for handle in handles]
            for job in jobs:
                self.backend.report(job)
            if fault == "silence":
                return {}
            return {job.request.key: job.lines[offsets[job.request.key] :] for job in jobs}

        return self._call("progress", work)

    @hookimpl
    def axsched_capacity(self) -> int | None:
        return self._call("capacity", lambda fault: 0 if fault == "none free" else None)


class SearchableRunner(FaultyRunner):
    """A runner that finds jobs of earlier drivers again."""

    @hookimpl
    def axsched_reattach(self, requests: Sequence[JobRequest]) -> dict[str, Any]:
        def work(fault: str | None) -> dict[str, JobHandle | NotSubmitted]:
            if fault == "silence":
                return {}
            jobs, take = self.backend.jobs, self.backend.take
            return {r.key: take(r) if r.key in jobs else NotSubmitted() for r in requests}

        return self._call("reattach", work)


class CheckedOptimizer(ToyOptimizer):
    """The optimizer of one driver; it records what it is told."""

    def __init__(self, backend: FaultyBackend) -> None:
        super().__init__()
        self.backend = backend

    def ask(self, n: int, *, in_bulk: int = 0) -> Asked:
        return self.backend.call(
            "ask", lambda: super(CheckedOptimizer, self).ask(n, in_bulk=in_bulk)
        )

    def annotate(self, metadata: Mapping[int, Mapping[str, Any]]) -> None:
        self.backend.call("annotate", lambda: super(CheckedOptimizer, self).annotate(metadata))

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        def work() -> None:
            for outcome in outcomes:
                self._note(outcome)
            super(CheckedOptimizer, self).tell(outcomes)

        self.backend.call("tell", work)

    def tell_intermediate(self, reports: Mapping[int, Sequence[Report]]) -> None:
        def work() -> None:
            for trial, found in reports.items():
                good = all(one.metrics["loss"][0] == 100 - one.step for one in found)
                self.backend.check(good, f"trial {trial} has not reported {found}")

        self.backend.call("report", work)

    def to_stop(self, indices: Sequence[int]) -> dict[int, str]:
        return {index: "doomed" for index in indices if self.backend.is_doomed(index)}

    def _note(self, outcome: Outcome) -> None:
        backend, trial = self.backend, outcome.index
        backend.check(self.rows[trial]["status"] == "RUNNING", f"trial {trial} was told twice")
        what = (outcome.kind.value, outcome.metrics["loss"][0] if outcome.metrics else None)
        before = backend.told.setdefault(trial, what)
        same = before == what or backend.may_have_become(trial, what[0])
        backend.check(same, f"trial {trial} was told as {before}, and now as {what}")
        early = what[0] == "EARLY_STOPPED"
        backend.check(not early or backend.is_doomed(trial), f"trial {trial} was stopped early")
        if what[0] == "COMPLETED":
            right = [job.value for job in backend.of(trial)] + [backend.by_hand.get(trial)]
            backend.check(what[1] in right, f"trial {trial} was told {what[1]}, not of {right}")

    def save(self, path: Path) -> None:
        self.backend.call("save", lambda: super(CheckedOptimizer, self).save(path))

    def load(self, path: Path) -> CheckedOptimizer:
        loaded = CheckedOptimizer(self.backend)
        loaded.rows = super().load(path).rows
        loaded.random = self.random
        for _ in range(2 * len(loaded.rows)):
            loaded.random.random()
        return loaded


class Driver:
    """The drivers of one run, one after another.

    Args:
        backend: what outlives them.
        folder: the ``job_output_dir``.
        searchable: the runner can `reattach`.
        config: settings of the scheduler.
    """

    def __init__(
        self, backend: FaultyBackend, folder: Path, searchable: bool, config: Mapping[str, Any]
    ) -> None:
        self.backend, self._folder, self.config = backend, folder, config
        self._runner = SearchableRunner if searchable else FaultyRunner
        self.begin()

    def begin(self) -> None:
        """Start a new run."""
        config = {
            "job_output_dir": self._folder,
            "monitoring_interval": 1e-6,
            "progress": False,
            "max_parallelism": 3,
            "retry": {"pause": 1e-6},
            **self.config,
        }
        self.scheduler = AxScheduler(
            CheckedOptimizer(self.backend), self._runner(self.backend), config
        )
        self.scheduler.set_objective_function(lambda parameters: 0.0)
        self.backend.scheduler = self.scheduler

    def call(self, method: str, *args: Any, trouble: Trouble, **more: Any) -> Any:
        """Call the scheduler; if it dies in the call, start its successor, and raise `Killed`."""
        try:
            with self.backend.in_trouble(trouble), _limited(method):
                if method == "cancel_from_shell":
                    return driving.cancel_from_shell(self.scheduler._run, *args, **more)
                return getattr(self.scheduler, method)(*args, **more)
        except (Killed, RunLocked) as error:
            if self.backend.scheduler is not None:
                raise
            # (Its engine may have seen that the lock is gone before it heard that it is dead.)
            self.bury()
            self.resume()
            raise Killed from error

    def bury(self) -> None:
        """Release the remaining threads of a dead driver."""
        self.scheduler._run.let_go()

    def resume(self, **config: Any) -> None:
        """Let another driver continue the run.

        ``config``: settings that it changes.
        """
        run_dir = self.scheduler.run_directory
        self.backend.scheduler = self.scheduler  # somebody lives again
        if not (run_dir / lines.NAME).exists():
            assert not self.backend.jobs
            self.begin()
            return
        trials = replay.read(run_dir / lines.NAME).trials.values()
        self.backend.past |= {t.index for t in trials if t.past and t.state == "FAILED"}
        try:
            self.scheduler = AxScheduler.resume(
                run_dir,
                optimizer=CheckedOptimizer(self.backend),
                runner=self._runner(self.backend),
                config=config or None,
            )
        except InvalidInput as error:
            if "before anything was begun" not in str(error):
                raise
            assert not self.backend.jobs
            self.begin()
        self.backend.scheduler = self.scheduler
        rows = self.scheduler.client.rows
        for trial, (kind, _) in self.backend.told.items():
            now = rows[trial]["status"]
            same = now == kind or self.backend.may_have_become(trial, now)
            assert same, f"trial {trial} was {kind}, and is {now}"


@contextlib.contextmanager
def _limited(method: str) -> Iterator[None]:
    """A call that hangs is a failure like any other. Use it in the main thread."""

    def ring(*_: object) -> None:
        raise AssertionError(f"{method} did not return within {LIMIT:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def patch(patches: pytest.MonkeyPatch, backend: FaultyBackend) -> None:
    """Make flushes a place to die at, notice Ctrl-C, and remove waiting times."""
    for name in ("CANCEL_GRACE", "FETCH_INTERVAL", "LOOK_INTERVAL"):
        patches.setattr(timing, name, 0.01)
    patches.setattr(calls, "pause_after_trouble", lambda failures, interval: 0.0)
    real_flush, real_interrupt = lines.Journal.flush, Loop._interrupted_by_user

    def flush(self: lines.Journal) -> None:
        if data := b"".join(self._waiting):
            part = data[: backend.torn]
            backend.call(
                "flush", lambda: real_flush(self), lambda: os.write(self._descriptor, part)
            )

    def interrupted(loop: Loop, *, again: bool) -> None:
        real_interrupt(loop, again=again)
        backend.noticed.release()

    patches.setattr(lines.Journal, "flush", flush)
    patches.setattr(Loop, "_interrupted_by_user", interrupted)
