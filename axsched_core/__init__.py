"""Run an Ax optimization on the machines that you have."""

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
