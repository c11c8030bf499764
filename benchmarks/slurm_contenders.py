"""The contenders of benchmarks/slurm.py. Each runs in a process of its own, as a user's driver.

    python benchmarks/slurm_contenders.py CONTENDER WORK FOLDER NUMBER AT_ONCE

prints, as its last line, what it has measured as a JSON object. ``WORK`` is ``latency`` (single
no-ops, one after another), ``trials`` (an optimization), or ``queue`` (jobs that only wait).
"""

from __future__ import annotations

import json
import logging
import random
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import CUBE, make_client, no_op

PARTITION = {"partition": "main", "time_limit": "00:05:00", "memory": "200M"}
LOOKS = 5


def sleeps(parameters: dict[str, Any]) -> float:
    """Between 1 and 3 s, decided by the parameters."""
    import random
    import time

    time.sleep(1 + 2 * random.Random(parameters["x"]).random())
    return float(parameters["x"])


class Meter:
    """Seconds of the clock, and of the CPU that this process and its commands took."""

    def __init__(self) -> None:
        self._began = self._now()

    def _now(self) -> tuple[float, float, float]:
        both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        times = [resource.getrusage(who) for who in both]
        return time.perf_counter(), *(one.ru_utime + one.ru_stime for one in times)

    def read(self) -> dict[str, float]:
        passed = (now - then for now, then in zip(self._now(), self._began, strict=True))
        return dict(zip(("wall", "driver", "commands"), passed, strict=True))


def timed(evaluate: Callable[[], Any], number: int) -> dict[str, Any]:
    """Seconds from submission to result, of each of so many jobs."""
    pauses = random.Random(0)
    evaluate()  # imports, caches
    meter, seconds = Meter(), []
    for _ in range(number):
        time.sleep(pauses.random())  # the controller has a beat of one second
        began = time.perf_counter()
        evaluate()
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, **meter.read()}


# ---- axsched


def scheduler(folder: Path, optimizer: Any = None, **options: Any) -> Any:
    from axsched_core import AxScheduler

    config = {"job_output_dir": folder, "progress": False, **options.pop("config", {})}
    runner_options = PARTITION | options
    return AxScheduler(optimizer or make_client(), "slurm", config, runner_options)


def axsched_latency(folder: Path, number: int, at_once: int) -> dict[str, Any]:
    with scheduler(folder) as one:
        one.set_objective_function(no_op)
        return timed(lambda: one.run_optimization(max_trials=1), number)


def axsched_trials(folder: Path, number: int, at_once: int) -> dict[str, Any]:
    with scheduler(folder, config={"max_parallelism": at_once}) as one:
        one.set_objective_function(sleeps)
        meter = Meter()
        one.run_optimization(max_trials=number)
        measured = meter.read()
        done = sum(trial.state == "SUCCEEDED" for trial in one.trials.values())
    return {**measured, "done": done}


def axsched_queue(folder: Path, number: int, at_once: int) -> dict[str, Any]:
    """Jobs of a partition that starts none; says what each look at them took."""
    from axsched_core.testing.random_search import RandomSearch

    counts = Path(sys.argv[6])
    optimizer = RandomSearch(CUBE)
    config = {"max_parallelism": number, "monitoring_interval": 2.0}
    with scheduler(folder, optimizer, partition="closed", config=config) as one:
        one.set_objective_function(no_op)
        meter = Meter()
        with one.batch_trial_context(synchronous=False) as batch:
            batch.add_generated(number)
        while any(trial.state == "CANDIDATE" for trial in one.trials.values()):
            one.monitor_trials()
        submitted = meter.read()
        before = len(counts.read_text().splitlines())
        meter, looks = Meter(), LOOKS
        for _ in range(LOOKS):
            time.sleep(config["monitoring_interval"])
            one.monitor_trials()
        seen = meter.read()
        asked = counts.read_text().splitlines()[before:]
        meter = Meter()
        one.cancel()
        return {
            "submitted": submitted,
            "looks": seen | {"number": looks, "asked": asked},
            "cancelled": meter.read(),
        }


# ---- submitit and AxClient


def executor(folder: Path) -> Any:
    import submitit

    made = submitit.AutoExecutor(folder, cluster="slurm")
    made.update_parameters(slurm_partition="main", timeout_min=5, slurm_mem="200M")
    return made


def submitit_latency(folder: Path, number: int, at_once: int) -> dict[str, Any]:
    slurm = executor(folder)
    return timed(lambda: slurm.submit(no_op, {"x": 0.5}).result(), number)


def submitit_trials(folder: Path, number: int, at_once: int) -> dict[str, Any]:
    """The loop of Ax's tutorial on submitit, without its pauses of 30 s; what can go out
    together goes as an array."""
    from ax.service.ax_client import AxClient, ObjectiveProperties

    client = AxClient(random_seed=1, verbose_logging=False)
    client.create_experiment(
        parameters=[{"name": n, "type": "range", "bounds": [0.0, 1.0]} for n in CUBE],
        objectives={"loss": ObjectiveProperties(minimize=True)},
        choose_generation_strategy_kwargs={
            "num_initialization_trials": number,
            "max_parallelism_override": at_once,
        },
    )
    slurm, meter = executor(folder), Meter()
    jobs: dict[int, Any] = {}
    made = 0
    while made < number or jobs:
        for index, job in list(jobs.items()):
            if job.done():
                client.complete_trial(index, raw_data={"loss": jobs.pop(index).result()})
        if wanted := min(at_once - len(jobs), number - made):
            trials, _ = client.get_next_trials(wanted)
            with slurm.batch():
                jobs |= {index: slurm.submit(sleeps, dict(p)) for index, p in trials.items()}
            made += len(trials)
        time.sleep(1)  # as `Job.wait` does
    return {**meter.read(), "done": made}


# ---- Slurm itself


def bare_latency(folder: Path, number: int, at_once: int) -> dict[str, Any]:
    """`sbatch` of a shell script that makes a file: what no client can be faster than."""
    folder.mkdir(exist_ok=True)

    def evaluate() -> None:
        done = folder / f"done-{time.time_ns()}"
        command = ["sbatch", "--quiet", "-o", "/dev/null", "--wrap", f"touch {done}"]
        subprocess.run(command, check=True)
        while not done.exists():
            time.sleep(0.005)

    return timed(evaluate, number)


def main() -> None:
    contender, work, folder, number, at_once = sys.argv[1:6]
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    measured = globals()[f"{contender}_{work}"](Path(folder), int(number), int(at_once))
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
