"""What observers receive: one class for each kind of event.

An observer receives each event when it happens, and checks its class:

    match event:
        case TrialEnded(trial_index=index, state=TrialState.SUCCEEDED, results=results):
            print(index, results)

A later minor version may have further classes, and these may have further fields. An observer
ignores the classes that it does not know. `Event`, `TrialEvent` and `JobEvent` are never sent
themselves: they are the bases of all events, of those about a trial, and of those about a job.

Values of events are plain data. They do not change after the event was sent.
"""

from __future__ import annotations

import time as clock
from typing import Any

from attrs import field, frozen

from axsched_core.jobs import Cause, Metrics, Parameters
from axsched_core.trials import TrialState


@frozen(kw_only=True)
class Event:
    """The base of all events."""

    time: float = field(factory=clock.time)
    """When, in seconds since the epoch."""


@frozen(kw_only=True)
class TrialEvent(Event):
    """The base of all events about a trial."""

    trial_index: int
    """The trial's index in the optimizer."""


@frozen(kw_only=True)
class JobEvent(TrialEvent):
    """The base of all events about a job."""

    key: str
    """The job's key. A trial that is tried again has a new job under a new key."""


# ---- the run ------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Message(Event):
    """A message from the scheduler to the user."""

    message: str
    """One line of text, such as where the outputs are."""


@frozen(kw_only=True)
class RunStarted(Event):
    """A call that waits for trials begins. Calls that do not wait (`monitor_trials`, a batch with
    ``synchronous=False``) do not send it."""

    trials: int
    """How many trials are in progress or will be: those that the call makes, those that it runs
    again, and those of earlier calls."""


@frozen(kw_only=True)
class RunEnded(Event):
    """A call that waits for trials ends, whether it returns or raises. It follows each
    `RunStarted`."""


# ---- a trial ------------------------------------------------------------------------------------


@frozen(kw_only=True)
class TrialCreated(TrialEvent):
    """The optimizer has made a trial that a call has asked for. Trials that the user makes
    (`get_next_trial`, a batch's `add_trial`) do not send it."""

    parameters: Parameters
    """Its parameters, by name."""


@frozen(kw_only=True)
class TrialEnded(TrialEvent):
    """A trial that was in progress is over, and the optimizer knows how. Sent once for each
    trial; not for past data (`AxScheduler.attach_data`)."""

    state: TrialState
    """How it ended: SUCCEEDED, FAILED, CANCELLED, EARLY_STOPPED or CLOSED."""
    cause: Cause | None = None
    """Why it failed or was cancelled; None if it succeeded, was stopped early, or was ended by the
    user."""
    message: str = ""
    """The same as text; empty if it succeeded. Why it was stopped early."""
    results: Metrics | None = None
    """Metric -> (mean, standard error or None); None if it has no result."""
    notes: Any = None
    """What the result held under ``notes``, as JSON values; None if there were none."""


@frozen(kw_only=True)
class TrialReopened(TrialEvent):
    """A trial has no job any more but stays open: Ctrl-C or an error has ended the call. The next
    call runs it again."""


# ---- a job --------------------------------------------------------------------------------------


@frozen(kw_only=True)
class JobSubmitted(JobEvent):
    """The backend has accepted a job. Also sent if a resumed run finds a job of the driver before
    it."""


@frozen(kw_only=True)
class JobWaiting(JobEvent):
    """A job waits: the backend has refused it for now, and the same job is submitted again later;
    or the backend has it in its queue. Sent at each refusal, and when the reason of a queued job
    changes (not at every one of many changes)."""

    message: str
    """Why, in the text of the backend."""
    remedy: str = ""
    """What a person must do so that it starts; "" if it is enough to wait."""


@frozen(kw_only=True)
class JobStarted(JobEvent):
    """A job has begun to run. Not sent for a job that ends before anyone saw it run."""

    message: str = ""
    """What the backend says about it; mostly empty."""


@frozen(kw_only=True)
class JobRequeued(JobEvent):
    """The backend has stopped a job that ran, and will start the same job again."""

    message: str = ""
    """Why, in the text of the backend; may be empty."""


@frozen(kw_only=True)
class JobRetried(JobEvent):
    """An attempt has failed, and its trial gets another one, under a new key."""

    cause: Cause | None = None
    """Why it failed; None if the cause is not known."""
    message: str
    """The same as text."""


@frozen(kw_only=True)
class IntermediateResult(JobEvent):
    """A running job has reported intermediate results (`axsched_core.report`). If a job reports
    more than a thousand times, not every report is sent."""

    step: float
    """How far the evaluation is."""
    results: Metrics
    """Metric -> (mean, standard error or None)."""


# ---- the backend --------------------------------------------------------------------------------


@frozen(kw_only=True)
class BackendTrouble(Event):
    """A call to a runner has failed. It is repeated after a pause; no job changes its state."""

    runner: str
    """The runner's name."""
    hook: str
    """The hook that failed, such as ``axsched_poll``."""
    message: str
    """What it raised, as text."""


@frozen(kw_only=True)
class BackendRecovered(Event):
    """A hook of a runner works again after it failed."""

    runner: str
    """The runner's name."""
    hook: str
    """The hook, such as ``axsched_poll``."""
