"""The engine's memory of trials and of the attempts to evaluate them."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field

from axsched_core.jobs import (
    Cause,
    JobHandle,
    JobRequest,
    JobState,
    JobStatus,
    Metrics,
    Parameters,
    Resources,
)
from axsched_core.objectives.intermediate import Progress
from axsched_core.run.lane import Lane
from axsched_core.run.retry import Ended
from axsched_core.trials import Trial, TrialState


class Purpose(enum.Enum):
    """Why the engine cancels a job, which decides the state of its trial."""

    ABANDON = "cancelled by the user"
    FROM_SHELL = "cancelled by axsched cancel"
    TIMEOUT = "the run's timeout"
    TIME_LIMIT = "the job's time limit"
    REOPEN = "the driver was interrupted"
    CLOSED = "the trial was ended in the optimizer"
    EARLY = "stopped early"


class Stage(enum.Enum):
    """The stage of a trial for the engine."""

    IDLE = "no job, none wanted"
    WAITING = "a job must be submitted"
    SUBMITTED = "the backend has the job"
    FETCHING = "the process ended well; its result is awaited"
    TELLING = "the outcome is decided, the optimizer must be told"
    ENDED = "over"


class Submission(enum.Enum):
    """What is known about a job's submission."""

    UNSENT = "prepared; the runner does not have it yet"
    IN_DOUBT = "given to the runner; it is not known whether the backend accepted it"
    ACCEPTED = "the backend has it, or had it"
    REFUSED = "the backend does not have it"


@define(eq=False)
class Attempt:
    """One attempt, with the engine's data about it. Times are `time.monotonic` seconds."""

    request: JobRequest
    lane: Lane
    """The lane where it was, or will be, submitted."""
    handle: JobHandle | None = None
    """The runner's, once the job is `Submission.ACCEPTED`."""
    submission: Submission = Submission.UNSENT
    status: JobStatus = field(factory=lambda: JobStatus(JobState.QUEUED))
    running_since: float | None = None
    """Later by the time for which it was suspended."""
    suspended_since: float | None = None
    result_due: float = 0.0
    """When to stop waiting for a late result."""
    next_fetch: float = 0.0
    over: bool = False
    """True once the journal has its end."""
    waits_for: str | None = ""
    """Why it waits in the backend's queue, as in the journal; None: it runs."""
    reasons: int = 0
    """How many reasons the journal has."""
    next_reason: float = 0.0
    """When the next one may be written."""
    signalled_at: float | None = None
    """When it was first seen that a signal had ended it that this program may have got too."""
    inherited: bool = False
    """A driver before this one submitted it."""
    stopping: bool = False
    """It was cancelled because this driver or an earlier one stopped, and its trial stays open."""
    progress: Progress = field(factory=Progress)
    """Its intermediate results."""
    stop_reason: str = ""
    """Why it is stopped early, in the optimizer's words."""
    purpose: Purpose | None = None
    """Set when it must be cancelled."""
    cancel_sent: bool = False
    cancel_since: float | None = None
    """Since when it must be cancelled."""


