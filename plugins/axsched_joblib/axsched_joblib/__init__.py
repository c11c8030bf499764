"""axsched runner: this machine's cores, or anything that joblib has a backend for."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from axsched_joblib.options import JobLibOptions
    from axsched_joblib.runner import JobLibRunner

__all__ = ["JobLibOptions", "JobLibRunner"]


def __getattr__(name: str) -> Any:
    # Lazily, because a pool's workers import `axsched_joblib.warm` and need nothing else.
    if name == "JobLibRunner":
        from axsched_joblib.runner import JobLibRunner

        return JobLibRunner
    if name == "JobLibOptions":
        from axsched_joblib.options import JobLibOptions

        return JobLibOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
