"""Ax's ``Runner`` and ``IMetric`` over an `AxScheduler`; `axsched_core.ax_native` is the front.

Importing this module makes Ax's JSON storage know its classes.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ax.api.protocols.metric import IMetric
from ax.api.protocols.runner import IRunner
from ax.core.trial import Trial
from ax.core.trial_status import TrialStatus
from ax.storage.json_store.encoders import metric_to_dict, runner_to_dict
from ax.storage.json_store.registry import CORE_DECODER_REGISTRY, CORE_ENCODER_REGISTRY

from axsched_core.errors import InvalidInput
from axsched_core.journal import view
from axsched_core.optimizers.mirror import Mirror
from axsched_core.scheduler import AxScheduler
from axsched_core.trials import TrialState

log = logging.getLogger("axsched")

Objective = Callable[..., Any] | str | Path | Mapping[str, Any]
"""A function, the path of a script, or the arguments of `AxScheduler.set_container_objective`."""

_STATUS: Mapping[TrialState, TrialStatus] = {
    TrialState.CANDIDATE: TrialStatus.RUNNING,
    TrialState.QUEUED: TrialStatus.RUNNING,
    TrialState.RUNNING: TrialStatus.RUNNING,
    TrialState.SUCCEEDED: TrialStatus.COMPLETED,
    TrialState.FAILED: TrialStatus.FAILED,
    TrialState.CANCELLED: TrialStatus.ABANDONED,
    TrialState.EARLY_STOPPED: TrialStatus.EARLY_STOPPED,
    TrialState.CLOSED: TrialStatus.ABANDONED,
}
RUN = "axsched_run"
"""The key of the run directory in a trial's ``run_metadata``."""

_open: dict[str, AxScheduler] = {}
"""Run directory -> its scheduler: Ax copies runners, and two of them must not drive one run."""
_views: dict[str, view.Run] = {}


def make(
    name: str,
    objective: Objective,
    options: Mapping[str, Any] | None,
    metrics: Sequence[str],
    config: Mapping[str, Any] | None,
) -> AxschedRunner:
    """See `axsched_core.ax_native.runner`."""
    if isinstance(metrics, str) or not metrics:
        raise InvalidInput(f"metrics must be a list of names, such as ['loss'], not {metrics!r}.")
    scheduler = AxScheduler(
        Mirror(metrics, "ax-native"), name, {"progress": False, **(config or {})}, options
    )
    try:
        if callable(objective):
            scheduler.set_objective_function(_of_mapping(objective))
        elif isinstance(objective, Mapping):
            scheduler.set_container_objective(**_container(objective))
        else:
            scheduler.set_script_objective(objective)
        with scheduler._run.call("ax_native.runner"):
            scheduler._run.ready()  # from here on there is a run directory, whatever Ax saves
    except BaseException:
        scheduler.close()
        raise
    where = str(scheduler.run_directory)
    _open[where] = scheduler
    return AxschedRunner(where, list(metrics))


def _container(given: Mapping[str, Any]) -> dict[str, Any]:
    known = ("container_image", "container_command", "container_options")
    if "container_image" not in given or not set(given) <= set(known):
        raise InvalidInput(
            "A container objective is a mapping with container_image, and perhaps "
            f"container_command and container_options; got {', '.join(map(repr, given)) or 'none'}."
        )
    return dict(given)


def _of_mapping(function: Callable[..., Any]) -> Callable[[dict[str, Any]], Any]:
    """The function in the form that takes one mapping: here the parameters' names are not known."""
    required = [
        one
        for one in inspect.signature(function).parameters.values()
        if one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]
    if len(required) > 1:
        return lambda parameters: function(**parameters)
    return lambda parameters: function(parameters)


