"""The runner's name and what it can do: cheap to import."""

from __future__ import annotations

from axsched_core.jobs import Capability, RunnerInfo
from axsched_joblib.options import JobLibOptions

INFO = RunnerInfo(
    name="joblib",
    capabilities=frozenset(
        {
            Capability.FUNCTION,
            Capability.SCRIPT,
            Capability.LOGS,
            Capability.PUSH,
            Capability.REATTACH,
        }
    ),
    summary="this machine's cores, or anything that joblib has a backend for",
    options_class=JobLibOptions,
    # Results are written before exit.json; only a cluster behind dask may lag.
    result_grace=2.0,
)
