"""The entry point ``docker``: found by name, cheap to import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import Check, RunnerInfo
from axsched_docker.info import INFO
from axsched_docker.options import DockerOptions


@hookimpl
def axsched_runner_info() -> RunnerInfo:
    """Say what the runner is called and what it can do."""
    return INFO


@hookimpl
def axsched_make_runner(options: Any) -> object:
    """Make a `DockerRunner`; the engine is not asked for anything yet."""
    from axsched_docker.runner import DockerRunner

    return DockerRunner(options)


@hookimpl
def axsched_diagnose(options: Any) -> Sequence[Check]:
    """Say whether the engine can be used, and whether its containers can run jobs."""
    from axsched_docker.diagnose import diagnose

    return diagnose(options if options is not None else DockerOptions())
