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

from axsched_core.events import Event
from axsched_core.jobs import (
    CancelOutcome,
    Check,
    JobHandle,
    JobRequest,
    JobResult,
    JobStatus,
    NotReady,
    NotSubmitted,
    Objective,
    RunnerContext,
    RunnerInfo,
    SubmitError,
)

PROJECT = "axsched"
"""pluggy's name for all of our hooks."""
ENTRY_POINT_GROUP = "axsched.runners"
"""The entry point group in which a distribution lists its runners: name = module."""

hookspec = pluggy.HookspecMarker(PROJECT)
"""Marks a specification. Only the core has any."""
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks an implementation. ``@hookimpl(wrapper=True)`` marks a wrapper around the runner's own."""

REQUIRED_HOOKS = ("axsched_submit", "axsched_poll", "axsched_fetch_results", "axsched_cancel")
"""The hooks that every runner must have."""


class DiscoverySpec:
    """What the module behind an entry point implements."""

    @hookspec(firstresult=True)
    def axsched_runner_info(self) -> RunnerInfo:
        """Return the runner's name and what it can do. No I/O, no heavy import.

        Called: after the module was imported, by ``axsched runners`` too.
        Thread: the caller's.
        Raises: nothing.

        Example:
            >>> @hookimpl
            ... def axsched_runner_info():
            ...     return RunnerInfo("robot", ["parameters"], options_class=RobotOptions)
        """

    @hookspec(firstresult=True)
    def axsched_make_runner(self, options: Any) -> object:
        """Make the runner; ``options`` is an instance of ``RunnerInfo.options_class``, or None.

        Called: when a scheduler is constructed. No I/O: do it in `RunnerSpec.axsched_open`.
        Thread: the one that constructs the scheduler.
        Raises: an `AxschedError` with a message (`InvalidInput` for options that contradict).

        Example:
            >>> @hookimpl
            ... def axsched_make_runner(options):
            ...     return RobotRunner(options)
        """

    @hookspec(firstresult=True)
    def axsched_diagnose(self, options: Any) -> Sequence[Check]:
        """Optional. Check the backend, and report for each check whether it can be used.

        Called: by ``axsched doctor``, which prints a line for each check.
        Thread: the caller's.
        Raises: nothing; a problem is a `Check` that is not ok.

        Example:
            >>> @hookimpl
            ... def axsched_diagnose(options):
            ...     return [Check("reachable", ping(options.url), options.url)]
        """


