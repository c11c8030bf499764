"""The Slurm runner passes the whole kit on a real cluster, with accounting and without."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from axsched_core.jobs import ContainerObjective
from axsched_core.testing import RunnerConformance
from support.slurm_cluster import SlurmCluster
from support.slurm_commands import REAL, Commands

LOST = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


class OnSlurm(RunnerConformance):
    runner_name = "slurm"

    @pytest.fixture
    def patience(self):
        return 60.0

    @pytest.fixture
    def runner_options(self, lab: SlurmCluster) -> dict[str, Any]:
        return {"patience": 5, "command_timeout": 30}

    @pytest.fixture
    def foreign_objective(self):
        return ContainerObjective("image", options={"no_such_option": 1})

    @pytest.fixture
    def parameters_for(self, lab: SlurmCluster) -> Callable[[str], dict[str, Any] | None]:
        return lambda behaviour: None if behaviour == "late" else {"do": behaviour}

    @pytest.fixture
    def backend_calls(self, commands: Commands) -> Callable[[], int]:
        return commands.calls

    @pytest.fixture
    def calls_for_200_jobs(self):
        return 1

    @pytest.fixture
    def outage(self, lab: SlurmCluster) -> Callable[[], contextlib.AbstractContextManager[None]]:
        @contextlib.contextmanager
        def outage() -> Iterator[None]:
            lab.stop("slurmctld")
            try:
                yield
            finally:
                lab.start("slurmctld")

        return outage

    @pytest.fixture
    def answer_lost(
        self, commands: Commands
    ) -> Callable[[], contextlib.AbstractContextManager[None]]:
        @contextlib.contextmanager
        def lost() -> Iterator[None]:
            body = f'{REAL["sbatch"]} "$@" >/dev/null; echo "{LOST}" >&2; exit 1'
            commands.script("sbatch", body)
            try:
                yield
            finally:
                commands.restore("sbatch")

        return lost

    @pytest.fixture
    def leftovers(self, lab: SlurmCluster) -> Callable[[str], list[str]]:
        def find(run_id: str) -> list[str]:
            lines = lab.run("squeue", "-h", "-r", "-o", "%i %T %j").splitlines()
            return [line for line in lines if run_id in line]

        return find


class TestWithAccounting(OnSlurm):
    @pytest.fixture
    def lab(self, slurm_cluster: SlurmCluster, use: Callable[[SlurmCluster], None]) -> SlurmCluster:
        use(slurm_cluster)
        return slurm_cluster


class TestWithoutAccounting(OnSlurm):
    @pytest.fixture
    def lab(
        self, slurm_cluster_plain: SlurmCluster, use: Callable[[SlurmCluster], None]
    ) -> SlurmCluster:
        use(slurm_cluster_plain)
        return slurm_cluster_plain
