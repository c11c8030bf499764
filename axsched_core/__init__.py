"""Run an Ax optimization on the machines that you have."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from axsched_core.best import Best, Point
    from axsched_core.config import RetryPolicy, SchedulerConfig
    from axsched_core.errors import AxschedError
    from axsched_core.hookspecs import hookimpl
    from axsched_core.one_call import optimize
    from axsched_core.result import OptimizationResult
    from axsched_core.scheduler import AxScheduler
    from axsched_core.trials import Trial, TrialState
    from axsched_core.worker.axsched_worker import report

__all__ = [
    "AxScheduler",
    "AxschedError",
    "Best",
    "OptimizationResult",
    "Point",
    "RetryPolicy",
    "SchedulerConfig",
    "Trial",
    "TrialState",
    "hookimpl",
    "optimize",
    "report",
]

# Name -> its module, imported when the name is first used: the command line and the jobs need few.
_MODULES = {
    "AxScheduler": "scheduler",
    "AxschedError": "errors",
    "Best": "best",
    "OptimizationResult": "result",
    "Point": "best",
    "RetryPolicy": "config",
    "SchedulerConfig": "config",
    "Trial": "trials",
    "TrialState": "trials",
    "hookimpl": "hookspecs",
    "optimize": "one_call",
    "report": "worker.axsched_worker",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
    missing = f"{__name__}.{name}"
    if not name.startswith("_"):
        try:  # `axsched_core.errors` is there after `import axsched_core` alone
            return importlib.import_module(missing)
        except ModuleNotFoundError as error:
            if error.name != missing:
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
