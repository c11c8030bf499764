"""What `view` shows of a run: its trials, their jobs, the calls that made them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import Factory, define

from axsched_core.trials import TrialState

if TYPE_CHECKING:
    from axsched_core.jobs import Metrics, Parameters

ENDED = frozenset(state.value for state in TrialState if state.ended)
"""The names of the states that a trial never leaves."""


@define
class Attempt:
    """One job of a trial. Times are seconds since the epoch; None: unknown, or not yet."""

    number: int
    """1, 2, ...; a number may be missing if a driver died."""
    key: str
    """The job's key; its folder is ``jobs/<trial, five digits>-<number>``."""
    runner: str = ""
    """The name of the runner that has it, or is about to get it."""
    state: str = "QUEUED"
    """A word of `JobState`: QUEUED from the moment before it is submitted."""
    cause: str = ""
    """A word of `Cause`; "" if there is none."""
    message: str = ""
    """How it ended, as text."""
    waits_for: str = ""
    """Why it is still queued, in the backend's words; "" if it says nothing."""
    remedy: str = ""
    """What a person must do so that it starts; "" if it is enough to wait."""
    backend_id: str = ""
    """The backend's name for the job; "" until the backend has it, or if it has none."""
    backend_word: str = ""
    """The backend's own word for how it ended."""
    exit_code: int | None = None
    signal: int | None = None
    host: str = ""
    """The machine that ran it."""
    max_rss_bytes: int | None = None
    """The most memory that it held at one moment."""
    submitted_at: float | None = None
    started_at: float | None = None
    """By the clock of the machine that ran it, if that is known."""
    ended_at: float | None = None
    """As `started_at`; otherwise when the driver saw it."""
    again: bool = False
    """True: its trial gets another job."""
    reports: dict[float, Metrics] = Factory(dict)
    """Step -> its intermediate results; only some, if there are many."""


@define
class Trial:
    """One trial. It is changed by `Run.look`."""

    index: int
    parameters: Parameters
    made_at: float | None = None
    """Seconds since the epoch."""
    method: str = ""
    """What has made it, such as the name of a generation strategy's step; "": the user, or not
    known."""
    state: str = "CANDIDATE"
    """A word of `TrialState`. CANDIDATE: it has no job, or none any more."""
    cause: str = ""
    """A word of `Cause`: why it failed or was cancelled; "" if there is none."""
    message: str = ""
    """The same as text."""
    attempts: list[Attempt] = Factory(list)
    """Its jobs, in order."""
    results: Metrics | None = None
    """Metric -> (mean, standard error or None). Of an EARLY_STOPPED trial: its last intermediate
    results."""
    notes: Any = None
    """What the result held under ``notes``."""
    ended_at: float | None = None
    """When the outcome was recorded, in seconds since the epoch."""
    past: bool = False
    """True: it had ended before another objective was set, or before the run was stopped because
    its trials failed; or it is past data."""

    @property
    def ended(self) -> bool:
        """True if its state is final."""
        return self.state in ENDED

    @property
    def waits_for(self) -> str:
        """Why its job does not run yet, in the backend's words; "" if not known."""
        return self.attempts[-1].waits_for if self.attempts and self.state == "QUEUED" else ""

    @property
    def remedy(self) -> str:
        """What a person must do so that its job starts; "" if it is enough to wait."""
        return self.attempts[-1].remedy if self.waits_for else ""


@define
class Call:
    """One call that makes trials (``run_optimization``, ``finish``)."""

    to_make: int
    """Trials that it should make."""
    began_at: float | None = None
    """Seconds since the epoch."""
    host: str = ""
    """The driver's machine."""
    timeout: float | None = None
    """Seconds that it may take; None: no limit."""
    made: int = 0
    """Trials that it has made so far."""
    ended_at: float | None = None
    """None: it has not ended (it still runs, or was interrupted)."""
