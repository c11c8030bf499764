"""What does a job of its own process cost beside the objective?

    python benchmarks/isolation.py [--jobs 20] [--rounds 5]

Objectives that only import something: nothing, NumPy, scikit-learn, torch. One job after the other,
by turns:

* ``axsched``: the joblib runner as it comes: jobs are forked from a process that has the modules
  which the first job has imported;
* ``no-preload``: the same with ``preload=[]``: each job imports what it needs;
* ``spawn``: a fresh interpreter for each job;
* ``none``: ``isolation="none"``, a call in the pool's worker;
* ``loky``: a future of loky's reusable executor, by hand, which isolates nothing.

The table has the median of the jobs from the third on, in milliseconds from the submission to the
result, with the fastest and the slowest round. Ends with status 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cloudpickle
from axsched_joblib import JobLibRunner
from common import tell

from axsched_core.jobs import JobState
from axsched_core.testing import Bench

MODULES = {"nothing": "", "numpy": "numpy", "sklearn": "sklearn.ensemble", "torch": "torch"}
AIMS = {"sklearn": 30.0, "torch": 60.0}
"""Milliseconds beside the objective."""
OPTIONS = {
    "axsched": {},
    "no-preload": {"preload": []},
    "spawn": {"isolation": "spawn"},
    "none": {"isolation": "none"},
}
FIRST = 2
"""Jobs that learn and prepare."""


def objective(module: str) -> Callable[[object], float]:
    def imports(_: object) -> float:
        if module:
            importlib.import_module(module)
        return 1.0

    return imports


@contextlib.contextmanager
def by_axsched(name: str, module: str) -> Iterator[Callable[[], None]]:
    with tempfile.TemporaryDirectory() as folder:
        runner = JobLibRunner(1, threads_per_job=1, **OPTIONS[name])
        bench = Bench(runner, Path(folder), patience=120)
        (bench.run_dir / "function.pkl").write_bytes(cloudpickle.dumps(objective(module)))

        def run() -> None:
            handle = bench.start({"x": 1.0})
            assert bench.wait([handle])[handle.key].state is JobState.SUCCEEDED
            assert bench.metrics(handle) == {"loss": (1.0, None)}

        yield run
        bench.close()


@contextlib.contextmanager
def by_hand(module: str) -> Iterator[Callable[[], None]]:
    from joblib.externals.loky import get_reusable_executor

    pool = get_reusable_executor(max_workers=1)
    function = cloudpickle.dumps(objective(module))

    def run() -> None:
        assert pool.submit(_call, function).result() == 1.0

    yield run
    pool.shutdown(kill_workers=True)


def _call(function: bytes) -> float:
    value: float = cloudpickle.loads(function)(None)
    return value


def milliseconds(contender: str, module: str, jobs: int) -> float:
    """The median time of a job, after those that prepare."""
    place = by_hand(module) if contender == "loky" else by_axsched(contender, module)
    with place as run:
        taken = []
        for _ in range(jobs + FIRST):
            began = time.perf_counter()
            run()
            taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken[FIRST:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    aims = {}
    print(f"{'':<10}" + "".join(f"{name:>22}" for name in (*OPTIONS, "loky")))
    for name, module in MODULES.items():
        found: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            for contender in (*OPTIONS, "loky"):
                taken = milliseconds(contender, module, arguments.jobs)
                found.setdefault(contender, []).append(taken)
        cells = [
            f"{statistics.median(one):.1f} ({min(one):.1f}-{max(one):.1f})"
            for one in found.values()
        ]
        print(f"{name:<10}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
        # With ``none`` the modules are loaded once: what is left is the objective.
        beside = statistics.median(found["axsched"]) - statistics.median(found["loky"])
        if name in AIMS:
            words = f"{name}: {beside:.1f} ms beside the objective (at most {AIMS[name]:g})"
            aims[words] = beside <= AIMS[name]
    return tell(aims)


if __name__ == "__main__":
    raise SystemExit(main())
