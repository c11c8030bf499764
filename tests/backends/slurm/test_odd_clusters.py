"""Clusters with settings that few have: no arrays, a short queue, names that the site changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from axsched_core.jobs import JobState
from axsched_core.testing.bench import Bench
from support import slurm_cluster as slurm
from support.missing_backends import need
from support.slurm_cluster import SlurmCluster

OpenBench = Callable[..., Bench]
SUCCEED = {"do": "succeed"}


@pytest.fixture
def make_cluster(
    tmp_path_factory: pytest.TempPathFactory, use: Callable[[SlurmCluster], None]
) -> Callable[..., SlurmCluster]:
    """Makes a small cluster without accounting and puts it in use; the test enters it."""

    def make(**given: object) -> SlurmCluster:
        need("Slurm", slurm.missing(accounting=False))
        folder: Path = tmp_path_factory.mktemp("odd")
        made = SlurmCluster(folder, accounting=False, nodes=1, settings=given)
        use(made)
        return made

    return make


@pytest.mark.parametrize("size", [0, 1])
def test_a_cluster_without_arrays(
    size: int, make_cluster: Callable[..., SlurmCluster], open_bench: OpenBench
) -> None:
    with make_cluster(MaxArraySize=size):
        bench = open_bench()
        handles = bench.submit(*[bench.request(SUCCEED) for _ in range(3)])
        assert {s.state for s in bench.wait(handles).values()} == {JobState.SUCCEEDED}
