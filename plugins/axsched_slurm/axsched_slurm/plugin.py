"""Defines the entry point ``slurm``; cheap to import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import Check, RunnerInfo
from axsched_slurm.info import INFO
from axsched_slurm.options import SlurmOptions


@hookimpl
def axsched_runner_info() -> RunnerInfo:
    """Return the runner's name and capabilities."""
    return INFO


@hookimpl
def axsched_make_runner(options: Any) -> object:
    """Make a `SlurmRunner`."""
    from axsched_slurm.runner import SlurmRunner

    return SlurmRunner.from_options(options or SlurmOptions())


@hookimpl
def axsched_diagnose(options: Any) -> Sequence[Check]:
    """Check the commands, the controller, accounting and limits, and run a small job."""
    from axsched_slurm.diagnose import checks

    return checks(options or SlurmOptions())
