"""Two hundred objectives on BLAS, OpenMP and torch: the libraries that hang after a fork."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import psutil
import pytest
from axsched_joblib.template import NAME

from axsched_core.jobs import JobState
from support.waiting import wait_until

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def blas(parameters: dict[str, Any]) -> float:
    import numpy as np

    a = np.random.default_rng(parameters["seed"]).normal(size=(300, 300))
    return float(np.linalg.norm(a @ a.T))


def torch_matmul(parameters: dict[str, Any]) -> Any:
    import torch

    a = torch.rand(400, 400, generator=torch.Generator().manual_seed(parameters["seed"]))
    return (a @ a).sum()


def boosting(parameters: dict[str, Any]) -> float:
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingRegressor

    rng = np.random.default_rng(parameters["seed"])
    x = rng.normal(size=(200, 3))
    model = HistGradientBoostingRegressor(max_iter=3).fit(x, x[:, 0])
    return float(model.score(x, x[:, 0]))


def templates() -> list[psutil.Process]:
    mine = {"name": NAME, "ppid": os.getpid()}
    return [one for one in psutil.process_iter(list(mine)) if one.info == mine]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("threads", "preload", "count"),
    [(2, [], 50), (2, ["numpy", "scipy.linalg", "torch", "sklearn.ensemble"], 200)],
)
def test_two_hundred_numeric_objectives_do_not_hang(
    session: Callable[..., Any], threads: int, preload: list[str], count: int
) -> None:
    # The driver itself has run OpenMP: a child forked from it would hang.
    torch.set_num_threads(2)
    assert float((torch.rand(600, 600) @ torch.rand(600, 600)).sum()) > 0

    s = session(n_jobs=2, threads_per_job=threads, preload=preload)
    mix = [blas] * 178 + [torch_matmul] * 12 + [boosting] * 10
    jobs = [s.submit(mix[(i * 7) % 200], {"seed": i}) for i in range(count)]
    statuses = s.wait(*jobs, timeout=200)
    assert {status.state for status in statuses} == {JobState.SUCCEEDED}
    wait_until(lambda: bool(templates()) is bool(preload), 10, "there are templates, or none")
