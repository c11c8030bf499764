"""One runner of a run: its session, its pauses, and how many jobs it takes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence

from axsched_core.errors import AxschedError, RunnerError
from axsched_core.jobs import (
    CancelOutcome,
    Capability,
    JobHandle,
    JobRequest,
    JobResult,
    JobStatus,
    NotReady,
    NotSubmitted,
    RunnerContext,
    SubmitError,
)
from axsched_core.runners.calls import Calls
from axsched_core.runners.session import RunnerSession

log = logging.getLogger("axsched")


class Lane:
    """One runner of a run. Calls to it answer None while the backend is in trouble.

    Args:
        session: the runner.
        interval: seconds; the usual pause between two polls.
        on_trouble: told of each trouble: the lane's name, the hook, and what it raised, in words.
        on_recovery: told which hook works again: the lane's name, the hook.
        name: by which the journal tells the lanes of one run apart; "": the runner's.
    """

    def __init__(
        self,
        session: RunnerSession,
        interval: float,
        on_trouble: Callable[[str, str, str], None],
        on_recovery: Callable[[str, str], None],
        *,
        name: str = "",
    ) -> None:
        self.name = name or session.info.name
        self.runner = session.info
        """What the runner says about itself."""
        self.last_submission = -math.inf
        """When a job was last submitted here (`time.monotonic` seconds)."""
        self.calls = Calls(
            self.name,
            interval,
            on_trouble=lambda hook, words: on_trouble(self.name, hook, words),
            on_recovery=lambda hook: on_recovery(self.name, hook),
        )
        self._session = session
        self._opened = False
        self._capacity: int | None = None
        self._submitted_then = 0
        """How many jobs were here when the capacity was asked."""

    # ---- the session ---------------------------------------------------------------------------

    @property
    def result_grace(self) -> float:
        """Seconds that a result may stay away after its job has ended well."""
        return self.runner.result_grace

    @property
    def can_reattach(self) -> bool:
        """True where the runner finds jobs by their keys."""
        return self._session.has("axsched_reattach")

    def can(self, capability: Capability) -> bool:
        """True if the runner says that it can do this."""
        return self._session.can(capability)

    def open(self, context: RunnerContext) -> None:
        """Open the runner, once something is to be run.

        Raises:
            RunnerError: it cannot be opened.
        """
        if self._opened:
            return
        try:
            self._session.open(context)
        except AxschedError:
            raise
        except Exception as error:
            raise RunnerError(
                f"Runner {self.name!r} could not be opened: {type(error).__name__}: {error}"
            ) from error
        self._opened = True

    def close(self, wait: bool) -> None:
        """Let the runner go."""
        if self._opened:
            self._session.close(wait)
        else:
            self._session.release()

    def abandon(self, handles: Sequence[JobHandle]) -> None:
        """Ask the backend once to stop these, whatever comes of it, and let the runner go."""
        try:
            if handles:
                self._session.cancel(handles, "the scheduler was dropped")
        except Exception:
            log.exception("Jobs of runner %r may run on.", self.name)
        try:
            self.close(wait=False)
        except Exception:
            log.exception("Runner %r could not be closed.", self.name)

    def preview(self, request: JobRequest) -> str:
        """What would be submitted for this request, in the runner's words."""
        texts = self._session.preview([request])
        return texts.get(request.key, f"{self.runner.name}: {request}")

    # ---- its jobs ------------------------------------------------------------------------------

    def submit(self, requests: Sequence[JobRequest]) -> Sequence[JobHandle | SubmitError] | None:
        """Submit these; None: nobody knows whether the backend has them."""
        return self.calls.call("axsched_submit", lambda: self._session.submit(requests))

    def reattach(
        self, requests: Sequence[JobRequest]
    ) -> Mapping[str, JobHandle | NotSubmitted] | None:
        """What the backend knows of these, by key."""
        return self.calls.call("axsched_reattach", lambda: self._session.reattach(requests))

    def poll(self, handles: Sequence[JobHandle]) -> Mapping[str, JobStatus] | None:
        """What these do, by key."""
        return self.calls.call("axsched_poll", lambda: self._session.poll(handles))

    def fetch_results(
        self, handles: Sequence[JobHandle]
    ) -> Mapping[str, JobResult | NotReady] | None:
        """The results of these, by key."""
        return self.calls.call(
            "axsched_fetch_results", lambda: self._session.fetch_results(handles)
        )

    def cancel(
        self, handles: Sequence[JobHandle], reason: str
    ) -> Mapping[str, CancelOutcome] | None:
        """Cancel these; what came of it, by key."""
        return self.calls.call("axsched_cancel", lambda: self._session.cancel(handles, reason))

    # ---- how many it takes ---------------------------------------------------------------------

    def refresh_capacity(self, submitted: int) -> None:
        """Ask the runner how many more jobs could start now, while it has so many of ours."""
        self._capacity = self.calls.call("axsched_capacity", self._session.capacity)
        self._submitted_then = submitted

    def free_slots(self, submitted: int) -> int | None:
        """How many more jobs could start now, by what the runner said last; None: nobody knows.

        A job that was submitted since takes a place, one that has ended gives its place back.
        """
        if self.calls.in_trouble("axsched_capacity"):
            return 0
        if self._capacity is None:
            return None
        return max(0, self._capacity + self._submitted_then - submitted)
