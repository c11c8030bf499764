"""The entry point ``slurm``: found by name, cheap to import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import Check, RunnerInfo
from axsched_slurm.info import INFO
from axsched_slurm.options import SlurmOptions


@hookimpl
def axsched_runner_info() -> RunnerInfo:
    """Say what the runner is called and what it can do."""
    return INFO


@hookimpl
def axsched_make_runner(options: Any) -> object:
    """Make a `SlurmRunner`."""
    from axsched_slurm.runner import SlurmRunner

    return SlurmRunner.from_options(options or SlurmOptions())


@hookimpl
def axsched_diagnose(options: Any) -> Sequence[Check]:
    """Look at the commands, the controller, accounting, limits, and run a small job."""
    from axsched_slurm.diagnose import checks

    return checks(options or SlurmOptions())
