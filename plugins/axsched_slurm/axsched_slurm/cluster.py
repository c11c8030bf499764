"""Asks the cluster for its configuration, once."""

from __future__ import annotations

import math
import re

from attrs import frozen

from axsched_slurm.commands import Commands


@frozen
class Cluster:
    """The part of ``scontrol show config`` that matters here."""

    name: str
    version: str
    accounting: bool
    """Whether sacct knows ended jobs."""
    max_array_size: int
    """One more than the greatest index of an array element."""
    max_jobs: int
    min_job_age: float
    """Seconds that squeue still lists an ended job; infinite if it never forgets one."""
    preempts: bool
    """Whether Slurm may stop jobs to make room for others."""
    signals_all: bool
    """Whether SIGTERM goes to all processes of a job, not only to its first."""


def describe(commands: Commands) -> Cluster:
    """Ask the controller.

    Raises:
        BackendUnavailable: it does not answer.
    """
    # Some values have a unit: "300 sec".
    text = commands.ask("scontrol", "show", "config")
    found = dict(re.findall(r"^(\w+)\s*= (.*?)\s*$", text, re.MULTILINE))

    def number(name: str, default: int) -> int:
        value = found.get(name, "").partition(" ")[0]
        return int(value) if value.isdigit() else default

    return Cluster(
        name=found.get("ClusterName", ""),
        version=found.get("SLURM_VERSION", ""),
        accounting=found.get("AccountingStorageType", "").endswith("slurmdbd"),
        max_array_size=number("MaxArraySize", 1001),
        max_jobs=number("MaxJobCount", 10000),
        min_job_age=number("MinJobAge", 300) or math.inf,
        signals_all=(
            found.get("ProctrackType") == "proctrack/linuxproc"
            or found.get("SignalChildrenProcesses") == "yes"
        ),
        preempts=found.get("PreemptType", "preempt/none") != "preempt/none",
    )
