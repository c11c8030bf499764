"""THE CONTRACT between the core and its plugins, as pluggy hook specifications.

A runner is a distribution with an entry point in the group ``axsched.runners``. The entry's
name is the runner's name, its value a module that implements `DiscoverySpec`; the object
that `DiscoverySpec.axsched_make_runner` returns implements `RunnerSpec`. Observers implement
`ObserverSpec`. Mark implementations with `hookimpl`.

All session hooks are batched and are called from one engine thread, never concurrently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from axsched_core.jobs import (
    CancelOutcome,
    Check,
    Event,
    JobHandle,
    JobRequest,
    JobResult,
    JobStatus,
    NotReady,
    NotSubmitted,
    RunnerContext,
    RunnerInfo,
    SubmitError,
)

PROJECT = "axsched"
ENTRY_POINT_GROUP = "axsched.runners"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

REQUIRED_HOOKS = ("axsched_submit", "axsched_poll", "axsched_fetch_results", "axsched_cancel")


class DiscoverySpec:
    """What the module behind an entry point implements."""

    @hookspec(firstresult=True)
    def axsched_runner_info(self) -> RunnerInfo:
        """Say what the runner is called and what it can do.

        Called after the plugin's module was imported, and again on the runner itself when a
        session opens, so that an instance handed in is checked like a named one. No I/O.
        """

    @hookspec(firstresult=True)
    def axsched_make_runner(self, options: Any) -> object:
        """Make the runner; ``options`` is an instance of ``RunnerInfo.options_class``, or None.

        Called in the thread that constructs the scheduler. No I/O: that is what
        `RunnerSpec.axsched_open` is for.
        """

    @hookspec(firstresult=True)
    def axsched_diagnose(self, options: Any) -> Sequence[Check]:
        """Optional. Look at the backend and say, check by check, whether it can be used."""


class RunnerSpec:
    """What a runner implements. The four hooks of `REQUIRED_HOOKS` must be there."""

    @hookspec(firstresult=True)
    def axsched_runner_info(self) -> RunnerInfo:
        """The same as `DiscoverySpec.axsched_runner_info`."""

    @hookspec(firstresult=True)
    def axsched_submit(self, requests: Sequence[JobRequest]) -> Sequence[JobHandle | SubmitError]:
        """Submit jobs. Return one answer a request, in the same order.

        A bad request fails alone, as a `SubmitError`. Submitting a key that the backend
        already has returns the existing job's handle. Raising means 'outcome unknown': the
        same keys are submitted again later, never under another name.
        """

    @hookspec(firstresult=True)
    def axsched_poll(self, handles: Sequence[JobHandle]) -> Mapping[str, JobStatus]:
        """Say what each job is doing, with one backend query for all. Returns key -> status.

        An absent key means 'no information', never 'done'. Raise `BackendUnavailable` when
        the backend does not answer; no job's state changes then. The process has ended well:
        ``SUCCEEDED``.
        """

    @hookspec(firstresult=True)
    def axsched_fetch_results(
        self, handles: Sequence[JobHandle]
    ) -> Mapping[str, JobResult | NotReady]:
        """Return the results of jobs whose process ended well.

        `NotReady` is asked again for a grace period. A missing key counts as `NotReady`.
        """

    @hookspec(firstresult=True)
    def axsched_cancel(
        self, handles: Sequence[JobHandle], reason: str
    ) -> Mapping[str, CancelOutcome]:
        """Ask the backend to stop jobs. Idempotent; need not wait for their end."""

    @hookspec(firstresult=True)
    def axsched_open(self, context: RunnerContext) -> None:
        """Optional. Get ready: connect, start a pool. Called once, before any other hook here."""

    @hookspec(firstresult=True)
    def axsched_close(self, wait: bool) -> None:
        """Optional. Let go of everything; with ``wait`` after cancelled jobs have ended.

        Called once, as the last hook.
        """

    @hookspec(firstresult=True)
    def axsched_reattach(
        self, requests: Sequence[JobRequest]
    ) -> Mapping[str, JobHandle | NotSubmitted]:
        """Optional. Find jobs of an earlier driver by their keys.

        An absent key means 'cannot say', and is asked again; only `NotSubmitted` permits a
        new attempt.
        """

    @hookspec(firstresult=True)
    def axsched_capacity(self) -> int | None:
        """Optional. How many more jobs could start now; None where the backend cannot say.

        Asked whenever a job is about to be submitted, so it must be cheap.
        """

    @hookspec(firstresult=True)
    def axsched_read_log(self, handle: JobHandle, stream: str, offset: int, limit: int) -> bytes:
        """Optional. Up to ``limit`` bytes of ``"stdout"`` or ``"stderr"`` from byte ``offset``."""

    @hookspec(firstresult=True)
    def axsched_read_progress(self, offsets: Mapping[str, int]) -> Mapping[str, bytes]:
        """Optional. For each key, the whole lines of ``progress.jsonl`` from byte ``offset`` on."""

    @hookspec(firstresult=True)
    def axsched_preview(self, requests: Sequence[JobRequest]) -> Mapping[str, str]:
        """Optional. The exact job that would be submitted, as text for people; no side effects."""

    @hookspec(firstresult=True)
    def axsched_find_leftovers(self, run_id: str) -> Sequence[str]:
        """Optional. What a run has left on the backend (containers, queued jobs), as text."""


class ObserverSpec:
    """What an observer implements: it watches, it never steers."""

    @hookspec
    def axsched_on_event(self, event: Event) -> None:
        """Something has happened.

        Called from the engine thread while the optimizer rests. Be quick. An observer that
        raises is logged and disturbs neither the others nor the run.
        """


def hook_names(spec: type) -> tuple[str, ...]:
    """Return the names of the hooks that a specification class defines."""
    return tuple(name for name in vars(spec) if name.startswith("axsched_"))
