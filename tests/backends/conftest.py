"""The backends of the tests, started when the first test asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import slurm_cluster as slurm
from support.missing_backends import need
from support.slurm_cluster import SlurmCluster

CLUSTERS = ("slurm_cluster", "slurm_cluster_plain")


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A Slurm cluster of three nodes, with accounting."""
    need("Slurm with accounting", slurm.missing(accounting=True))
    with SlurmCluster(tmp_path_factory.mktemp("slurm"), accounting=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm_cluster_plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A Slurm cluster of three nodes, without accounting: ``sacct`` fails."""
    need("Slurm", slurm.missing(accounting=False))
    with SlurmCluster(tmp_path_factory.mktemp("slurm-plain"), accounting=False) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _clusters_in_order(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test does to a cluster is undone before the next one."""
    yield
    for name in CLUSTERS:
        if name in request.fixturenames:
            request.getfixturevalue(name).restore()
