"""What the runner is called and what it can do: cheap to import."""

from __future__ import annotations

from axsched_core.jobs import Capability, RunnerInfo
from axsched_docker.options import DockerOptions

INFO = RunnerInfo(
    name="docker",
    capabilities=frozenset(
        {
            Capability.FUNCTION,
            Capability.SCRIPT,
            Capability.CONTAINER,
            Capability.LOGS,
            Capability.PUSH,
            Capability.REATTACH,
            Capability.RESOURCES,
        }
    ),
    summary="containers on a Docker engine, on this machine or another",
    options_class=DockerOptions,
    # A job's files are here before its end is told.
    result_grace=0.0,
)
