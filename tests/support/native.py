"""Ax's own loop on a real backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SHELL = 'echo \'{"loss": 0.5}\' >"$AXSCHED_RESULT_FILE"\n'
"""An objective."""


def check(name: str, objective: Any, options: dict[str, Any], outputs: Path) -> None:
    """Run three trials with ``Client.run_trials`` on this runner."""
    from ax import Client, RangeParameterConfig

    from axsched_core import ax_native

    config = {"job_output_dir": outputs, "monitoring_interval": 0.5}
    runner = ax_native.runner(name, objective, options, metrics=["loss"], config=config)
    try:
        client = Client(random_seed=3)
        client.configure_experiment(
            [RangeParameterConfig(name="x", bounds=(0, 1), parameter_type="float")], name="e"
        )
        client.configure_optimization("-loss")
        client.configure_runner(runner)
        client.configure_metrics(runner.metrics)
        client.run_trials(max_trials=3, parallelism=2, initial_seconds_between_polls=0)
        trials = client._experiment.trials.values()
        assert [trial.status.name for trial in trials] == ["COMPLETED"] * 3
        assert set(client._experiment.lookup_data().df["mean"]) == {0.5}
    finally:
        runner.close()
