"""Overhead a trial and worker utilisation, against what people use today; one run, ratios.

All contenders make Sobol trials (random search) of the same search space with Ax, so that
candidate generation costs them the same, and evaluate them with the same number of workers:

* ``axsched``: AxScheduler with the joblib runner (each trial a supervised process);
* ``axsched-none``: the same with ``isolation="none"`` (no process a trial, as joblib's own);
* ``batch``: a hand-written loop: ``AxClient.get_next_trials`` + ``joblib.Parallel`` (loky),
  one batch after the other;
* ``orchestrator``: Ax's Orchestrator as ``Client.run_trials`` sets it up, with a Runner and a
  Metric written by hand over a process pool; polls every second, its default;
* ``orchestrator-0``: the same, told to poll without a pause.

Run: ``python benchmarks/peers.py [--trials N] [--workers N]``
"""

from __future__ import annotations

import argparse
import logging
import random
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

PARAMETERS = ["x", "y", "z"]


def no_op(parameters: dict[str, Any]) -> float:
    return float(parameters["x"])


def sleeps(parameters: dict[str, Any]) -> float:
    """Between 0.05 and 0.35 s, decided by the parameters."""
    time.sleep(0.05 + 0.3 * random.Random(parameters["x"]).random())
    return float(parameters["x"])


def busy_seconds(client: Any) -> float:
    experiment = getattr(client, "experiment", None) or client._experiment
    xs = [trial.arm.parameters["x"] for trial in experiment.trials.values()]
    return sum(0.05 + 0.3 * random.Random(x).random() for x in xs)


def make_client() -> Any:
    from ax import Client, RangeParameterConfig

    client = Client(random_seed=1)
    client.configure_experiment(
        parameters=[
            RangeParameterConfig(name=n, bounds=(0, 1), parameter_type="float") for n in PARAMETERS
        ]
    )
    client.configure_optimization("-loss")
    client.configure_generation_strategy(method="random_search")
    return client


def axsched(objective: Callable[..., float], trials: int, workers: int, **options: Any) -> Any:
    from axsched_core import AxScheduler

    client = make_client()
    with tempfile.TemporaryDirectory() as folder:
        config = {"job_output_dir": folder, "progress": False}
        runner = {"n_jobs": workers, **options}
        with AxScheduler(client, "joblib", config, runner) as scheduler:
            scheduler.set_objective_function(objective)
            start(client, lambda: scheduler.run_optimization(max_trials=trials))
    return client


def batch(objective: Callable[..., float], trials: int, workers: int) -> Any:
    from ax.service.ax_client import AxClient, ObjectiveProperties
    from joblib import Parallel, delayed

    client = AxClient(random_seed=1, verbose_logging=False)
    client.create_experiment(
        parameters=[{"name": n, "type": "range", "bounds": [0.0, 1.0]} for n in PARAMETERS],
        objectives={"loss": ObjectiveProperties(minimize=True)},
        choose_generation_strategy_kwargs={"num_initialization_trials": trials},
    )

    def loop() -> None:
        done = 0
        with Parallel(n_jobs=workers) as parallel:
            while done < trials:
                made, _ = client.get_next_trials(min(workers, trials - done))
                results = parallel(delayed(objective)(p) for p in made.values())
                for index, result in zip(made, results, strict=True):
                    client.complete_trial(index, raw_data={"loss": result})
                done += len(made)

    start(client, loop)
    return client


def orchestrator(
    objective: Callable[..., float], trials: int, workers: int, seconds_between_polls: int = 1
) -> Any:
    from ax.api.protocols.metric import IMetric
    from ax.api.protocols.runner import IRunner, TrialStatus

    futures: dict[int, Any] = {}

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

    client = make_client()
    client.configure_runner(Runner())
    client.configure_metrics([Metric("loss")])
    with ProcessPoolExecutor(workers) as pool:
        start(
            client,
            lambda: client.run_trials(
                trials, workers, initial_seconds_between_polls=seconds_between_polls
            ),
        )
    return client


seconds: dict[int, float] = {}


def start(client: Any, work: Callable[[], Any]) -> None:
    """Time the run alone, without making the client."""
    began = time.perf_counter()
    work()
    seconds[id(client)] = time.perf_counter() - began


CONTENDERS: dict[str, Callable[[Any, int, int], Any]] = {
    "axsched": axsched,
    "axsched-none": lambda f, n, w: axsched(f, n, w, isolation="none"),
    "batch": batch,
    "orchestrator": orchestrator,
    "orchestrator-0": lambda f, n, w: orchestrator(f, n, w, seconds_between_polls=0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS))
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    n, workers = arguments.trials, arguments.workers

    print(f"{n} trials, {workers} workers; wall time relative to axsched in the same run\n")
    print(f"{'':<16}{'no-op: ms a trial':>20}{'ratio':>8}{'sleeping: utilisation':>24}{'ratio':>8}")
    base: tuple[float, float] | None = None
    for name in arguments.only:
        contender = CONTENDERS[name]
        client = contender(no_op, n, workers)
        overhead = 1000 * seconds[id(client)] / n
        client = contender(sleeps, n, workers)
        use = busy_seconds(client) / (seconds[id(client)] * workers)
        base = base or (overhead, use)
        print(
            f"{name:<16}{overhead:>20.1f}{overhead / base[0]:>8.2f}"
            f"{use:>24.2f}{use / base[1]:>8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
