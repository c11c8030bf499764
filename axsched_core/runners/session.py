"""One scheduler's typed view of its runner: its own plugin manager, one method for each hook.

pluggy does not check what a plugin returns. This module checks it against the contract, including
all fields (`answers`), so that the engine can rely on it.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import ItemsView, Mapping, Sequence, Set
from typing import Any

import pluggy

from axsched_core.errors import ContractError, RunnerError
from axsched_core.hookspecs import PROJECT, REQUIRED_HOOKS, ObserverSpec, RunnerSpec, hook_names
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
    RunnerInfo,
    SubmitError,
)
from axsched_core.runners import answers, discovery

log = logging.getLogger("axsched")

# Runners that an open session holds, by id; a garbage-collected session releases its runner.
_held: weakref.WeakValueDictionary[int, RunnerSession] = weakref.WeakValueDictionary()


class RunnerSession:
    """Exactly one runner, and the wrappers around its hooks.

    Args:
        runner: an object that implements `RunnerSpec`.
        wrappers: plugins that wrap hooks (``@hookimpl(wrapper=True)``).

    Raises:
        ContractError: the runner or a wrapper breaks the contract.
        RunnerError: another open scheduler uses the same runner.
    """

    def __init__(self, runner: object, wrappers: Sequence[object] = ()) -> None:
        if isinstance(runner, type):
            raise RunnerError(
                f"The runner must be an instance, but {runner.__name__} is a class: "
                f"write {runner.__name__}(...)."
            )
        self._runner = runner
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(RunnerSpec)
        self._who = f"Runner {type(runner).__module__}.{type(runner).__qualname__}"
        if not discovery.hookimpl_names(runner):
            raise ContractError(
                f"{self._who} implements no hook at all. A runner is a name (installed runners: "
                f"`axsched runners`) or an object whose methods are marked with "
                f"axsched_core.hookimpl."
            )
        discovery.register(self._manager, runner, self._who, hook_names(RunnerSpec))
        discovery.require(self._manager, ("axsched_runner_info", *REQUIRED_HOOKS), self._who)
        info = self._manager.hook.axsched_runner_info()
        discovery.check_info(info, self._who)
        self.info: RunnerInfo = info
        self._who = f"Runner {info.name!r}"
        for wrapper in wrappers:
            self.register(wrapper)
        if id(runner) in _held:
            raise RunnerError(
                f"{self._who}: this very instance is in use by another open scheduler. "
                "Close that one first (scheduler.close()), or make a second runner."
            )
        _held[id(runner)] = self

    def release(self) -> None:
        """Let another scheduler use the runner."""
        _held.pop(id(self._runner), None)

    def register(self, wrapper: object) -> None:
        """Add a plugin that wraps hooks; refuse one that would replace the runner's hooks."""
        who = f"Plugin {discovery.plugin_name(wrapper)}"
        known = (*hook_names(RunnerSpec), *hook_names(ObserverSpec))
        discovery.register(self._manager, wrapper, who, known)
        for name in hook_names(RunnerSpec):
            for impl in getattr(self._manager.hook, name).get_hookimpls():
                if impl.plugin is wrapper and not (impl.wrapper or impl.hookwrapper):
                    self._manager.unregister(wrapper)
                    raise ContractError(
                        f"{who} implements {name} plainly, so it would be called in the runner's "
                        "place. Make it a wrapper: @hookimpl(wrapper=True)."
                    )

    def has(self, hook: str) -> bool:
        """True if the runner implements this optional hook."""
        impls = getattr(self._manager.hook, hook).get_hookimpls()
        return any(impl.plugin is self._runner for impl in impls)

    def can(self, capability: Capability) -> bool:
        """True if the runner says that it can do this."""
        return capability in self.info.capabilities

    # One method for each hook, in the order of the contract.

    def open(self, context: RunnerContext) -> None:
        """Call ``axsched_open``."""
        self._manager.hook.axsched_open(context=context)

    def check_objective(self, objective: Objective) -> None:
        """Call ``axsched_check_objective``."""
        self._manager.hook.axsched_check_objective(objective=objective)

    def submit(self, requests: Sequence[JobRequest]) -> list[JobHandle | SubmitError]:
        """Call ``axsched_submit``; as many answers as requests, in order, keys checked."""
        hook = "axsched_submit"
        given = self._required(hook, requests=requests)
        if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != len(requests):
            raise self._broken(hook, f"{len(requests)} answers", given)
        for request, answer in zip(requests, given, strict=True):
            what = answers.wrong(answer, (JobHandle, SubmitError), request.key)
            self._check(hook, what, request.key)
        return list(given)

    def poll(self, handles: Sequence[JobHandle]) -> dict[str, JobStatus]:
        """Call ``axsched_poll``."""
        return self._by_key("axsched_poll", (JobStatus,), handles)

    def fetch_results(self, handles: Sequence[JobHandle]) -> dict[str, JobResult | NotReady]:
        """Call ``axsched_fetch_results``."""
        kinds = (JobResult, NotReady)
        return self._by_key("axsched_fetch_results", kinds, handles)

    def cancel(self, handles: Sequence[JobHandle], reason: str) -> dict[str, CancelOutcome]:
        """Call ``axsched_cancel``."""
        return self._by_key("axsched_cancel", (CancelOutcome,), handles, reason=reason)

    def close(self, wait: bool) -> None:
        """Call ``axsched_close``, then release the runner."""
        try:
            self._manager.hook.axsched_close(wait=wait)
        finally:
            self.release()

    def capacity(self) -> int | None:
        """Call ``axsched_capacity``; None if the runner cannot say."""
        free = self._manager.hook.axsched_capacity()
        self._check("axsched_capacity", answers.broken(free, answers.CAPACITY))
        return None if free is None else max(0, free)

    def reattach(self, requests: Sequence[JobRequest]) -> dict[str, JobHandle | NotSubmitted]:
        """Call ``axsched_reattach``; empty if the runner cannot."""
        found = self._manager.hook.axsched_reattach(requests=requests)
        kinds = (JobHandle, NotSubmitted)
        return self._of_jobs("axsched_reattach", kinds, found, {r.key for r in requests})

    def read_log(self, handle: JobHandle, stream: str, offset: int, limit: int) -> bytes:
        """Call ``axsched_read_log``; empty if the runner has none."""
        found = self._manager.hook.axsched_read_log(
            handle=handle, stream=stream, offset=offset, limit=limit
        )
        self._check("axsched_read_log", answers.broken(found or b"", answers.BYTES), handle.key)
        return found or b""

    def read_progress(
        self, handles: Sequence[JobHandle], offsets: Mapping[str, int]
    ) -> dict[str, bytes]:
        """Call ``axsched_read_progress``; empty if the runner has none."""
        found = self._manager.hook.axsched_read_progress(handles=handles, offsets=offsets)
        asked = {handle.key for handle in handles}
        return self._plain_of_jobs("axsched_read_progress", answers.BYTES, found, asked)

    def preview(self, requests: Sequence[JobRequest]) -> dict[str, str]:
        """Call ``axsched_preview``; empty if the runner has none."""
        found = self._manager.hook.axsched_preview(requests=requests)
        asked = {request.key for request in requests}
        return self._plain_of_jobs("axsched_preview", answers.TEXT, found, asked)

    def find_leftovers(self, run_id: str) -> list[str]:
        """Call ``axsched_find_leftovers``; empty if the runner has none."""
        found = self._manager.hook.axsched_find_leftovers(run_id=run_id)
        return self._texts("axsched_find_leftovers", found)

    def remove_leftovers(self, run_id: str) -> list[str]:
        """Call ``axsched_remove_leftovers``; empty if the runner has none."""
        found = self._manager.hook.axsched_remove_leftovers(run_id=run_id)
        return self._texts("axsched_remove_leftovers", found)

    def _required(self, hook: str, **arguments: Any) -> Any:
        answer = getattr(self._manager.hook, hook)(**arguments)
        if answer is None:
            raise self._broken(hook, "an answer", None)
        return answer

    def _by_key(
        self, hook: str, kinds: tuple[type, ...], handles: Sequence[JobHandle], **kw: Any
    ) -> dict[str, Any]:
        answer = self._required(hook, handles=handles, **kw)
        return self._of_jobs(hook, kinds, answer, {handle.key for handle in handles})

    def _of_jobs(
        self, hook: str, kinds: tuple[type, ...], answer: Any, asked: Set[str]
    ) -> dict[str, Any]:
        # Ignore answers that nothing asked for.
        found = {key: value for key, value in self._items(hook, answer) if key in asked}
        for key, value in found.items():
            self._check(hook, answers.wrong(value, kinds, key), key)
        return found

    def _plain_of_jobs(
        self, hook: str, rule: answers.Rule, answer: Any, asked: Set[str]
    ) -> dict[str, Any]:
        found = {key: value for key, value in self._items(hook, answer) if key in asked}
        for key, value in found.items():
            self._check(hook, answers.broken(value, rule), key)
        return found

    def _items(self, hook: str, answer: Any) -> ItemsView[str, Any]:
        answer = {} if answer is None else answer
        if not isinstance(answer, Mapping):
            raise self._broken(hook, "a mapping from key", answer)
        for key in answer:
            if not isinstance(key, str):
                raise self._broken(hook, "a mapping from key, which is a str", answer)
        return answer.items()

    def _texts(self, hook: str, answer: Any) -> list[str]:
        answer = () if answer is None else answer
        texts = isinstance(answer, Sequence) and not isinstance(answer, str | bytes)
        if not texts or not all(isinstance(one, str) for one in answer):
            raise self._broken(hook, "a list of str", answer)
        return list(answer)

    def _check(self, hook: str, wrong: answers.Wrong | None, key: str | None = None) -> None:
        if wrong is not None:
            whose = hook if key is None else f"{hook}, job {key}:"
            raise self._error(whose, *wrong)

    def _broken(self, hook: str, expected: str, got: Any) -> ContractError:
        return self._error(hook, expected, answers.shown(got))

    def _error(self, whose: str, expected: str, got: str) -> ContractError:
        return ContractError(
            f"{self._who}: {whose} must return {expected}, but returned {got}. "
            "This is a fault of the runner; tell its authors."
        )
