"""axsched's runners in Ax's own loops: `runner` gives what ``Orchestrator`` and
``Client.run_trials`` need.

If Ax is installed, importing this module imports it, and makes Ax's JSON storage know the classes
of our runners and metrics. So import it before you load such an experiment.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

if importlib.util.find_spec("ax") is not None:
    from axsched_core.native import classes
else:
    classes = None  # type: ignore[assignment]


def runner(
    name: str,
    objective: Callable[..., Any] | str | Path | Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    *,
    metrics: Sequence[str],
    config: Mapping[str, Any] | None = None,
) -> Any:
    """Make an Ax ``Runner`` (an ``IRunner``) that evaluates trials on one of axsched's runners.

    It is idempotent by trial: a trial that has, or had, a job is not submitted again. After the
    death of the driver, the experiment that Ax loads goes on with the same jobs, as
    `AxScheduler.resume` does. Batch trials are refused.

    Args:
        name: of an installed runner: ``"joblib"``, ``"slurm"``, ``"docker"``.
        objective: a function, called as ``f(parameters)`` with a dict if it takes one argument,
            and as ``f(x=..., y=...)`` if it takes several; the path of a script; or a mapping
            with the arguments of `AxScheduler.set_container_objective`.
        options: the runner's options, as ``runner_options`` of `AxScheduler`.
        metrics: the metrics that each result must hold.
        config: settings, as ``config`` of `AxScheduler`; its retries hold here too.

    Returns:
        The runner. ``runner.metrics`` is what ``Client.configure_metrics`` takes, and what an
        ``Experiment`` can have as metrics; ``runner.run_directory`` is where everything lies;
        ``runner.close()`` ends what still runs. ``runner.scheduler()`` is the `AxScheduler` that
        runs the jobs; in a new process give it secret options once:
        ``runner.scheduler({"option": value})``.

    Raises:
        ImportError: Ax is not installed.
        InvalidInput, RunnerError: an argument is wrong, or the runner cannot be used.

    Example:
        >>> runner = ax_native.runner("slurm", f, {"partition": "short"}, metrics=["loss"])
        >>> client.configure_runner(runner)
        >>> client.configure_metrics(runner.metrics)
        >>> client.run_trials(max_trials=20, parallelism=4)
    """
    return _classes().make(name, objective, options, metrics, config)


def registry(**more: Any) -> Any:
    """Ax's ``RegistryBundle`` with the classes of our runners and metrics, for SQL storage.

    Args:
        **more: further arguments of ``RegistryBundle``; ``metric_clss`` and ``runner_clss`` are
            added to ours.

    Raises:
        ImportError: Ax is not installed.
    """
    return _classes().registry(**more)


def _classes() -> Any:
    if classes is None:
        raise ImportError("axsched_core.ax_native needs Ax: pip install ax-platform")
    return classes
