"""When failing trials end a run: the verdict by itself."""

from __future__ import annotations

import pytest

from axsched_core.jobs import Cause
from axsched_core.optimizers.base import OutcomeKind
from axsched_core.run.outcomes import kind_of
from axsched_core.run.records import Record
from axsched_core.run.stopping import verdict
from axsched_core.trials import TrialState

F, S, R, Q, C = (
    TrialState.FAILED,
    TrialState.SUCCEEDED,
    TrialState.RUNNING,
    TrialState.QUEUED,
    TrialState.CANCELLED,
)


def trials(*states: TrialState, cause: Cause = Cause.EXCEPTION) -> list[Record]:
    made = [Record(index, {}, state=state) for index, state in enumerate(states)]
    for record in made:
        record.cause = cause if record.state is F else None
    return made


@pytest.mark.parametrize(
    ("records", "rate", "least", "failed"),
    [
        (trials(F, F, F, F), 0.99, 5, 0),
        (trials(F, F, F, F, F), 0.99, 5, 5),
        (trials(F, F, F, F, F), 1.0, 5, 0),
        (trials(S, *[F] * 60), 0.99, 5, 0),
        (trials(S, S, F, F), 0.5, 1, 0),
        (trials(S, S, F, F, F), 0.5, 1, 3),
        (trials(S, F), 0.0, 1, 1),
        (trials(S, S), 0.0, 1, 0),
        (trials(*[F] * 5, C, C, Q, Q, cause=Cause.LOAD_ERROR), 0.99, 5, 5),
    ],
)
def test_failures_are_counted_against_what_has_ended(records, rate, least, failed):
    found = verdict(records, tolerated_rate=rate, least_failures=least)
    assert len(found.failed if found else ()) == failed


@pytest.mark.parametrize("cause", [Cause.LOST, Cause.NODE_FAIL, Cause.PREEMPTED])
def test_faults_of_the_machines_say_nothing_about_the_objective(cause):
    lost = trials(*[F] * 20, cause=cause)
    assert verdict(lost, tolerated_rate=0.5, least_failures=1) is None
    raised = [Record(20, {}, state=F, cause=Cause.EXCEPTION)]
    found = verdict([*lost, *raised], tolerated_rate=0.99, least_failures=1)
    assert found is not None
    assert (found.failed, found.finished) == (tuple(raised), 1)


def test_quick_failures_do_not_end_a_run_whose_older_trials_still_run():
    assert verdict(trials(F, R, F, F, R, F, F), tolerated_rate=0.99, least_failures=5) is None
    # Those that began after the last failure say nothing.
    assert verdict(trials(F, F, F, F, F, R, R), tolerated_rate=0.99, least_failures=5)


def test_what_ended_before_the_objective_was_repaired_does_not_count():
    records = trials(F, F, F, F, F, S, S, S)
    for record in records:
        record.past = True
    records.append(Record(8, {}, state=F, cause=Cause.EXCEPTION))
    assert verdict(records, tolerated_rate=0.99, least_failures=2) is None
    records.append(Record(9, {}, state=F, cause=Cause.EXCEPTION))
    found = verdict(records, tolerated_rate=0.99, least_failures=2)
    assert found is not None
    assert [record.index for record in found.failed] == [8, 9]


@pytest.mark.parametrize("cause", Cause)
def test_what_is_told_of_a_failure_depends_on_whose_fault_it_was(cause):
    may_return = {Cause.LOST, Cause.NODE_FAIL, Cause.PREEMPTED, Cause.CANCELLED}
    may_return |= {Cause.LOAD_ERROR, Cause.SUBMIT_REFUSED, Cause.CONFIGURATION}
    told = OutcomeKind.FAILED if cause in may_return else OutcomeKind.ABANDONED
    assert kind_of(F, cause, "avoid") is told
    assert kind_of(F, cause, "may_return") is OutcomeKind.FAILED
    assert kind_of(F, cause, "avoid", past=True) is OutcomeKind.FAILED
    assert kind_of(C, cause, "may_return") is OutcomeKind.ABANDONED
    assert kind_of(C, None, "avoid") is OutcomeKind.STALE
    assert kind_of(S, None, "avoid") is OutcomeKind.COMPLETED
    assert kind_of(R, None, "avoid") is None
