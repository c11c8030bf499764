"""What is done in a turn: ask -> submit -> watch -> fetch -> tell.

The `Loop` makes the turns, on the engine's thread. One message tells the optimizer all outcomes
that arrived together, and asks for as many candidates as the `Budget` says.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from axsched_core.config import SchedulerConfig
from axsched_core.errors import InvalidInput
from axsched_core.events import Event
from axsched_core.journal.cancel_request import CancelRequest
from axsched_core.journal.rundir import RunDirectory
from axsched_core.journal.writer import Writer
from axsched_core.observers.manager import Observers
from axsched_core.optimizers.base import Candidate, Optimizer
from axsched_core.run import failures, stopping, termination, timing
from axsched_core.run.active import Active
from axsched_core.run.attempts import Attempts
from axsched_core.run.budget import Budget
from axsched_core.run.dispatch import Dispatch
from axsched_core.run.exchange import Exchange
from axsched_core.run.lane import Lane
from axsched_core.run.loop import Loop
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Purpose, Record, Stage
from axsched_core.run.requests import Requests
from axsched_core.runners.session import RunnerSession
from axsched_core.trials import TrialState

log = logging.getLogger("axsched")


class Engine:
    """Drives the trials of one optimizer through the runners of a run.

    Public attributes may be read and changed by the caller's thread between two calls of
    `Loop.perform`, and by what is given to it, which runs on the engine's thread.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        sessions: Sequence[RunnerSession],
        observers: Observers,
        config: SchedulerConfig,
        rundir: RunDirectory,
        writer: Writer,
    ) -> None:
        self.records: dict[int, Record] = {}
        self.budget = Budget()
        self.cancel_wanted = False
        """Set by `cancel`, for a call in preparation; cleared when the preparation starts."""
        self.deadline: float | None = None
        """`time.monotonic` seconds; at this moment everything is cancelled."""
        self.stops_at_failures = False
        """True while a call makes trials: it stops if too many fail."""

        self._observers, self._events, self._writer = observers, list[Event](), writer
        self.recorder = Recorder(writer, self._events.append)
        self.active = Active()
        self.lanes = [
            Lane(
                session,
                config.monitoring_interval,
                on_trouble=self.recorder.backend_trouble,
                on_recovery=self.recorder.backend_recovered,
            )
            for session in sessions
        ]
        self.dispatch = Dispatch(
            self.lanes, config, rundir, self.wake, self.time_left, self.recorder, self.active
        )
        self.exchange = Exchange(
            optimizer, config, self.active, self.budget, self.recorder, self.dispatch, self._made
        )
        self._rundir, self._config = rundir, config
        self._leaves_jobs = config.on_exit == "leave"
        self._requests = Requests(rundir, writer)
        self._dismissed = self._one_turn = False
        self._interrupted = self._said_interrupted = False
        self.loop = Loop(self, "axsched-engine")

    # ---- other threads' side ---------------------------------------------------------------

    def cancel(self) -> None:
        """Cancel everything; from any thread. A running call ends cleanly."""
        self.cancel_wanted = True
        self.loop.post(lambda: self.halt(Purpose.ABANDON))

    def wake(self, key: str) -> None:
        """Check this job soon; from any thread."""
        self.loop.post(lambda: self.dispatch.woken(key))

    def time_left(self) -> float | None:
        """Seconds that the current call may still take: 0 once it is to end; None: no limit. From
        any thread."""
        if self.loop.pressed or termination.name() or self.active.halted is not None:
            return 0.0
        deadline = self.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def shut_down(self) -> None:
        """Cancel running jobs (their trials stay open) or leave them, as ``on_exit`` says; then
        close the runner and the threads."""
        if self._dismissed:
            self.loop.join(timing.CANCEL_GRACE)
        if self.loop.over or self._dismissed:
            return
        self._say_how_to_go_on()
        if self.active and not self._leaves_jobs:
            try:
                self.loop.perform(lambda: self.halt(Purpose.REOPEN), lambda: self.at_rest)
            except Exception as error:  # noqa: BLE001 - after any error, close the rest
                log.error("Jobs may have been left running: %s", error)
        self._close(wait=not self._leaves_jobs and not termination.name())

    def dismiss(self) -> None:
        """The same for a scheduler that was garbage-collected; does not wait for it."""
        self._dismissed = True

        def finish() -> None:
            self.dispatch.abandon()
            self._writer.close()
            self.exchange.thread.dismiss()

        self.loop.post(self._say_how_to_go_on)  # the exception may have released it
        self.loop.dismiss(finish)

    def _say_how_to_go_on(self) -> None:
        if self.has_jobs and termination.name() and self._writer.opened:
            log.warning(
                "%s. To go on: AxScheduler.resume(%r).finish()",
                termination.name(),
                str(self._rundir.path),
            )

    def notify(self, tell: Callable[[], object]) -> None:
        """Record something with ``tell``, and return when observers have received it. If a runner
        was left behind in a call, they receive it when that call returns."""

        def work() -> None:
            tell()
            self.show()

        if self.loop.left_behind:
            self.loop.post(work)
        else:
            self.loop.call(work)

    def let_go(self) -> None:
        """Close the runner and the threads; running jobs continue."""
        self._close(wait=False)

    def _close(self, wait: bool) -> None:
        def finish() -> None:
            try:
                self.dispatch.close(wait)
            finally:
                self._writer.close()

        try:
            self.loop.end_with(finish)
        finally:
            self.exchange.thread.rest(timing.CTRL_C_LAG if termination.name() else None)

    @property
    def has_jobs(self) -> bool:
        """True while trials are in progress."""
        return bool(self.active) and not self.loop.over

    @property
    def optimizer(self) -> Optimizer:
        """What proposes the trials."""
        return self.exchange.optimizer

    @property
    def attempts(self) -> Attempts:
        """The maker of the jobs' requests."""
        return self.dispatch.attempts

    @property
    def has_waiting(self) -> bool:
        """True while trials wait for a job, or must still be made."""
        waiting = self.active.at(Stage.WAITING)
        return bool(self.budget.to_make) or not all(record.orphaned for record in waiting)

    @property
    def at_rest(self) -> bool:
        """True while no trial is in progress (jobs that could not be stopped do not count)."""
        return not self.active.busy

    @property
    def stopped(self) -> bool:
        """True if this call starts no more jobs."""
        return self.active.halted is not None

    @property
    def settled(self) -> bool:
        """True if the optimizer has been told all that is known."""
        return self.exchange.settled

    @property
    def idle(self) -> bool:
        """True when no trial is in progress and no more must be made."""
        return not self.budget.to_make and self.at_rest

    def record(
        self,
        index: int,
        parameters: Mapping[str, Any],
        origin: Any = None,
        *,
        method: str = "",
        counted: bool = False,
    ) -> Record:
        """The record of a trial; if there is none, it is made and written down."""
        if index not in self.records:
            self.records[index] = Record(index, dict(parameters), method=sys.intern(method))
            self.recorder.trial_made(self.records[index], origin, counted=counted)
        return self.records[index]

    def expect(self, objectives: tuple[str, ...], required: frozenset[str]) -> None:
        """Set what a result must hold: the metrics of the objectives, and all required ones."""
        self.dispatch.expect(objectives, required)

    def take_up(self, records: Iterable[Record]) -> None:
        """Continue the trials of an earlier driver."""
        for record in records:
            self.records[record.index] = record
            if record.stage in (Stage.WAITING, Stage.SUBMITTED):
                self.active.add(record)

    def begin_with(self, optimizer: Optimizer) -> None:
        """Continue with another optimizer, and forget all that belongs to the one before; no trial
        may be in progress."""
        assert not self.active
        self.exchange.optimizer = optimizer
        self.records.clear()
        self.budget.drop()
        self.recorder.forget_marks()

    def want(
        self,
        to_make: int,
        records: Iterable[Record],
        timeout: float | None = None,
        *,
        synchronous: bool | None = None,
    ) -> None:
        """Request more trials, and run some.

        Args:
            to_make: how many the optimizer should make.
            records: existing trials to run.
            timeout: seconds that the call may take; for the journal.
            synchronous: True: one job at a time; None: the settings decide.
        """
        chosen = self._config.synchronous if synchronous is None else synchronous
        self.dispatch.one_at_a_time(bool(chosen))
        self.budget.ahead = 0 if chosen else self._config.prefetch
        self.budget.want(to_make)
        if to_make:
            self.exchange.why_complete = ""
            self.stops_at_failures = True
            self.recorder.call_begun(self.budget.open, timeout)
            self._writer.flush()
        self.active.want(records)

    def halt(self, purpose: Purpose) -> None:
        """Start no more jobs, and cancel running ones."""
        self._make_no_more()
        if purpose is not Purpose.REOPEN:
            self.recorder.call_ended()
            self.budget.drop()
        self.dispatch.halt(purpose)
        if purpose is Purpose.ABANDON:  # nothing is left for a later call
            opened = [r for r in self.records.values() if r.reopened]
            self.dispatch.cancel(opened, whole_run=True)

    def cancel_only(self, records: Iterable[Record]) -> None:
        """Cancel these for ``axsched cancel``; start nothing, and do not wait for the others."""
        self.dispatch.start_nothing_more(Purpose.REOPEN)
        self.dispatch.leave()
        self.dispatch.cancel(records, Purpose.FROM_SHELL)

    def _make_no_more(self) -> None:
        self.budget.stop()
        self.deadline = None

    # ---- a turn ----------------------------------------------------------------------------

    def begin(self, first: Callable[[], None], *, one_turn: bool) -> None:
        """A call begins with ``first``. ``one_turn``: it does not wait for anything."""
        self._one_turn = one_turn
        self._interrupted = self._said_interrupted = False
        self.stops_at_failures = self.budget.to_make > 0
        self.exchange.look_outside = bool(self.active)
        self.budget.begin()
        self._requests.clear()
        self.dispatch.begin()
        first()
        if self.cancel_wanted:  # it came while the call was being prepared
            self.halt(Purpose.ABANDON)

    def due(self, now: float) -> float | None:
        """When there is something to do without a letter (`time.monotonic` s); None: never."""
        # While trials must be made, the runner's capacity may change without a message.
        asking = now + timing.LOOK_INTERVAL if self.budget.to_make else None
        due = (self.deadline, self.dispatch.due(now), asking, self._writer.due)
        return min((moment for moment in due if moment is not None), default=None)

    def turn(self) -> None:
        """Do everything that is possible now."""
        now = time.monotonic()
        if self.deadline is not None and now >= self.deadline:
            self.halt(Purpose.TIMEOUT)
        if termination.name() and not self._interrupted:
            # Before checking the jobs: they may have got the same signal, and their trials stay
            # open.
            self.say_interrupted()
            self.interrupt(hurry=False)
        try:
            self._requests.look(now, self._do)
            if self.budget.to_make or self.active.undecided():
                if not self.dispatch.opened and not self.loop.consulting:
                    self.exchange.advance(self.loop)  # it computes while the runners open
                self.dispatch.open()
            self.dispatch.advance(now, asking=self.exchange.may_ask(self.loop))
            self._end_if_misconfigured()
            self._judge_failures()
            self._requests.answer(self.active.undecided)
            if not self.loop.consulting:
                self.show()
                self.exchange.advance(self.loop)
            self._writer.show(time.monotonic())
        except InvalidInput as error:
            # Running jobs may still end and be recorded, unless the journal itself cannot be
            # written.
            self.loop.fail(error, fatal=self.loop.failure is not None)

    def _end_if_misconfigured(self) -> None:
        """End the call if no job of the run can be submitted; jobs that run may still end."""
        settler = self.dispatch.settler
        if settler.misconfiguration is not None:
            lane, words = settler.misconfiguration
            settler.misconfiguration = None
            self.loop.fail(
                failures.misconfigured(lane.name, words, self._config, self._rundir.path)
            )

    def _judge_failures(self) -> None:
        """Stop like Ctrl-C if too many trials have failed; only a new failure can cause it."""
        if not self.stops_at_failures or self.loop.failure or self.active.halted:
            return
        if all(r.state is not TrialState.FAILED for r in self.active.at(Stage.TELLING)):
            return
        if not (self.budget.to_make or self.active.undecided()):
            return  # there is nothing left to stop
        found = stopping.verdict(
            self.records.values(),
            tolerated_rate=self._config.tolerated_trial_failure_rate,
            least_failures=self._config.min_failed_trials_for_failure_rate_check,
        )
        if found is not None:
            log.error("%d trials have failed: the run is stopped.", len(found.failed))
            if self._one_turn:  # it waits for nothing, so what runs goes on
                self.failed()
            else:
                self.interrupt(hurry=False)
            self.loop.failure = failures.stopped(
                found, self._config, self.budget.left, self._rundir.path
            )

    def _do(self, request: CancelRequest) -> None:
        """Cancel the trials that ``axsched cancel`` in another shell names."""
        if request.trials is None:
            self.halt(Purpose.ABANDON)
        else:
            self.dispatch.cancel(self.records[i] for i in request.trials if i in self.records)

    def failed(self) -> None:
        """The call will end with an error: begin nothing more."""
        self.budget.stop()  # the call's timeout stays
        self.dispatch.start_nothing_more(Purpose.REOPEN)

    def interrupt(self, *, hurry: bool) -> None:
        """Ctrl-C was pressed; ``hurry``: a second time."""
        self._interrupted = True
        if self._leaves_jobs:
            self._make_no_more()
            self.dispatch.start_nothing_more(Purpose.REOPEN)
        else:
            self.halt(Purpose.REOPEN)
        if hurry or self._leaves_jobs:
            self.dispatch.leave()

    def say_interrupted(self) -> None:
        """Tell the user what happens now because of Ctrl-C; on any thread."""
        if self._said_interrupted:
            return
        self._said_interrupted = True
        log.warning(
            "%s: %s%s (%s again: do not wait for them).",
            termination.name() or "Interrupted",
            "leaving the running jobs" if self._leaves_jobs else "cancelling the running jobs",
            ", waiting for the candidate that is being generated" if self.loop.consulting else "",
            termination.name() or "Ctrl-C",
        )

    def show(self) -> None:
        """Tell observers what has happened, while the optimizer thread is idle."""
        while self._events:
            self._observers.notify(self._events.pop(0))

    def end(self) -> None:
        """A call ends. The caller's program may now be idle for hours, and die."""
        self.deadline = None
        self._writer.flush()

    def _made(self, candidate: Candidate, origin: Any) -> Record:
        return self.record(
            candidate.index, candidate.parameters, origin, method=candidate.method, counted=True
        )
