"""One runner of a run: its session, its pauses, and how many jobs it can have."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

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
    Objective,
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
        on_trouble: called for each failed call: the lane's name, the hook, and the error as text.
        on_recovery: called when a hook works again: the lane's name, the hook.
        name: the journal tells the lanes of one run apart by it, so each has its own; "": the
            runner's. Two lanes may have runners of one kind, with one name: two Slurm clusters.
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
        """What the runner says about itself; its name may differ from the lane's."""
        self.last_submission = -math.inf
        """When a job was last submitted here (`time.monotonic` seconds)."""
        self.calls = Calls(
            self.name,
            interval,
            on_trouble=lambda hook, words: on_trouble(self.name, hook, words),
            on_recovery=lambda hook: on_recovery(self.name, hook),
        )
        self._session = session
        self.opened = False
        self._capacity: int | None = None
        self._submitted_then = 0
        """How many jobs were here when the capacity was queried."""

    # ---- the session ---------------------------------------------------------------------------

    @property
    def result_grace(self) -> float:
        """Seconds that a result may be late after its job has ended without an error."""
        return self.runner.result_grace

    @property
    def can_reattach(self) -> bool:
        """True if the runner can find jobs by their keys."""
        return self._session.has("axsched_reattach")

    def can(self, capability: Capability) -> bool:
        """True if the runner says that it can do this."""
        return self._session.can(capability)

    def open(self, context: RunnerContext) -> None:
        """Open the runner, before its first job.

        Raises:
            RunnerError: it cannot be opened.
        """
        if self.opened:
            return
        with self._named(" could not be opened"):
            self._session.open(context)
        self.opened = True

    def close(self, wait: bool) -> None:
        """Close the runner.

        Raises:
            RunnerError: it cannot be closed.
        """
        with self._named(" could not be closed"):
            if self.opened:
                self._session.close(wait)
            else:
                self._session.release()

    @contextlib.contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """Turn what a runner raises into a `RunnerError` that names it, and ``what`` happened."""
        try:
            yield
        except AxschedError:
            raise
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            raise RunnerError(f"Runner {self.name!r}{what}: {words}") from error

    def abandon(self, handles: Sequence[JobHandle]) -> None:
        """Ask the backend once to stop these, then close the runner; errors are only logged."""
        try:
            if handles:
                self._session.cancel(handles, "the scheduler was dropped")
        except Exception:
            log.exception("Jobs of runner %r may still run.", self.name)
        try:
            self.close(wait=False)
        except Exception:
            log.exception("Runner %r could not be closed.", self.name)

    def check_objective(self, objective: Objective) -> None:
        """Let the runner refuse an objective that none of its jobs could run.

        Raises:
            InvalidInput: it refuses it.
            RunnerError: the runner is broken.
        """
        with self._named(": axsched_check_objective failed"):
            self._session.check_objective(objective)

    def preview(self, request: JobRequest) -> str:
        """What would be submitted for this request, in the runner's words."""
        texts = self._session.preview([request])
        return texts.get(request.key, f"{self.runner.name}: {request}")

    # ---- its jobs ------------------------------------------------------------------------------

    def submit(self, requests: Sequence[JobRequest]) -> Sequence[JobHandle | SubmitError] | None:
        """Submit these; None: it is not known whether the backend has them."""
        return self.calls.call("axsched_submit", lambda: self._session.submit(requests))

    def reattach(
        self, requests: Sequence[JobRequest]
    ) -> Mapping[str, JobHandle | NotSubmitted] | None:
        """What the backend knows about these, by key."""
        return self.calls.call("axsched_reattach", lambda: self._session.reattach(requests))

    def poll(self, handles: Sequence[JobHandle]) -> Mapping[str, JobStatus] | None:
        """The status of these, by key."""
        return self.calls.call("axsched_poll", lambda: self._session.poll(handles))

    def fetch_results(
        self, handles: Sequence[JobHandle]
    ) -> Mapping[str, JobResult | NotReady] | None:
        """The results of these, by key."""
        return self.calls.call(
            "axsched_fetch_results", lambda: self._session.fetch_results(handles)
        )

    @property
    def reads_progress(self) -> bool:
        """True if the runner can read what running jobs report."""
        return self._session.has("axsched_read_progress")

    def read_progress(
        self, handles: Sequence[JobHandle], offsets: Mapping[str, int]
    ) -> Mapping[str, bytes] | None:
        """The complete lines that these have reported since their offsets, by key."""
        return self.calls.call(
            "axsched_read_progress", lambda: self._session.read_progress(handles, offsets)
        )

    def cancel(
        self, handles: Sequence[JobHandle], reason: str
    ) -> Mapping[str, CancelOutcome] | None:
        """Cancel these; the outcomes, by key."""
        return self.calls.call("axsched_cancel", lambda: self._session.cancel(handles, reason))

    # ---- how many it can have ------------------------------------------------------------------

    def refresh_capacity(self, submitted: int) -> None:
        """Ask the runner how many more jobs could start now; ``submitted``: how many of ours it
        has."""
        self._capacity = self.calls.call("axsched_capacity", self._session.capacity)
        self._submitted_then = submitted

    def free_slots(self, submitted: int) -> int | None:
        """How many more jobs could start now, from the runner's last answer; None: not known.

        A job that was submitted since takes a place, one that has ended frees its place.
        """
        if self.calls.in_trouble("axsched_capacity"):
            return 0
        if self._capacity is None:
            return None
        return max(0, self._capacity + self._submitted_then - submitted)
