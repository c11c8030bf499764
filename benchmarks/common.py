"""What several benchmarks share: problems, Ax clients for them, and one way to tell of aims."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

CUBE = {"x": (0.0, 1.0), "y": (0.0, 1.0), "z": (0.0, 1.0)}
PLANE = {"x": (-5.0, 10.0), "y": (0.0, 15.0)}
"""Of `branin`."""


def no_op(parameters: Mapping[str, Any]) -> float:
    return float(parameters["x"])


def branin(x: float, y: float) -> float:
    return float(
        (y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6) ** 2
        + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x)
        + 10
    )


def make_client(strategy: str = "sobol", bounds: Mapping[str, tuple[float, float]] = CUBE) -> Any:
    """An Ax ``Client`` that minimizes "loss".

    Args:
        strategy: "sobol" (random search to the end) or "model" (Ax's choice, "fast").
        bounds: of the parameters.
    """
    from ax import Client, RangeParameterConfig

    client = Client(random_seed=1)
    client.configure_experiment(
        parameters=[
            RangeParameterConfig(name=name, bounds=pair, parameter_type="float")
            for name, pair in bounds.items()
        ]
    )
    client.configure_optimization("-loss")
    client.configure_generation_strategy(
        method="random_search" if strategy == "sobol" else "fast", torch_device="cpu"
    )
    return client


def tell(aims: Mapping[str, bool]) -> int:
    """Print which aims are reached.

    Args:
        aims: in words -> reached.

    Returns:
        The exit status: 1 where one is missed.
    """
    for words, reached in aims.items():
        print(f"{'ok  ' if reached else 'MISS'}  {words}", flush=True)
    return 0 if all(aims.values()) else 1