class AxschedRunner(IRunner):  # type: ignore[misc]
    """An Ax ``Runner`` over a run directory; make one with
    `axsched_core.ax_native.runner`.

    It is idempotent by trial: a trial that has, or had, a job is not submitted again. After the
    death of the driver, the experiment that Ax loads goes on with the same jobs, as
    `AxScheduler.resume` does.

    Args:
        run_directory: absolute path; Ax's storage holds only this and the names.
        metric_names: what each result must hold.
    """

    def __init__(self, run_directory: str, metric_names: Sequence[str]) -> None:
        self.run_directory = run_directory
        self.metric_names = list(metric_names)

    @property
    def metrics(self) -> list[AxschedMetric]:
        """What ``Client.configure_metrics`` takes, or an ``Experiment``'s metrics."""
        return [AxschedMetric(name) for name in self.metric_names]

    def scheduler(self, runner_options: Mapping[str, Any] | None = None) -> AxScheduler:
        """The scheduler that runs the jobs; its trials have Ax's indices.

        Args:
            runner_options: those that were not written down because they are secret; needed once,
                after the experiment was loaded in a new process.

        Raises:
            RunLocked: another living driver uses the run directory.
            InvalidInput: the run directory is missing, or a secret option.
        """
        known = _open.get(self.run_directory)
        if known is None or not known._run.guard.open:
            known = AxScheduler.resume(
                self.run_directory, optimizer=Mirror(), runner_options=runner_options
            )
            _open[self.run_directory] = known
        return known

    def close(self) -> None:
        """End what still runs, as `AxScheduler.close` does."""
        if (known := _open.pop(self.run_directory, None)) is not None:
            known.close()

    # ---- what Ax calls -------------------------------------------------------------------------

    def run_trial(self, trial_index: int, parameterization: Any) -> dict[str, Any]:
        """Submit one trial."""
        return self._run({trial_index: dict(parameterization)})[trial_index]

    def run_multiple(self, trials: Iterable[Any]) -> dict[int, dict[str, Any]]:
        """Submit these trials together.

        Raises:
            InvalidInput: a trial has several arms, or had other parameters before.
        """
        chosen = {}
        for trial in trials:
            if not isinstance(trial, Trial) or trial.arm is None:
                raise InvalidInput(
                    f"Trial {trial.index} has {len(trial.arms)} arms: axsched's runners evaluate "
                    "trials with one arm."
                )
            chosen[trial.index] = dict(trial.arm.parameters)
        return self._run(chosen)

    def _run(self, chosen: Mapping[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        scheduler = self.scheduler()
        known = scheduler.trials
        for index, parameters in chosen.items():
            if index in known and dict(known[index].parameters) != parameters:
                raise InvalidInput(
                    f"Trial {index} was run with {dict(known[index].parameters)} before, and has "
                    f"now {parameters}: the experiment is older than {self.run_directory}, or not "
                    "its own. Make a new runner for it."
                )
        waiting = [
            index
            for index in chosen
            if index not in known or known[index].state is TrialState.CANDIDATE
        ]
        if waiting:
            scheduler.client.coming = [index for index in waiting if index not in known]
            with scheduler.batch_trial_context(synchronous=False) as batch:
                for index in waiting:
                    batch.add_trial(chosen[index], index if index in known else None)
        return {index: {RUN: self.run_directory} for index in chosen}

    def poll_trial(self, trial_index: int, trial_metadata: Mapping[str, Any]) -> TrialStatus:
        """The status of one trial."""
        return self._statuses([trial_index])[trial_index]

    def poll_trial_status(self, trials: Iterable[Any]) -> dict[TrialStatus, set[int]]:
        """The statuses of these trials, with one look at all jobs."""
        found: dict[TrialStatus, set[int]] = {}
        for index, status in self._statuses([trial.index for trial in trials]).items():
            found.setdefault(status, set()).add(index)
        return found

    def _statuses(self, indices: Sequence[int]) -> dict[int, TrialStatus]:
        scheduler = self.scheduler()
        known = scheduler.monitor_trials()
        stopped = {  # the driver before was stopped, and its jobs with it
            index: dict(known[index].parameters)
            for index in indices
            if index in known and known[index].state is TrialState.CANDIDATE
        }
        if stopped:
            self._run(stopped)
        found = {}
        for index in indices:
            if index in known:
                found[index] = _STATUS[known[index].state]
            else:
                log.warning("Trial %d has no job in %s: it has failed.", index, self.run_directory)
                found[index] = TrialStatus.FAILED
        return found

    def poll_exception(self, trial: Any) -> str:
        """Why a trial has failed."""
        known = self.scheduler().trials.get(trial.index)
        return known.message if known is not None else "it has no job"

    def stop_trial(self, trial_index: int, trial_metadata: Mapping[str, Any]) -> dict[str, Any]:
        """End a trial's job."""
        return self._stop(trial_index, None)

    def stop(self, trial: Any, reason: str | None = None) -> dict[str, Any]:
        """End a trial's job, for this reason."""
        return self._stop(trial.index, reason)

    def _stop(self, index: int, reason: str | None) -> dict[str, Any]:
        scheduler = self.scheduler()
        known = scheduler.trials.get(index)
        if known is not None and not known.state.ended:
            scheduler.stop_trial_runs([index], [reason or "stopped by Ax"])
        return {}

    def poll_available_capacity(self) -> int:
        """How many more jobs could start now."""
        return self.scheduler().poll_available_capacity()


class AxschedMetric(IMetric):  # type: ignore[misc]
    """Fetches one metric of a trial from its run directory; see `AxschedRunner.metrics`.

    Args:
        name: the metric's.
    """

    def fetch(
        self, trial_index: int, trial_metadata: Mapping[str, Any]
    ) -> tuple[int, float | tuple[float, float]]:
        """The trial's result.

        Raises:
            InvalidInput: there is none.
        """
        where = trial_metadata.get(RUN)
        if where is None:
            raise InvalidInput(f"Trial {trial_index} was not run by an axsched runner.")
        run = _views.setdefault(where, view.Run(Path(where)))
        run.look()
        trial = run.trials.get(trial_index)
        if trial is None or not trial.results or self.name not in trial.results:
            raise InvalidInput(f"Trial {trial_index} has no result of {self.name!r}.")
        mean, sem = trial.results[self.name]
        steps = trial.attempts[-1].reports if trial.attempts else {}
        step = int(max(steps, default=0))
        return step, float(mean) if sem is None else (float(mean), float(sem))


def registry(**more: Any) -> Any:
    """See `axsched_core.ax_native.registry`."""
    from ax.core.runner import Runner
    from ax.storage.metric_registry import CORE_METRIC_REGISTRY
    from ax.storage.registry_bundle import RegistryBundle
    from ax.storage.runner_registry import CORE_RUNNER_REGISTRY

    metrics: dict[Any, Any] = {**CORE_METRIC_REGISTRY, AxschedMetric: None}
    runners: dict[type[Runner], Any] = {**CORE_RUNNER_REGISTRY, AxschedRunner: None}
    metrics |= more.pop("metric_clss", {})
    runners |= more.pop("runner_clss", {})
    return RegistryBundle(metric_clss=metrics, runner_clss=runners, **more)


CORE_ENCODER_REGISTRY[AxschedRunner] = runner_to_dict
CORE_DECODER_REGISTRY["AxschedRunner"] = AxschedRunner
CORE_ENCODER_REGISTRY[AxschedMetric] = metric_to_dict
CORE_DECODER_REGISTRY["AxschedMetric"] = AxschedMetric
