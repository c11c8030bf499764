"""Slurm's commands behind scripts on PATH: they count, and can be told to misbehave."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from axsched_core.jobs import JobHandle
from support.slurm_cluster import SlurmCluster

NAMES = ("sbatch", "squeue", "scancel", "scontrol", "sacct")
REAL = {name: shutil.which(name) or f"/nonexistent/{name}" for name in NAMES}
"""Where the real commands are, from before anything was put in front of them."""


class Commands:
    """A folder of scripts for the front of PATH, each of which calls the real command.

    Args:
        folder: where they are made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        self._calls = folder / "calls"
        self._calls.touch()
        for name in NAMES:
            self.restore(name)

    def script(self, name: str, body: str) -> None:
        """Make a command do something else."""
        path = self.folder / name
        beside = path.with_suffix(".new")
        calls = shlex.quote(str(self._calls))
        beside.write_text(f'#!/bin/sh\necho "{name} $*" >>{calls}\n{body}\n')
        beside.chmod(0o755)
        beside.replace(path)

    def restore(self, name: str) -> None:
        """Make a command do what it is there for."""
        self.script(name, f'exec {REAL[name]} "$@"')

    def calls(self, name: str = "") -> int:
        """How many calls there were, of one command or of all."""
        lines = self._calls.read_text().splitlines()
        return sum(line.startswith(name) for line in lines)


def start_again(cluster: SlurmCluster, handle: JobHandle) -> None:
    """Have Slurm start soon a job that it has put back into its queue for two minutes."""
    # Not in the second in which it was stopped: its node would refuse it for that.
    cluster.run("scontrol", "update", f"JobId={handle.backend_id}", "StartTime=now+3")
