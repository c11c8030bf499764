"""How long is it from the start of the program to the first running trial?

    python benchmarks/first_trial.py [--rounds 5]

By turns, each in a process of its own, from the start of the interpreter until the objective runs:

* ``axsched``: AxScheduler with the joblib runner, as it comes;
* ``by hand``: import Ax, make one Sobol point, start a pool of loky, and submit: one after the
  other.

Ends with status 1 where the median of axsched is more than `RATIO` times that of the other.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import PLANE, make_client, tell

RATIO = 1.2
WORKERS = 4


class Begins:
    """An objective that writes down when it begins."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, parameters: dict[str, float]) -> float:
        Path(self.path).write_text(str(time.time()))
        return 1.0


def axsched(path: str) -> None:
    from axsched_core import AxScheduler

    with tempfile.TemporaryDirectory() as folder:
        config = {"job_output_dir": folder, "progress": False}
        client = make_client("sobol", PLANE)
        with AxScheduler(client, "joblib", config, {"n_jobs": WORKERS}) as scheduler:
            scheduler.set_objective_function(Begins(path))
            scheduler.run_optimization(max_trials=1)


def by_hand(path: str) -> None:
    from joblib.externals.loky import get_reusable_executor

    client = make_client("sobol", PLANE)
    ((index, parameters),) = client.get_next_trials(max_trials=1).items()
    pool = get_reusable_executor(max_workers=WORKERS)
    result = pool.submit(Begins(path), parameters).result()
    client.complete_trial(index, raw_data={"loss": result})
    pool.shutdown(kill_workers=True)


CONTENDERS = {"axsched": axsched, "by hand": by_hand}


def seconds(name: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "began"))
        began = time.time()
        command = [sys.executable, __file__, "--one", name, path]
        subprocess.run(command, check=True, capture_output=True)
        return float(Path(path).read_text()) - began


def main() -> int:
    if sys.argv[1:2] == ["--one"]:
        CONTENDERS[sys.argv[2]](sys.argv[3])
        return 0
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(parser.parse_args().rounds):
        for name, taken in found.items():
            taken.append(seconds(name))
    for name, taken in found.items():
        middle = statistics.median(taken)
        print(f"{name:<10} {middle:.2f} s ({min(taken):.2f} to {max(taken):.2f})")
    ratio = statistics.median(found["axsched"]) / statistics.median(found["by hand"])
    return tell({f"{ratio:.2f} times the time by hand (at most {RATIO})": ratio <= RATIO})


if __name__ == "__main__":
    raise SystemExit(main())
