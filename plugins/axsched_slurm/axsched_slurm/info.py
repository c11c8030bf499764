"""Defines the runner's name and capabilities; cheap to import."""

from __future__ import annotations

from axsched_core.jobs import Capability, RunnerInfo
from axsched_slurm.options import SlurmOptions

INFO = RunnerInfo(
    name="slurm",
    capabilities=frozenset(
        {
            Capability.FUNCTION,
            Capability.SCRIPT,
            Capability.CONTAINER,
            Capability.LOGS,
            Capability.REATTACH,
            Capability.RESOURCES,
        }
    ),
    summary="a Slurm cluster",
    options_class=SlurmOptions,
    # NFS may take up to a minute to show a new file to other machines.
    result_grace=60.0,
)
