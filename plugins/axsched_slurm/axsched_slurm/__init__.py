"""axsched runner: a Slurm cluster."""

from axsched_slurm.options import SlurmOptions
from axsched_slurm.runner import SlurmRunner

__all__ = ["SlurmOptions", "SlurmRunner"]
