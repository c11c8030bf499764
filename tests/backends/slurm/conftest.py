from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axsched_slurm import SlurmRunner

from axsched_core.testing.bench import Bench
from support.slurm_cluster import SlurmCluster
from support.slurm_commands import Commands


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, commands: Commands) -> Callable[[SlurmCluster], None]:
    """Make a cluster the one that Slurm's commands speak to."""

    def use(cluster: SlurmCluster) -> None:
        for name, value in cluster.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PATH", f"{commands.folder}:{os.environ['PATH']}")

    return use


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


@pytest.fixture(params=["slurm_cluster", "slurm_cluster_plain"], ids=["accounting", "plain"])
def either(request: pytest.FixtureRequest, use: Callable[[SlurmCluster], None]) -> SlurmCluster:
    """The test runs on a cluster with accounting, and on one without."""
    cluster: SlurmCluster = request.getfixturevalue(request.param)
    use(cluster)
    return cluster


@pytest.fixture
def cluster(slurm_cluster: SlurmCluster, use: Callable[[SlurmCluster], None]) -> SlurmCluster:
    """A cluster with accounting, in use."""
    use(slurm_cluster)
    return slurm_cluster


@pytest.fixture
def open_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Opens sessions with a Slurm runner; they are closed when the test ends."""
    made: list[Bench] = []

    def open_bench(folder: Path = tmp_path, **options: Any) -> Bench:
        given = {"patience": 5.0, "command_timeout": 30.0, **options}
        made.append(Bench(SlurmRunner(**given), folder / "runs", patience=60))
        return made[-1]

    yield open_bench
    for bench in made:
        bench.session.close(wait=False)
