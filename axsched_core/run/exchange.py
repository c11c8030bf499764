"""What the optimizer is told and asked, and what follows from its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from axsched_core.config import SchedulerConfig
from axsched_core.errors import OptimizerError
from axsched_core.jobs import Report
from axsched_core.optimizers.base import Asked, Candidate, Optimizer, Outcome
from axsched_core.run import failures
from axsched_core.run.active import Active
from axsched_core.run.budget import Budget, Wish
from axsched_core.run.consultation import Consultation, consult
from axsched_core.run.dispatch import Dispatch
from axsched_core.run.loop import Loop
from axsched_core.run.outcomes import kind_of
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Record, Stage
from axsched_core.run.threads import Actor
from axsched_core.trials import TrialState


@frozen
class _Question:
    """What one consultation tells and asks."""

    outcomes: Sequence[Outcome]
    reports: Mapping[int, Sequence[Report]]
    """Trial -> the intermediate results that are new."""
    marks: Mapping[int, dict[str, Any]]
    wish: Wish
    alone: bool
    """No trial in progress could help the optimizer to continue."""
    departed: int
    """How many trials have ended, with those in ``outcomes``."""


class Exchange:
    """One conversation with the optimizer after another, on its own thread.

    Args:
        optimizer: proposes the trials.
        config: the scheduler's settings.
        active: the trials in progress.
        budget: how many trials must be made.
        recorder: records what has happened.
        dispatch: the jobs.
        made: returns the record of a new trial: it gets the candidate, and its origin.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        config: SchedulerConfig,
        active: Active,
        budget: Budget,
        recorder: Recorder,
        dispatch: Dispatch,
        made: Callable[[Candidate, Any], Record],
    ) -> None:
        self.optimizer = optimizer
        self.thread = Actor("axsched-optimizer")
        self.look_outside = False
        """True: check at the next opportunity what the user has ended in the optimizer."""
        self.changed_outside = False
        """Set when the user has ended a trial in the optimizer during our work."""
        self.why_complete = ""
        """Why the optimizer has nothing more to propose, in its own words."""
        self._config, self._active, self._budget = config, active, budget
        self._recorder, self._dispatch, self._record_of = recorder, dispatch, made

    @property
    def settled(self) -> bool:
        """True if the optimizer has been told all that is known."""
        return not (
            self.look_outside or self._active.to_tell() or self._dispatch.intermediate.untold()
        )

    def may_ask(self, loop: Loop) -> bool:
        """True if trials must be made, and the call goes on."""
        stopped = self._active.halted is not None or self._active.paused
        return bool(self._budget.to_make) and not stopped and loop.failure is None

    def advance(self, loop: Loop) -> None:
        """Send the optimizer's thread all that is new, and ask for trials for the free places."""
        question = self._question(self._how_many() if self.may_ask(loop) else Wish())
        if question is None:
            return
        if question.outcomes or self.optimizer.in_database:
            # They are on disk before they are told, trials before they are stored.
            self._recorder.writer.flush()
        watched = [record.index for record in self._active]
        judged = [r.index for r in self._active.at(Stage.SUBMITTED) if r.job.progress.last]
        self.look_outside = False
        held, durable = self.optimizer, self._recorder.writer.durable

        def work() -> Consultation:
            return consult(
                held,
                watched=watched,
                outcomes=question.outcomes,
                reports=question.reports,
                judged=judged,
                annotations={i: {"axsched": mark} for i, mark in question.marks.items()},
                wish=question.wish,
                alone=question.alone,
                origins=durable,
            )

        loop.hand_over(
            self.thread, work, lambda future: self._answered(future.result(), question, loop)
        )

    def _question(self, wish: Wish) -> _Question | None:
        outcomes = []
        for record in self._active.to_tell():
            kind = kind_of(record.state, record.cause, self._config.failed_points)
            assert kind is not None, f"trial {record.index} has not ended"
            outcomes.append(Outcome(record.index, kind, record.results or {}, record.message))
        reports, marks = self._dispatch.intermediate.untold(), self._recorder.marks
        if not (outcomes or reports or wish or marks or self.look_outside):
            return None
        alone = not self._active.undecided()
        departed = self._active.departed + len(outcomes)
        return _Question(outcomes, reports, marks, wish, alone, departed)

    def _how_many(self) -> Wish:
        opened = self._dispatch.opened
        wish = self._budget.to_ask(
            ended=self._active.departed,
            waiting=len(self._active.at(Stage.WAITING)),
            running=len(self._active.at(Stage.SUBMITTED)),
            free_slots=self._dispatch.free_slots() if opened else 1,
        )
        # How many places there are is not known before the runners are open.
        return wish if opened else Wish(in_bulk=wish.in_bulk)

    # ---- what follows --------------------------------------------------------------------------

    def _answered(self, found: Consultation, question: _Question, loop: Loop) -> None:
        self._end_closed(found.closed)
        if found.told:
            self._recorder.marks_taken(question.marks)
            self._dispatch.intermediate.told(question.reports)
            for outcome in question.outcomes:
                self._was_told(outcome.index)
        for index, why in found.stops.items():
            if (record := self._active.get(index)) is not None:
                self._dispatch.stop_early(record, why)
        if found.error is not None:
            error = OptimizerError(
                f"The optimizer {found.failed_to}: {type(found.error).__name__}: {found.error}"
            )
            error.__cause__ = found.error
            loop.fail(error, fatal=not found.told)
            return
        for candidate in found.asked.candidates:
            self._made(candidate, found.origins.get(candidate.index))
        if not self._is_complete(found.asked, question.alone):
            self._count(found, question, loop)

    def _end_closed(self, closed: Mapping[int, str]) -> None:
        """End the trials that the user has ended in the optimizer.

        A result that comes after the user's decision stays in its folder; the optimizer is not
        told.
        """
        for index, word in closed.items():
            record = self._active.get(index)
            if record and (record in self._active.to_tell() or not record.state.ended):
                self.changed_outside = True
                words = f"ended in the optimizer: {word}"
                self._dispatch.settler.end_by_hand(
                    record, TrialState.CLOSED, words, record.results, told=True
                )

    def _was_told(self, index: int) -> None:
        record = self._active.get(index)
        if record and record.stage is Stage.TELLING:
            self._dispatch.settler.retire(record)
        elif record:  # its job is still being stopped
            record.untold = False

    def _made(self, candidate: Candidate, origin: Any) -> None:
        record = self._record_of(candidate, origin)
        self._budget.take(record.index)
        self._active.want([record])
        if self._active.halted is not None:
            self._dispatch.settler.stopped_before_start(record)

    def _is_complete(self, asked: Asked, alone: bool) -> bool:
        # While a trial is in progress it may still fail, and its point may be proposed again.
        if not (asked.complete and alone and not asked.candidates):
            return False
        if self._budget.to_make:
            self.why_complete = f"The optimization is complete: {asked.reason}"
            self._recorder.say(self.why_complete)
        self._budget.drop()
        self._recorder.call_ended()
        return True

    def _count(self, found: Consultation, question: _Question, loop: Loop) -> None:
        made, wish = len(found.asked.candidates), question.wish
        if wish:
            self._budget.asked(
                wish=wish,
                made=made,
                in_bulk=found.asked.in_bulk,
                ended=question.departed,
                meanwhile=len(self._active.to_tell()),
            )
        if wish.n and question.alone and not made and not self._active.halted:
            loop.fail(failures.stuck(found.asked.reason, found.held_open))
