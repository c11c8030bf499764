"""What do candidates cost in quality that are made in advance?

    python benchmarks/regret.py [--seeds 20] [--trials 30] [--workers 4] [--problem branin ...]

Each candidate is made by Ax ("fast") while others are pending, as many as there are workers and
candidates in advance: trial i is made when all but the last ``workers - 1 + prefetch`` of those
before it have results. ``sequential`` has none pending; ``batch`` makes as many as there are
workers at once. All trials take equally long, so this is the order in which a run makes them.

The table has the median of the simple regret (the best value so far, without noise, minus the
optimum) after a third, two thirds and all of the trials, with a bootstrap interval of 90 % for the
last; and the ratio of the geometric means of the last regret to that of ``prefetch=0``.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from attrs import frozen
from common import branin

HARTMANN_A = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
HARTMANN_P = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def hartmann6(*x: float) -> float:
    """The Hartmann function of six variables (Dixon and Szego 1978)."""
    return -sum(
        alpha * math.exp(-sum(a * (v - p) ** 2 for a, v, p in zip(row, x, place, strict=True)))
        for alpha, row, place in zip((1.0, 1.2, 3.0, 3.2), HARTMANN_A, HARTMANN_P, strict=True)
    )


@frozen
class Problem:
    """One to minimize."""

    bounds: tuple[tuple[float, float], ...]
    value: Callable[..., float]
    best: float
    noise: float = 0.0
    """Standard deviation of each observation."""
    limited: Callable[..., float] | None = None
    """A second metric, which must be at most 0."""


PLANE = ((-5.0, 10.0), (0.0, 15.0))
PROBLEMS = {
    "branin": Problem(PLANE, branin, 0.397887),
    "hartmann6": Problem(((0.0, 1.0),) * 6, hartmann6, -3.32237),
    "noisy": Problem(PLANE, branin, 0.397887, noise=5.0),
    # Of the three optima only the one at (9.42, 2.47) is allowed.
    "constrained": Problem(PLANE, branin, 0.397887, limited=lambda x, y: y - x),
}
MODES = {"sequential": None, "batch": None, "0": 0, "1": 1, "2": 2, "4": 4}


def run(name: str, mode: str, seed: int, trials: int, workers: int) -> list[float]:
    """The regret after each trial, in the order in which the trials were made."""
    from ax import Client, RangeParameterConfig
    from ax.exceptions.core import DataRequiredError

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    import torch

    torch.set_num_threads(1)
    problem, noise = PROBLEMS[name], random.Random(seed)
    names = [f"x{number}" for number in range(len(problem.bounds))]
    client = Client(random_seed=seed)
    client.configure_experiment(
        parameters=[
            RangeParameterConfig(name=one, bounds=bounds, parameter_type="float")
            for one, bounds in zip(names, problem.bounds, strict=True)
        ]
    )
    constraints = ["limited <= 0"] if problem.limited else []
    client.configure_optimization("-loss", outcome_constraints=constraints)
    client.configure_generation_strategy(method="fast", initialization_budget=2 * workers)
    pending: list[tuple[int, dict[str, Any]]] = []
    regrets: list[float] = []

    def finish(count: int) -> None:
        for _ in range(count):
            index, parameters = pending.pop(0)
            x = [parameters[one] for one in names]
            data = {"loss": problem.value(*x) + noise.gauss(0.0, problem.noise)}
            if problem.limited:
                data["limited"] = problem.limited(*x)
            client.complete_trial(index, raw_data=data)
            allowed = problem.limited is None or data["limited"] <= 0
            regret = problem.value(*x) - problem.best if allowed else math.inf
            regrets.append(min(regret, regrets[-1] if regrets else math.inf))

    ahead = MODES[mode]
    most = 1 if mode == "sequential" else workers + (ahead or 0)
    while len(regrets) < trials:
        if mode == "batch":
            wanted = min(workers, trials - len(regrets))
            pending += client.get_next_trials(max_trials=wanted).items()
            finish(len(pending))  # Ax may make fewer: the rest of the initial points
            continue
        if len(regrets) + len(pending) == trials:
            finish(len(pending))
            continue
        try:
            pending += client.get_next_trials(max_trials=1).items()
        except DataRequiredError:  # the initial points are made, and too few have results
            finish(1)
        finish(max(0, len(pending) - most + 1))
    return regrets


def interval(values: list[float]) -> tuple[float, float]:
    """A bootstrap interval of 90 % for the median."""
    rng = random.Random(0)
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(1000))
    return medians[50], medians[949]


def apart(job: tuple[str, str, int], trials: int, workers: int) -> list[float]:
    command = [sys.executable, __file__, "--one", *map(str, (*job, trials, workers))]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: list[float] = json.loads(out)
    return found


def table(name: str, found: dict[str, list[list[float]]], trials: int) -> Iterator[str]:
    base = found.get("0")
    for mode, regrets in found.items():
        at = [regrets_at(regrets, trials * third // 3) for third in (1, 2, 3)]
        low, high = interval(at[-1])
        words = "  ".join(f"{statistics.median(one):8.4f}" for one in at)
        ratio = ""
        if base is not None and all(map(math.isfinite, at[-1])):
            others = regrets_at(base, trials)
            ratio = f"{geometric(at[-1]) / geometric(others):6.2f}"
        label = mode if mode in ("sequential", "batch") else f"prefetch={mode}"
        yield f"{name:<12}{label:<12}{words}  ({low:.4f}-{high:.4f})  {ratio}"


def regrets_at(regrets: list[list[float]], trial: int) -> list[float]:
    return [one[trial - 1] for one in regrets]


def geometric(values: list[float]) -> float:
    return math.exp(statistics.fmean(math.log(max(one, 1e-9)) for one in values))


def main() -> int:
    if sys.argv[1:2] == ["--one"]:
        name, mode, seed, trials, workers = sys.argv[2:]
        print(json.dumps(run(name, mode, int(seed), int(trials), int(workers))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--at-once", type=int, default=2, help="processes of this benchmark")
    parser.add_argument("--problem", nargs="*", choices=PROBLEMS, default=list(PROBLEMS))
    arguments = parser.parse_args()
    print(f"{'':<24}{'a third':>8}  {'2 thirds':>8}  {'all':>8}  (90 % for all)  against 0")
    for name in arguments.problem:
        jobs = [(name, mode, seed) for seed in range(arguments.seeds) for mode in MODES]
        with ThreadPoolExecutor(arguments.at_once) as pool:
            ran = pool.map(lambda job: apart(job, arguments.trials, arguments.workers), jobs)
            found: dict[str, list[list[float]]] = {}
            for (_, mode, _), regrets in zip(jobs, ran, strict=True):
                found.setdefault(mode, []).append(regrets)
        for line in table(name, found, arguments.trials):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
