"""What the runner is called and what it can do: cheap to import."""

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
    # NFS shows a new file to other machines after up to a minute.
    result_grace=60.0,
)