@define(eq=False)
class Record:
    """One trial in the engine's memory."""

    index: int
    parameters: Parameters
    stage: Stage = Stage.IDLE
    latest: Attempt | None = None
    """Its last job; None if it never had one, or is over."""
    method: str = ""
    """As `Candidate.method`."""
    last_folder: str | None = None
    """Of its last job, when it is over: a run may have very many trials."""
    attempts: int = 0
    ended: tuple[Ended, ...] = ()
    """The attempts that have failed and count. Those that Ctrl-C has stopped, that were refused for
    now, or that had not begun when their driver died do not count."""
    grown: Resources | None = None
    """The least that the next attempt gets; None: the objective's resources."""
    avoid: tuple[str, ...] = ()
    """Hosts on which an attempt failed because of the machine."""
    refusals: int = 0
    """How often its job was refused for now, in a row."""
    refused_since: float = 0.0
    """Since when it is refused. It is submitted again under the same key."""
    not_before: float = 0.0
    """The next job is not submitted before this moment."""
    state: TrialState = TrialState.CANDIDATE
    cause: Cause | None = None
    message: str = ""
    results: Metrics | None = None
    notes: Any = None
    orphaned: bool = False
    """It is not known whether a driver that has died submitted its last job."""
    past: bool = False
    """It had ended before the run was stopped because its trials failed, or before another
    objective was set, or it is past data: it says nothing about the current objective."""
    given: bool = False
    """It is past data, which the user gave in this session: observers are not told about it."""
    untold: bool = False
    """The user has ended it by hand, and its job may still run: the optimizer is told at the next
    consultation, before the job has ended."""
    reopened: bool = False
    """Its job was stopped (Ctrl-C), or could not be submitted; the next call runs it."""

    @property
    def job(self) -> Attempt:
        """Its last job; only for trials that have had one."""
        assert self.latest is not None
        return self.latest

    @property
    def in_doubt(self) -> bool:
        """True if a job was submitted and it is not known whether the backend accepted it."""
        return self.latest is not None and self.latest.submission is Submission.IN_DOUBT

    @property
    def may_have_a_job(self) -> bool:
        """True while the backend may have its job, or the job's result is still missing."""
        return self.stage in (Stage.SUBMITTED, Stage.FETCHING) or (
            self.stage is Stage.WAITING and self.in_doubt
        )

    @property
    def purpose(self) -> Purpose | None:
        """Why its job is being cancelled; None if it is not, or if the job is over."""
        return None if self.latest is None or self.latest.over else self.latest.purpose

    @property
    def unsent(self) -> bool:
        """True if it waits for a job that the backend certainly does not have."""
        return self.stage is Stage.WAITING and not self.in_doubt

    @property
    def folder(self) -> Path | None:
        """The folder of its last job."""
        if self.latest is None:
            return None if self.last_folder is None else Path(self.last_folder)
        return self.latest.request.folder

    def forget_job(self) -> None:
        """It is over, and nobody asks for its last job again."""
        if self.latest is not None:
            self.last_folder, self.latest = str(self.latest.request.folder), None

    def snapshot(self) -> Trial:
        """The trial for users."""
        return Trial(
            index=self.index,
            parameters=dict(self.parameters),
            state=self.state,
            cause=self.cause,
            message=self.message,
            results=self.results,
            notes=self.notes,
            folder=self.folder,
            attempts=self.attempts,
            method=self.method,
        )


_ENDED = tuple(state for state in TrialState if state.ended)
_BY_HAND = (TrialState.SUCCEEDED, TrialState.CANCELLED, TrialState.CLOSED)
"""The states of a trial that the user has ended, here or in the optimizer."""
_RUNNING = (Purpose.TIME_LIMIT, Purpose.EARLY)
"""Why a single job is cancelled, while the others go on."""
_STOPPED = (Purpose.ABANDON, Purpose.FROM_SHELL, Purpose.TIMEOUT, Purpose.REOPEN)

LEGAL: Mapping[tuple[Stage, TrialState], tuple[Purpose | None, ...]] = {
    (Stage.IDLE, TrialState.CANDIDATE): (None,),
    (Stage.WAITING, TrialState.QUEUED): (None, *_STOPPED),
    (Stage.SUBMITTED, TrialState.QUEUED): (None, *_STOPPED, *_RUNNING),
    (Stage.SUBMITTED, TrialState.RUNNING): (None, *_STOPPED, *_RUNNING),
    (Stage.FETCHING, TrialState.RUNNING): (None, *_STOPPED, *_RUNNING),
    **{
        (stage, state): (Purpose.CLOSED,)
        for stage in (Stage.WAITING, Stage.SUBMITTED)
        for state in _BY_HAND
    },
    **{(stage, state): (None,) for stage in (Stage.TELLING, Stage.ENDED) for state in _ENDED},
}
"""All combinations that a trial can have when something is recorded: its stage, its state, and why
its job is being cancelled (`Record.purpose`). docs/architecture.md shows this table."""


def check_legal(record: Record) -> None:
    """Raise AssertionError if a trial has an impossible combination."""
    purposes = LEGAL.get((record.stage, record.state), ())
    assert record.purpose in purposes, (
        f"trial {record.index} is {record.stage.name}, {record.state.value}, "
        f"cancelled for {record.purpose}"
    )


def handles_of(records: Iterable[Record]) -> list[JobHandle]:
    """The handles of their jobs, if they have one."""
    return [handle for record in records if (handle := record.job.handle) is not None]
