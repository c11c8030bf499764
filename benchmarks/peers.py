"""Do workers wait? axsched against what people use today, in one run, as ratios.

Contenders, all with the same number of worker processes:

* ``axsched``: AxScheduler with the joblib runner, ``isolation="none"`` (no process for each trial,
  like the others);
* ``isolated``: the same with a supervised process for each trial, the default;
* ``no-prefetch``: ``axsched`` with ``prefetch=0``;
* ``async``: a hand-written loop over Ax's Client: whenever a worker is free, complete what has
  ended, ask for as many trials as there are free workers, submit them (loky);
* ``batch``: a hand-written loop: one batch after the other, ``joblib.Parallel``;
* ``orchestrator``: ``Client.run_trials`` with a Runner and a Metric written by hand, polls at 0 s;
* ``optuna``: Optuna's ask and tell over the same workers, in memory (if it is installed).

Objectives: ``no-op``, ``50ms``, ``mixed`` (10 to 200 ms) and ``branin`` with ``--seconds`` each.
Strategies: ``sobol`` (random search to the end) or ``model`` (Ax's choice, "fast").

Each cell is measured in a process of its own, the repeats of all contenders interleaved; the table
has medians, and the smallest and largest value. *Beside* is the wall time that is not the
objective's, per trial; *busy* is the share of the time in which a worker evaluates; *CPU* is the
driver's.

Run: ``python benchmarks/peers.py [--help]``
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

from common import PLANE, branin, make_client

# ---- objectives --------------------------------------------------------------------------------


def duration(kind: str, x: float, seconds: float) -> float:
    if kind == "mixed":
        return 0.01 + 0.19 * random.Random(x).random()
    return {"no-op": 0.0, "50ms": 0.05, "branin": seconds}[kind]


class Objective:
    """Sleeps as long as its kind says, then computes; picklable for every pool."""

    def __init__(self, kind: str, seconds: float) -> None:
        self.kind, self.seconds = kind, seconds

    def __call__(self, parameters: dict[str, Any]) -> float:
        time.sleep(duration(self.kind, parameters["x"], self.seconds))
        return branin(parameters["x"], parameters["y"])


# ---- contenders --------------------------------------------------------------------------------


def evaluated(client: Any) -> list[float]:
    return [trial.arm.parameters["x"] for trial in client._experiment.trials.values()]


def axsched(cell: argparse.Namespace, *, isolation: str = "none", **settings: Any) -> Timed:
    from axsched_core import AxScheduler

    client = make_client(cell.strategy, PLANE)
    with tempfile.TemporaryDirectory() as folder:
        config = {"job_output_dir": folder, "progress": False, **settings}
        options = {"n_jobs": cell.workers, "isolation": isolation}
        with AxScheduler(client, "joblib", config, options) as scheduler:
            scheduler.set_objective_function(Objective(cell.objective, cell.seconds))
            timed = Timed()
            scheduler.run_optimization(max_trials=cell.trials)
            timed.stop()
    return timed.of(evaluated(client))


class Timed:
    """Wall and CPU seconds of a run, without imports and without making the client."""

    def __init__(self) -> None:
        self.began, self.cpu = time.perf_counter(), time.process_time()
        self.xs: list[float] = []

    def stop(self) -> None:
        self.wall = time.perf_counter() - self.began
        self.cpu = time.process_time() - self.cpu

    def of(self, xs: list[float]) -> Timed:
        self.xs = xs
        return self


def by_hand(cell: argparse.Namespace) -> Timed:
    from concurrent.futures import FIRST_COMPLETED, wait

    from joblib.externals.loky import get_reusable_executor

    client, objective = make_client(cell.strategy, PLANE), Objective(cell.objective, cell.seconds)
    timed = Timed()
    pool = get_reusable_executor(max_workers=cell.workers)
    running: dict[Any, int] = {}
    made = 0
    while made < cell.trials or running:
        if free := min(cell.workers - len(running), cell.trials - made):
            for index, parameters in client.get_next_trials(max_trials=free).items():
                running[pool.submit(objective, parameters)] = index
                made += 1
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            client.complete_trial(running.pop(future), raw_data={"loss": future.result()})
    timed.stop()
    pool.shutdown()
    return timed.of(evaluated(client))


def batch(cell: argparse.Namespace) -> Timed:
    from joblib import Parallel, delayed

    client, objective = make_client(cell.strategy, PLANE), Objective(cell.objective, cell.seconds)
    timed, done = Timed(), 0
    with Parallel(n_jobs=cell.workers) as parallel:
        while done < cell.trials:
            made = client.get_next_trials(max_trials=min(cell.workers, cell.trials - done))
            results = parallel(delayed(objective)(p) for p in made.values())
            for index, result in zip(made, results, strict=True):
                client.complete_trial(index, raw_data={"loss": result})
            done += len(made)
    timed.stop()
    return timed.of(evaluated(client))


def orchestrator(cell: argparse.Namespace) -> Timed:
    from ax.api.protocols.metric import IMetric
    from ax.api.protocols.runner import IRunner, TrialStatus
    from joblib.externals.loky import get_reusable_executor

    futures: dict[int, Any] = {}
    objective = Objective(cell.objective, cell.seconds)

    class Runner(IRunner):  # type: ignore[misc]
        def run_trial(self, trial_index: int, parameterization: Any) -> dict[str, Any]:
            futures[trial_index] = pool.submit(objective, dict(parameterization))
            return {}

        def poll_trial(self, trial_index: int, trial_metadata: Any) -> Any:
            done = futures[trial_index].done()
            return TrialStatus.COMPLETED if done else TrialStatus.RUNNING

        def stop_trial(self, trial_index: int, trial_metadata: Any) -> dict[str, Any]:
            return {}

    class Metric(IMetric):  # type: ignore[misc]
        def fetch(self, trial_index: int, trial_metadata: Any) -> tuple[int, float]:
            return 0, futures[trial_index].result()

    client = make_client(cell.strategy, PLANE)
    client.configure_runner(Runner())
    client.configure_metrics([Metric("loss")])
    timed = Timed()
    pool = get_reusable_executor(max_workers=cell.workers)
    client.run_trials(cell.trials, cell.workers, initial_seconds_between_polls=0)
    timed.stop()
    pool.shutdown()
    return timed.of(evaluated(client))


def optuna(cell: argparse.Namespace) -> Timed:
    from concurrent.futures import FIRST_COMPLETED, wait

    import optuna as library
    from joblib.externals.loky import get_reusable_executor

    library.logging.set_verbosity(library.logging.WARNING)
    sampler = (
        library.samplers.QMCSampler if cell.strategy == "sobol" else library.samplers.TPESampler
    )
    study = library.create_study(sampler=sampler(seed=1))
    objective = Objective(cell.objective, cell.seconds)
    timed = Timed()
    pool = get_reusable_executor(max_workers=cell.workers)
    running: dict[Any, Any] = {}
    made = 0
    while made < cell.trials or running:
        while len(running) < cell.workers and made < cell.trials:
            trial = study.ask()
            parameters = {n: trial.suggest_float(n, *pair) for n, pair in PLANE.items()}
            running[pool.submit(objective, parameters)] = trial
            made += 1
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            study.tell(running.pop(future), future.result())
    timed.stop()
    pool.shutdown()
    return timed.of([trial.params["x"] for trial in study.trials])


CONTENDERS: dict[str, Callable[[argparse.Namespace], Timed]] = {
    "axsched": axsched,
    "isolated": lambda cell: axsched(cell, isolation="fork"),
    "no-prefetch": lambda cell: axsched(cell, prefetch=0),
    "async": by_hand,
    "batch": batch,
    "orchestrator": orchestrator,
    "optuna": optuna,
}


# ---- measuring -----------------------------------------------------------------------------------


def measure(name: str, cell: argparse.Namespace) -> None:
    """In a process of its own: one contender, one cell; the figures as JSON."""
    warnings.filterwarnings("ignore")
    import torch

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    timed = CONTENDERS[name](cell)
    asleep = sum(duration(cell.objective, x, cell.seconds) for x in timed.xs)
    figures = {
        "wall": timed.wall,
        "beside": 1000 * (timed.wall - asleep / cell.workers) / len(timed.xs),
        "busy": asleep / (timed.wall * cell.workers),
        "cpu": 1000 * timed.cpu / len(timed.xs),
    }
    print(json.dumps(figures), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--objective", default="50ms")
    parser.add_argument("--seconds", type=float, default=1.3, help="of branin")
    parser.add_argument("--strategy", choices=("sobol", "model"), default="sobol")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    cell = parser.parse_args()
    if cell.measure:
        measure(cell.measure, cell)
        return 0
    status = 0
    found: dict[str, list[dict[str, float]]] = {name: [] for name in cell.only}
    for _ in range(cell.repeats):
        for name in cell.only:
            command = [sys.executable, __file__, *sys.argv[1:], "--measure", name]
            threads = {"OMP_NUM_THREADS": "1"}
            run = subprocess.run(
                command, capture_output=True, text=True, check=False, env=os.environ | threads
            )
            if run.returncode:
                why = run.stderr.strip().splitlines()[-1]
                print(f"{name}: {why}", file=sys.stderr)
                if not why.startswith("ModuleNotFoundError"):  # it is not installed
                    status = 2
                continue
            found[name].append(json.loads(run.stdout.splitlines()[-1]))
    what = (
        f"{cell.objective} ({cell.seconds:g} s)" if cell.objective == "branin" else cell.objective
    )
    print(
        f"{cell.strategy}, {what}, {cell.trials} trials, {cell.workers} workers, medians of "
        f"{cell.repeats} interleaved repeats (smallest to largest)\n"
    )
    print(f"{'':<14}{'beside: ms a trial':>26}{'busy':>22}{'CPU: ms a trial':>26}{'wall: s':>22}")
    for name, figures in found.items():
        if figures:
            columns = [_column(figures, key) for key in ("beside", "busy", "cpu", "wall")]
            print(f"{name:<14}{columns[0]:>26}{columns[1]:>22}{columns[2]:>26}{columns[3]:>22}")
    return status


def _column(figures: list[dict[str, float]], key: str) -> str:
    values = sorted(one[key] for one in figures)
    middle = statistics.median(values)
    return f"{middle:.3g} ({values[0]:.3g} to {values[-1]:.3g})"


if __name__ == "__main__":
    raise SystemExit(main())
