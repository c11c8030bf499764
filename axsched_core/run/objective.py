"""What a run evaluates, and what happens to the run when the objective changes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from axsched_core.errors import AxschedError, InvalidInput, UnsupportedObjective
from axsched_core.jobs import OBJECTIVE_CAPABILITIES, Capability, Resources
from axsched_core.objectives import build, fingerprint
from axsched_core.objectives.spec import ObjectiveSpec
from axsched_core.run.run import Run
from axsched_core.runners.discovery import check, installed
from axsched_core.trials import TrialState

log = logging.getLogger("axsched")


def set_function(
    run: Run,
    function: Callable[..., Any],
    resources: Mapping[str, Any] | None,
    timeout: float | None = None,
) -> None:
    """See `AxScheduler.set_objective_function`."""
    pickled = build.function_objective(function)
    with run.call("set_objective_function"):
        _require(run, Capability.FUNCTION)
        optimizer = run.optimizer
        optimizer.check()
        bound = build.bind_function(
            function, optimizer.parameter_names, resources, optimizer.conditional, timeout
        )
        _set(run, ObjectiveSpec(bound, pickled, fingerprint.of_function(function)))


def set_script(run: Run, path: str | Path, options: Mapping[str, Any] | None) -> None:
    """See `AxScheduler.set_script_objective`."""
    objective = build.script_objective(path, options)
    with run.call("set_script_objective"):
        _require(run, Capability.SCRIPT)
        _set(run, ObjectiveSpec(objective, None, fingerprint.of_file(objective.script)))


def set_container(
    run: Run,
    image: str,
    command: str | Sequence[str] | None,
    options: Mapping[str, Any] | None,
) -> None:
    """See `AxScheduler.set_container_objective`."""
    objective = build.container_objective(image, command, options)
    with run.call("set_container_objective"):
        _require(run, Capability.CONTAINER)
        _set(run, ObjectiveSpec(objective))


def _set(run: Run, chosen: ObjectiveSpec) -> None:
    for lane in run.lanes:
        if lane.can(chosen.objective.capability):
            run.engine.loop.call(partial(lane.check_objective, chosen.objective))
    if run.engine.has_waiting:
        raise InvalidInput(
            "Trials are waiting to be run with the objective that was set before: "
            "wait_for_completed_trials() or cancel() first."
        )
    before = run.objective
    evaluated = sum(t.state is TrialState.SUCCEEDED for t in run.engine.records.values())
    if evaluated and before is not None and chosen.differs_from(before):
        log.warning(
            "The objective has changed, and %d trials of this run have results of the old one, "
            "which are kept. To keep the two apart, begin a new experiment.",
            evaluated,
        )
    needs = getattr(chosen.objective, "resources", Resources())
    for lane in run.lanes:
        if needs != Resources() and not lane.can(Capability.RESOURCES):
            log.warning(
                "The runner %r gives no job resources of its own, so it ignores what was asked "
                "for: %s. `axsched runners` shows the runners with 'resources'.",
                lane.runner.name,
                needs,
            )
    run.objective = chosen
    run.engine.attempts.set_objective(chosen)
    if before is not None and (chosen.differs_from(before) or chosen.objective != before.objective):
        run.begin_anew()


def take_up(run: Run, plain: Mapping[str, Any]) -> bool:
    """Continue with the objective of a journal.

    Returns:
        True if its script has changed since.

    Raises:
        UnsupportedObjective: the runner does not take it.
    """
    chosen = ObjectiveSpec.from_plain(plain, run.rundir.path)
    _require(run, chosen.objective.capability)
    script = getattr(chosen.objective, "script", None)
    changed = bool(script) and fingerprint.of_file(script) != chosen.source
    if changed:
        log.warning(
            "The script %s has changed since it was set: what follows is evaluated with it as "
            "it is now. A new experiment would not mix the results.",
            script,
        )
    run.objective = chosen
    run.engine.attempts.take_objective(chosen, written=True)
    return changed


def _require(run: Run, capability: Capability) -> None:
    """Raise `UnsupportedObjective` if no runner takes objectives of this kind."""
    if any(lane.can(capability) for lane in run.lanes):
        return
    runners = [lane.runner for lane in run.lanes]
    names = ", ".join(repr(runner.name) for runner in runners)
    taken = sorted(OBJECTIVE_CAPABILITIES.intersection(*(one.capabilities for one in runners)))
    able = _runners_with(capability)
    hint = f"Installed runners that do: {', '.join(able)}." if able else _WHERE[capability]
    raise UnsupportedObjective(
        f"The runner {names} takes no {capability.value} objective "
        f"(it takes: {', '.join(taken) or 'none'}). {hint}"
    )


_WHERE = {
    Capability.CONTAINER: "To run containers: pip install axsched-docker",
    Capability.FUNCTION: "To run functions: pip install axsched-joblib",
    Capability.SCRIPT: "To run scripts: pip install axsched-joblib",
}


def _runners_with(capability: Capability) -> list[str]:
    able = []
    for one in installed():
        with contextlib.suppress(AxschedError):
            if capability in check(one).info.capabilities:
                able.append(one.name)
    return sorted(set(able))
