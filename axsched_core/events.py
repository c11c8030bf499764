"""What observers are told: one class for each kind of event.

An observer is given each event as it comes, and looks at its class:

    match event:
        case TrialEnded(trial_index=index, state=TrialState.SUCCEEDED, results=results):
            print(index, results)

A later minor version may have further classes, and these may have further fields. An observer
ignores the classes that it does not know. `Event`, `TrialEvent` and `JobEvent` are never sent
themselves: they stand for all events, all about a trial, and all about a job.

Values of events are plain data. They are not changed after the event was sent.
"""

from __future__ import annotations

import time as clock
from typing import Any

from attrs import field, frozen

from axsched_core.jobs import Cause, Metrics, Parameters
from axsched_core.trials import TrialState


@frozen(kw_only=True)
class Event:
    """Something has happened; what all events have."""

    time: float = field(factory=clock.time)
    """When, in seconds since the epoch."""


@frozen(kw_only=True)
class TrialEvent(Event):
    """Something has happened to a trial; what all events about a trial have."""

    trial_index: int
    """The trial's index in the optimizer."""


@frozen(kw_only=True)
class JobEvent(TrialEvent):
    """Something has happened to a job; what all events about a job have."""

    key: str
    """The job's key. A trial that is tried again has a new job under a new key."""


# ---- the run ------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Message(Event):
    """The scheduler has something to say that the user is to see."""

    message: str
    """One line of text, such as where the outputs are."""


@frozen(kw_only=True)
class RunStarted(Event):
    """A call begins that waits for trials, or that runs a batch. Calls that move trials on
    without waiting (`run_trial`, `monitor_trials`) send none."""

    trials: int
    """How many trials the call is to bring to an end: those that it makes, those that it takes up
    again, and those that are on the way."""


@frozen(kw_only=True)
class RunEnded(Event):
    """A call that waits for trials is at its end, whether it returns or raises. It may come without
    a `RunStarted`: where the call fails early, and from a `run_trial` that waits."""


# ---- a trial ------------------------------------------------------------------------------------


@frozen(kw_only=True)
class TrialCreated(TrialEvent):
    """The optimizer has made a trial that a call has asked for. Trials that the user makes
    (`get_next_trial`, a batch's `add_trial`) send none."""

    parameters: Parameters
    """Its parameters, by name."""


@frozen(kw_only=True)
class TrialEnded(TrialEvent):
    """A trial that was on the way is over, and the optimizer knows how. It comes once a trial."""

    state: TrialState
    """How it ended: SUCCEEDED, FAILED, CANCELLED or CLOSED."""
    cause: Cause | None = None
    """Why it failed or was cancelled; None where it succeeded, or was ended by the user."""
    message: str = ""
    """The same in words; empty where it succeeded."""
    results: Metrics | None = None
    """Metric -> (mean, standard error or None); None where it has no result."""
    notes: Any = None
    """What the result held under ``notes``, as JSON has it; None where it held none."""


@frozen(kw_only=True)
class TrialReopened(TrialEvent):
    """A trial has no job any more and stays open: Ctrl-C or an error has ended the call. The next
    call runs it again."""


# ---- a job --------------------------------------------------------------------------------------


@frozen(kw_only=True)
class JobSubmitted(JobEvent):
    """The backend has taken a job. Also sent where a resumed run finds a job of the driver
    before it."""


@frozen(kw_only=True)
class JobWaiting(JobEvent):
    """The backend has refused a job for now, and the same job is submitted again later. Sent at
    each refusal."""

    message: str
    """Why, in the backend's words."""


@frozen(kw_only=True)
class JobStarted(JobEvent):
    """A job has begun to run. A job that ends before anybody saw it run sends none."""

    message: str = ""
    """What the backend says of it; mostly empty."""


@frozen(kw_only=True)
class JobRequeued(JobEvent):
    """The backend has stopped a job that ran, and will start the same job again."""

    message: str = ""
    """Why, in the backend's words; may be empty."""


@frozen(kw_only=True)
class JobRetried(JobEvent):
    """An attempt has failed, and its trial gets another one, under a new key."""

    cause: Cause | None = None
    """Why it failed; None where nobody knows."""
    message: str
    """The same in words."""


# ---- the backend --------------------------------------------------------------------------------


@frozen(kw_only=True)
class BackendTrouble(Event):
    """A call to a runner has failed. It is made again after a pause; no job changes its state."""

    runner: str
    """The runner's name."""
    hook: str
    """The hook that failed, such as ``axsched_poll``."""
    message: str
    """What it raised, in words."""


@frozen(kw_only=True)
class BackendRecovered(Event):
    """A hook of a runner that was in trouble works again."""

    runner: str
    """The runner's name."""
    hook: str
    """The hook, such as ``axsched_poll``."""
