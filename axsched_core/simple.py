"""For services that take one job at a time: write four simple methods to get the batched hooks."""

from __future__ import annotations

import abc
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from axsched_core.errors import BackendUnavailable, Refused
from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import (
    CancelOutcome,
    JobHandle,
    JobRequest,
    JobResult,
    JobStatus,
    NotReady,
    SubmitError,
)

log = logging.getLogger("axsched")
_T = TypeVar("_T")


class OneByOneRunner(abc.ABC):
    """A runner with a backend that handles one job in each call.

    Derive from it, write `submit_one`, `poll_one`, `fetch_one` and `cancel_one`, and implement
    ``axsched_runner_info`` (and the optional hooks that the backend allows) with ``@hookimpl``.
    This class loops over the jobs, so that a problem with one job does not affect another. It calls
    `submit_one` once for each key, unless that call raised.

    `BackendUnavailable` from any of the four is an outage: the whole call stops, and the scheduler
    tries again later.
    """

    @abc.abstractmethod
    def submit_one(self, request: JobRequest) -> JobHandle | SubmitError:
        """Submit one job.

        Raises:
            BackendUnavailable: the backend does not answer.
            Refused: the backend will never take it; becomes a final `SubmitError`.
            Exception: anything else means 'outcome unknown': the whole batch is submitted again,
                but only jobs without a handle reach this method. First check whether the backend
                has the key already, or make it refuse a second job of that name.
        """

    @abc.abstractmethod
    def poll_one(self, handle: JobHandle) -> JobStatus | None:
        """Return one job's status; None: no information now.

        Raises:
            BackendUnavailable: the backend does not answer.
        """

    @abc.abstractmethod
    def fetch_one(self, handle: JobHandle) -> JobResult | NotReady:
        """Return the result of a job that has ended without an error.

        Raises:
            BackendUnavailable: the backend does not answer.
        """

    @abc.abstractmethod
    def cancel_one(self, handle: JobHandle, reason: str) -> CancelOutcome:
        """Ask the backend to stop one job; it may have ended, or been cancelled, already.

        Raises:
            BackendUnavailable: the backend does not answer.
        """

    @hookimpl
    def axsched_submit(self, requests: Sequence[JobRequest]) -> list[JobHandle | SubmitError]:
        """Submit one after the other. Handles are kept: when all are submitted again after an
        exception, only those without a handle reach the backend."""
        answers: list[JobHandle | SubmitError] = []
        failed: Exception | None = None
        for request in requests:
            try:
                answers.append(self._submit_once(request))
            except BackendUnavailable:
                raise
            except Exception as error:
                log.exception("Job %s: it is not known whether it was submitted.", request.key)
                failed = error
        if failed is not None:
            raise failed
        return answers

    def _submit_once(self, request: JobRequest) -> JobHandle | SubmitError:
        # Not made in __init__, which a runner may forget to call.
        submitted: dict[str, JobHandle] = self.__dict__.setdefault("_submitted", {})
        if request.key in submitted:
            return submitted[request.key]
        try:
            answer = self.submit_one(request)
        except Refused as refusal:
            return SubmitError(str(refusal))
        if isinstance(answer, JobHandle):
            submitted[request.key] = answer
        return answer

    @hookimpl
    def axsched_poll(self, handles: Sequence[JobHandle]) -> Mapping[str, JobStatus]:
        """Poll one after the other; a job is absent from the answer if its poll fails."""
        return self._each(handles, self.poll_one)

    @hookimpl
    def axsched_fetch_results(
        self, handles: Sequence[JobHandle]
    ) -> Mapping[str, JobResult | NotReady]:
        """Fetch one after the other."""
        return self._each(handles, self.fetch_one)

    @hookimpl
    def axsched_cancel(
        self, handles: Sequence[JobHandle], reason: str
    ) -> Mapping[str, CancelOutcome]:
        """Cancel one after the other."""
        return self._each(handles, lambda handle: self.cancel_one(handle, reason))

    def _each(
        self, handles: Sequence[JobHandle], call: Callable[[JobHandle], _T | None]
    ) -> dict[str, _T]:
        answers: dict[str, _T] = {}
        failures: list[Exception] = []
        for handle in handles:
            try:
                answer = call(handle)
            except BackendUnavailable:
                raise
            except Exception as error:
                log.exception("Job %s: the runner failed on it.", handle.key)
                failures.append(error)
            else:
                if answer is not None:
                    answers[handle.key] = answer
        if failures and len(failures) == len(handles):
            # All failed: the cause is the runner, not a job.
            raise failures[-1]
        return answers
