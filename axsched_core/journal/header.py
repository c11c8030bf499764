"""The first line of a journal: all that another driver needs to know about the first one."""

from __future__ import annotations

import importlib.metadata
import socket
from collections.abc import Mapping
from typing import Any

import attrs

from axsched_core import options
from axsched_core.config import SchedulerConfig
from axsched_core.jobs import RunnerInfo
from axsched_core.journal.rundir import RunDirectory
from axsched_core.optimizers.base import Optimizer


def header(
    rundir: RunDirectory,
    optimizer: Optimizer,
    runner: RunnerInfo,
    runner_options: Mapping[str, Any] | None,
    config: SchedulerConfig,
) -> dict[str, Any]:
    """The first line of a journal: all that another driver needs to know about the first one."""
    settings = {**attrs.asdict(config), "job_output_dir": str(config.job_output_dir)}
    secret = options.secrets_of(runner.options_class)
    plain, secrets = options.split(runner_options or {}, secret)
    return {
        "run_id": rundir.run_id,
        "name": optimizer.name,
        "place": str(rundir.path),
        "host": socket.gethostname(),
        "optimizer": optimizer.kind,
        "seed": optimizer.seed,
        "runner": runner.name,
        "runner_options": None if runner_options is None else plain,
        "secrets": secrets,
        "config": settings,
        "versions": versions(),
        "optimized": optimizer.describe(),
    }


def versions() -> dict[str, str]:
    """The versions that may matter when a run is resumed."""
    found = {}
    for name in ("axsched-core", "ax-platform"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optimizer without Ax does not need it
    return found