class RunnerSpec:
    """What a runner implements. `axsched_runner_info` and the four of `REQUIRED_HOOKS` must be
    there; all others may be left out."""

    @hookspec(firstresult=True)
    def axsched_runner_info(self) -> RunnerInfo:
        """The same as `DiscoverySpec.axsched_runner_info`, on the runner itself.

        Called: when a session is made, so that a given instance is checked like a runner that was
            chosen by its name.
        Thread: the one that constructs the scheduler.
        Raises: nothing.

        Example:
            >>> @hookimpl
            ... def axsched_runner_info(self):
            ...     return INFO
        """

    @hookspec(firstresult=True)
    def axsched_submit(self, requests: Sequence[JobRequest]) -> Sequence[JobHandle | SubmitError]:
        """Submit jobs. Return one answer for each request, in the same order.

        A bad request fails alone, as a `SubmitError`. With ``transient`` it is refused for now: the
        backend does not have the job, and may accept it later. The same request, with the same key
        and folder, then comes again after pauses that grow to a minute, as long as the run
        continues. With ``every_job`` the backend would refuse all jobs of the run alike: the run
        ends, and its trials stay open. Without the two, the trial fails with this message.

        The values of a script's environment variables are not in the job's files: put
        `axsched_core.jobfolder.environment` of the request into the environment of the process
        that starts the worker. Submitting a key that the backend already has returns the existing
        job's handle.

        Called: whenever there are free slots and trials to run; with at most as many requests
            as `axsched_capacity` has said.
        Thread: the engine's.
        Raises: anything: it means 'outcome unknown', and the same keys are submitted again later,
            never under other names. `BackendUnavailable` may be raised without a limit; after five
            other exceptions in a row the run ends with an error.

        Example:
            >>> @hookimpl
            ... def axsched_submit(self, requests):
            ...     ids = self.queue.put_all([(r.key, r.parameters) for r in requests])
            ...     return [JobHandle(r.key, id) for r, id in zip(requests, ids)]
        """

    @hookspec(firstresult=True)
    def axsched_poll(self, handles: Sequence[JobHandle]) -> Mapping[str, JobStatus]:
        """Return each job's status by key, with one backend query for all.

        An absent key means 'no information', never 'done'. A process that has ended without an
        error is ``SUCCEEDED``, with any result or none; the engine checks the result. After a job
        has ended, its state never changes.

        Called: every ``monitoring_interval`` seconds for all jobs, and at once for those that
            ``context.wake`` named.
        Thread: the engine's.
        Raises: `BackendUnavailable` when the backend does not answer; no job's state changes,
            and the pauses grow. Other exceptions are errors in the runner, see `axsched_submit`.

        Example:
            >>> @hookimpl
            ... def axsched_poll(self, handles):
            ...     words = self.queue.states([h.backend_id for h in handles])
            ...     return {h.key: JobStatus(STATES[words[h.backend_id]])
            ...             for h in handles if h.backend_id in words}
        """

    @hookspec(firstresult=True)
    def axsched_fetch_results(
        self, handles: Sequence[JobHandle]
    ) -> Mapping[str, JobResult | NotReady]:
        """Return the results of jobs with a process that has ended without an error.

        A missing key counts as `NotReady`: the core asks again for ``RunnerInfo.result_grace``
        seconds.

        Called: after a poll said ``SUCCEEDED`` (or an exit file appeared).
        Thread: the engine's.
        Raises: like `axsched_poll`.

        Example:
            >>> @hookimpl
            ... def axsched_fetch_results(self, handles):
            ...     return {h.key: JobResult(metrics=self.queue.outcome(h.backend_id))
            ...             for h in handles}
        """

    @hookspec(firstresult=True)
    def axsched_cancel(
        self, handles: Sequence[JobHandle], reason: str
    ) -> Mapping[str, CancelOutcome]:
        """Ask the backend to stop jobs: queued, running, ended and unknown ones. Idempotent.

        It does not have to wait for their end: a job *is* cancelled when a later poll says so. The
        core stops waiting after ten seconds (ten minutes for a job over its time limit), at once
        after ``NOT_POSSIBLE``.

        Called: on Ctrl-C, on a timeout, over a time limit, by ``scheduler.cancel()`` and
            ``axsched cancel``, and for jobs of a trial that the user has ended.
        Thread: the engine's.
        Raises: like `axsched_poll`.

        Example:
            >>> @hookimpl
            ... def axsched_cancel(self, handles, reason):
            ...     self.queue.remove([h.backend_id for h in handles])
            ...     return {h.key: CancelOutcome.REQUESTED for h in handles}
        """

    @hookspec(firstresult=True)
    def axsched_open(self, context: RunnerContext) -> None:
        """Optional. Prepare: connect, start a pool; keep ``context.wake`` if you can push.

        Called: once, before the first job is submitted and before any other hook but
            `axsched_runner_info`.
        Thread: the engine's.
        Raises: an `AxschedError` with a message; anything else is shown as "could not be opened".

        Example:
            >>> @hookimpl
            ... def axsched_open(self, context):
            ...     self.queue = Queue(self.options.url, on_end=context.wake)
        """

    @hookspec(firstresult=True)
    def axsched_close(self, wait: bool) -> None:
        """Optional. Release everything; with ``wait`` only after cancelled jobs have ended.

        Called: once, as the last hook, if the session was opened. Running jobs were cancelled
            before. Those that could not be cancelled stay with the backend, for `axsched_reattach`
            and `axsched_poll` of another driver; with the setting ``on_exit="leave"`` all do.
        Thread: the engine's.
        Raises: an `AxschedError` with a message.

        Example:
            >>> @hookimpl
            ... def axsched_close(self, wait):
            ...     self.queue.disconnect()
        """

    @hookspec(firstresult=True)
    def axsched_check_objective(self, objective: Objective) -> None:
        """Optional. Refuse an objective if none of its jobs could run (an unknown option).

        Called: when the user sets an objective; perhaps before `axsched_open`. It must not wait for
            the backend: what only the backend knows is a `SubmitError` with ``every_job``.
        Thread: the engine's.
        Raises: `InvalidInput`, which says what is wrong and what to do.

        Example:
            >>> @hookimpl
            ... def axsched_check_objective(self, objective):
            ...     if objective.resources.gpus:
            ...         raise InvalidInput("the robot has no GPU; leave out gpus")
        """

    @hookspec(firstresult=True)
    def axsched_reattach(
        self, requests: Sequence[JobRequest]
    ) -> Mapping[str, JobHandle | NotSubmitted]:
        """Optional. Find jobs of an earlier driver by their keys.

        An absent key means 'cannot say': the core asks again. Only `NotSubmitted` permits a new
        attempt; it must be certain and final.

        Called: after ``AxScheduler.resume``, for jobs of a driver that died between writing their
            keys and getting their handles; until the hook has answered, none of them is submitted
            again. Also when a run is halted, for jobs for which `axsched_submit` has raised.
            Without this hook the setting ``on_unknown`` decides about the first kind.
        Thread: the engine's.
        Raises: like `axsched_poll`.

        Example:
            >>> @hookimpl
            ... def axsched_reattach(self, requests):
            ...     ids = self.queue.find_by_label([r.key for r in requests])
            ...     return {r.key: JobHandle(r.key, ids[r.key]) if r.key in ids
            ...             else NotSubmitted() for r in requests}
        """

    @hookspec(firstresult=True)
    def axsched_capacity(self) -> int | None:
        """Optional. How many more jobs could start now; None if the backend cannot say.

        Called: at most once in each turn of the engine in which it may submit a job or ask for a
            candidate, so it must be cheap. Within the turn the engine counts itself: a job that it
            submits takes a place, a job that ends frees its place.
        Thread: the engine's.
        Raises: like `axsched_poll`; nothing is submitted until it answers.

        Example:
            >>> @hookimpl
            ... def axsched_capacity(self):
            ...     return self.tray.free_places()
        """

    @hookspec(firstresult=True)
    def axsched_read_log(self, handle: JobHandle, stream: str, offset: int, limit: int) -> bytes:
        """Optional. Up to ``limit`` bytes of ``"stdout"`` or ``"stderr"`` from byte ``offset``.

        Called: only by the conformance kit; the core does not call it yet. With the capability
            ``logs`` it works while the job runs too.
        Thread: the engine's.
        Raises: like `axsched_poll`.

        Example:
            >>> @hookimpl
            ... def axsched_read_log(self, handle, stream, offset, limit):
            ...     return self.queue.log(handle.backend_id, stream)[offset : offset + limit]
        """

    @hookspec(firstresult=True)
    def axsched_read_progress(
        self, handles: Sequence[JobHandle], offsets: Mapping[str, int]
    ) -> Mapping[str, bytes]:
        """Optional. For each job, the complete lines of ``progress.jsonl`` from a byte offset.

        ``offsets`` gives the offset for each handle, by key. Never half a line: bytes after the
        last newline wait for the next call. An absent key means 'no information'.

        Called: while jobs run, at most once a second and mostly less often; and once more when a
            job has ended, for what it has reported last.
        Thread: the engine's.
        Raises: like `axsched_poll`.

        Example:
            >>> @hookimpl
            ... def axsched_read_progress(self, handles, offsets):
            ...     return {h.key: self.queue.lines(h.backend_id)[offsets[h.key] :]
            ...             for h in handles}
        """

    @hookspec(firstresult=True)
    def axsched_preview(self, requests: Sequence[JobRequest]) -> Mapping[str, str]:
        """Optional. The exact job that would be submitted, as text for people.

        Called: by ``scheduler.preview()``; perhaps before `axsched_open`. The folders of the
            requests do not exist. No side effects.
        Thread: the engine's.
        Raises: nothing.

        Example:
            >>> @hookimpl
            ... def axsched_preview(self, requests):
            ...     return {r.key: f"put {r.parameters} as {r.key}" for r in requests}
        """

    @hookspec(firstresult=True)
    def axsched_find_leftovers(self, run_id: str) -> Sequence[str]:
        """Optional. What a run has left on the backend (containers, queued jobs), as text.

        Looks, and changes nothing.

        Called: by ``axsched clean``, without `axsched_open`.
        Thread: the caller's.
        Raises: like `axsched_poll`.

        Example:
            >>> @hookimpl
            ... def axsched_find_leftovers(self, run_id):
            ...     return [job.label for job in self.queue if job.label.startswith(run_id)]
        """

    @hookspec(firstresult=True)
    def axsched_remove_leftovers(self, run_id: str) -> Sequence[str]:
        """Optional, with `axsched_find_leftovers`. Stop and remove all that it would name now.

        Returns what was removed, as text. Running jobs are stopped without a grace period, and
        results that were not fetched are lost: the user has agreed to it.

        Called: by ``axsched clean``, without `axsched_open`, while no driver uses the run.
        Thread: the caller's.
        Raises: like `axsched_poll`; what was removed before stays removed.

        Example:
            >>> @hookimpl
            ... def axsched_remove_leftovers(self, run_id):
            ...     left = [job for job in self.queue if job.label.startswith(run_id)]
            ...     return [self.queue.remove(job) for job in left]
        """


class ObserverSpec:
    """What an observer implements: it watches, and changes nothing."""

    @hookspec
    def axsched_on_event(self, event: Event) -> None:
        """Something has happened; the event's class says what.

        ``match`` on the class, and ignore classes that you do not know: a later minor version may
        have more. All classes are in `axsched_core.events`.

        Called: for every event, in order, while the optimizer is idle. Be quick: the engine waits.
        Thread: the engine's. Calling a method of the scheduler from here is refused.
        Raises: an exception is logged, and does not affect other observers or the run.

        Example:
            >>> @hookimpl
            ... def axsched_on_event(self, event):
            ...     match event:
            ...         case TrialEnded(trial_index=index, results=results):
            ...             print(index, event.state.value, results)
            ...         case BackendTrouble(message=words):
            ...             print("the backend is in trouble:", words)
        """


def hook_names(spec: type) -> tuple[str, ...]:
    """Return the names of the hooks that a specification class defines."""
    return tuple(name for name in vars(spec) if name.startswith("axsched_"))
