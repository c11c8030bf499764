"""What is done in a turn: ask -> submit -> watch -> fetch -> tell.

The `Loop` makes the turns, on the engine's thread. One message tells the optimizer all outcomes
that arrived together, and asks for as many candidates as the `Budget` says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from axsched_core.config import SchedulerConfig
from axsched_core.errors import InvalidInput, OptimizerError
from axsched_core.events import Event
from axsched_core.journal.cancel_request import CancelRequest
from axsched_core.journal.rundir import RunDirectory
from axsched_core.journal.writer import Writer
from axsched_core.observers.manager import Observers
from axsched_core.optimizers.base import Candidate, Optimizer, Outcome
from axsched_core.run import failures, stopping, termination, timing
from axsched_core.run.active import Active
from axsched_core.run.attempts import Attempts
from axsched_core.run.budget import Budget, Wish
from axsched_core.run.consultation import Consultation, consult
from axsched_core.run.dispatch import Dispatch
from axsched_core.run.lane import Lane
from axsched_core.run.loop import Loop
from axsched_core.run.outcomes import kind_of
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Purpose, Record, Stage
from axsched_core.run.requests import Requests
from axsched_core.run.threads import Actor
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
        self.optimizer = optimizer
        self.optimizer_thread = Actor("axsched-optimizer")
        self.records: dict[int, Record] = {}
        self.budget = Budget()
        self.cancel_wanted = False
        """Set by `cancel`, for a call in preparation; cleared when the preparation starts."""
        self.deadline: float | None = None
        """`time.monotonic` seconds; at this moment everything is cancelled."""
        self.stops_at_failures = False
        """True while a call makes trials: it stops if too many fail."""
        self.changed_outside = False
        """Set when the user has ended a trial in the optimizer during our work."""

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
        self._rundir, self._config = rundir, config
        self._leaves_jobs = config.on_exit == "leave"
        self._requests = Requests(rundir, writer)
        self._dismissed = self._look_outside = self._one_turn = False
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
            self.optimizer_thread.dismiss()

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
            self.optimizer_thread.rest(timing.CTRL_C_LAG if termination.name() else None)

    @property
    def has_jobs(self) -> bool:
        """True while trials are in progress."""
        return bool(self.active) and not self.loop.over

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
        return not self._look_outside and not self.active.to_tell()

    @property
    def idle(self) -> bool:
        """True when no trial is in progress and no more must be made."""
        return not self.budget.to_make and self.at_rest

    def record(
        self, index: int, parameters: Mapping[str, Any], origin: Any = None, counted: bool = False
    ) -> Record:
        """The record of a trial; if there is none, it is made and written down."""
        if index not in self.records:
            self.records[index] = Record(index, dict(parameters))
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
        self.optimizer = optimizer
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
        self._look_outside = bool(self.active)
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
                    self._consult()  # the optimizer computes while the runners open
                self.dispatch.open()
            self.dispatch.advance(now, asking=self._may_ask())
            self._end_if_misconfigured()
            self._judge_failures()
            self._requests.answer(self.active.undecided)
            if not self.loop.consulting:
                self.show()
                self._consult()
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

    # ---- the optimizer -----------------------------------------------------------------

    def _consult(self) -> None:
        """Send the optimizer thread all outcomes, and ask for candidates for the free places."""
        outcomes = []
        for r in self.active.to_tell():
            kind = kind_of(r.state, r.cause, self._config.failed_points)
            assert kind is not None, f"trial {r.index} has not ended"
            outcomes.append(Outcome(r.index, kind, r.results or {}, r.message))
        wish = self._how_many()
        marks = self.recorder.marks
        if not (outcomes or wish or marks or self._look_outside):
            return
        if outcomes or self.optimizer.in_database:
            self._writer.flush()  # they are on disk before they are told, trials before stored
        watched = [record.index for record in self.active]
        alone = not self.active.undecided()
        self._look_outside = False
        held, departed = self.optimizer, self.active.departed + len(outcomes)

        def work() -> Consultation:
            return consult(
                held,
                watched=watched,
                outcomes=outcomes,
                annotations={index: {"axsched": mark} for index, mark in marks.items()},
                wish=wish,
                alone=alone,
                origins=self._writer.durable,
            )

        told = [outcome.index for outcome in outcomes]
        self.loop.hand_over(
            self.optimizer_thread,
            work,
            lambda future: self._consulted(future.result(), told, marks, wish, alone, departed),
        )

    def _may_ask(self) -> bool:
        return (
            bool(self.budget.to_make) and self.active.halted is None and self.loop.failure is None
        )

    def _how_many(self) -> Wish:
        if not self._may_ask():
            return Wish()
        opened = self.dispatch.opened
        wish = self.budget.to_ask(
            ended=self.active.departed,
            waiting=len(self.active.at(Stage.WAITING)),
            running=len(self.active.at(Stage.SUBMITTED)),
            free_slots=self.dispatch.free_slots() if opened else 1,
        )
        # How many places there are is not known before the runners are open.
        return wish if opened else Wish(in_bulk=wish.in_bulk)

    def _consulted(
        self,
        found: Consultation,
        told: list[int],
        marks: Mapping[int, dict[str, Any]],
        wish: Wish,
        alone: bool,
        departed: int,
    ) -> None:
        for index, word in found.closed.items():
            record = self.active.get(index)
            # A result that comes after the user's decision stays in its folder; the optimizer is
            # not told.
            if record and (record in self.active.to_tell() or not record.state.ended):
                self.changed_outside = True
                words = f"ended in the optimizer: {word}"
                self.dispatch.settler.end_by_hand(
                    record, TrialState.CLOSED, words, record.results, told=True
                )
        if found.told:
            self.recorder.marks_taken(marks)
            for index in told:
                if (record := self.active.get(index)) and record.stage is Stage.TELLING:
                    self.dispatch.settler.retire(record)
                elif record:  # its job is still being stopped
                    record.untold = False
        if found.error is not None:
            what = "could not generate a candidate" if found.told else "could not take the results"
            error = OptimizerError(
                f"The optimizer {what}: {type(found.error).__name__}: {found.error}"
            )
            error.__cause__ = found.error
            self.loop.fail(error, fatal=not found.told)
            return
        asked = found.asked
        for candidate in asked.candidates:
            self._made(candidate, found.origins.get(candidate.index))
        # While a trial is in progress it may still fail, and its point may be proposed again.
        if asked.complete and alone and not asked.candidates:
            if self.budget.to_make:
                self.recorder.say(f"The optimization is complete: {asked.reason}")
            self.budget.drop()
            self.recorder.call_ended()
            return
        made = len(asked.candidates)
        if wish:
            self.budget.asked(
                wish=wish,
                made=made,
                in_bulk=asked.in_bulk,
                ended=departed,
                meanwhile=len(self.active.to_tell()),
            )
        if wish.n and alone and not made and not self.active.halted:
            self.loop.fail(failures.stuck(asked.reason, found.held_open))

    def _made(self, candidate: Candidate, origin: Any) -> None:
        record = self.record(candidate.index, candidate.parameters, origin, counted=True)
        self.budget.take(record.index)
        self.active.want([record])
        if self.active.halted is not None:
            self.dispatch.settler.stopped_before_start(record)
