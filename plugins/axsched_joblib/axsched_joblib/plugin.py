"""The entry point ``joblib``: found by name, cheap to import."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from axsched_core.hookspecs import hookimpl
from axsched_core.jobs import Check, RunnerInfo
from axsched_joblib.info import INFO
from axsched_joblib.options import JobLibOptions, capture_parallel_config, resolve


@hookimpl
def axsched_runner_info() -> RunnerInfo:
    """Return the runner's name and what it can do."""
    return INFO


@hookimpl
def axsched_make_runner(options: Any) -> object:
    """Make a `JobLibRunner`; it uses the calling thread's `joblib.parallel_config`."""
    from axsched_joblib.runner import JobLibRunner

    return JobLibRunner.from_options(options if options is not None else JobLibOptions())


@hookimpl
def axsched_diagnose(options: Any) -> Sequence[Check]:
    """Check whether joblib and the chosen backend can be used here."""
    from axsched_core.errors import AxschedError

    try:
        import joblib
    except ImportError as error:
        return [Check("joblib", False, f"cannot be imported ({error}); pip install joblib")]
    checks = [Check("joblib", True, f"version {joblib.__version__}")]
    try:
        settings = resolve(options or JobLibOptions(), capture_parallel_config())
    except AxschedError as error:
        return [*checks, Check("options", False, str(error))]
    checks.append(
        Check(
            "options",
            True,
            f"backend {settings.backend}, {settings.n_jobs} jobs at a time, isolation "
            f"{settings.isolation}, {settings.threads} threads a job",
        )
    )
    exact = sys.platform.startswith("linux")
    words = "every descendant of a job is ended with it"
    if not exact:
        words = "processes that leave a job's process group outlive it: not Linux"
    return [*checks, Check("descendants", exact or settings.isolation == "none", words)]
