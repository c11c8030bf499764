"""axsched runner: a Slurm cluster."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from axsched_slurm.options import SlurmOptions
    from axsched_slurm.runner import SlurmRunner

__all__ = ["SlurmOptions", "SlurmRunner"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `axsched runners` does not load the whole runner.
    if name == "SlurmRunner":
        from axsched_slurm.runner import SlurmRunner

        return SlurmRunner
    if name == "SlurmOptions":
        from axsched_slurm.options import SlurmOptions

        return SlurmOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
