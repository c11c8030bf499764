"""What it costs that nothing is lost: a durable run, its journal, and its resumption.

    python benchmarks/durable.py [--trials 1000] [--workers 8] [--rounds 3]

Runs of no-op trials with Ax's random search and joblib's workers, one after another in this
process, ``durable=True`` and ``durable=False`` by turns. The ratio is that of the fastest of each,
the least disturbed by what else the machine does; each run's seconds are printed. Then the last
durable run is resumed, and the same experiment is loaded by Ax from its own file.

Ends with status 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import make_client, no_op, tell

RATIO, BYTES = 1.15, 1000


def run(folder: Path, trials: int, workers: int, durable: bool) -> tuple[float, float, Any, Path]:
    """Return the seconds of the run alone, this process's CPU seconds in it, the client, and the
    run directory."""
    from axsched_core import AxScheduler

    client = make_client()
    config = {"job_output_dir": folder, "progress": False, "durable": durable}
    options = {"n_jobs": workers, "isolation": "none"}
    with AxScheduler(client, "joblib", config, options) as scheduler:
        scheduler.set_objective_function(no_op)
        began, used = time.perf_counter(), time.process_time()
        scheduler.run_optimization(max_trials=trials)
        seconds, used = time.perf_counter() - began, time.process_time() - used
    return seconds, used, client, scheduler.run_directory


def journal_bytes(run_dir: Path) -> tuple[float, float]:
    """Bytes a trial, without the generator runs and with them."""
    lines = (run_dir / "journal.jsonl").read_text().splitlines(keepends=True)
    events = [json.loads(line) for line in lines]
    trials = sum(event["k"] == "trial" for event in events)
    bare = [
        json.dumps({k: v for k, v in event.items() if k != "o"}, separators=(",", ":"))
        for event in events
    ]
    return sum(len(line) + 1 for line in bare) / trials, sum(map(len, lines)) / trials


def means(experiment: Any) -> dict[int, float]:
    data = experiment.lookup_data().df
    return dict(zip(data["trial_index"].tolist(), data["mean"].tolist(), strict=True))


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="axsched-durable-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    trials, workers = arguments.trials, arguments.workers

    from ax import Client

    from axsched_core import AxScheduler

    with temporary_folder() as folder:
        run(folder / "warm", 2 * workers, workers, durable=True)
        seconds: dict[bool, list[float]] = {True: [], False: []}
        cpu: dict[bool, list[float]] = {True: [], False: []}
        for number in range(arguments.rounds):
            for durable in (True, False) if number % 2 else (False, True):
                taken, used, client, run_dir = run(folder / "out", trials, workers, durable)
                seconds[durable].append(taken)
                cpu[durable].append(used)
                print(f"durable={durable!s:<5} {taken:7.2f} s, CPU {used:7.2f} s", flush=True)
                if durable:
                    finished, told = run_dir, client
                else:
                    shutil.rmtree(run_dir)
        ratio = min(seconds[True]) / min(seconds[False])

        saved = folder / "ax.json"
        told.save_to_json_file(str(saved))
        began = time.perf_counter()
        loaded = Client.load_from_json_file(str(saved))
        by_ax = time.perf_counter() - began
        began = time.perf_counter()
        resumed = AxScheduler.resume(finished)
        by_us = time.perf_counter() - began
        with resumed:
            ours, theirs = resumed.experiment, loaded._experiment
            assert len(ours.trials) == len(theirs.trials) == trials
            by_index = means(theirs)  # Ax rounds to ten digits in its files
            assert all(abs(mean - by_index[index]) < 1e-9 for index, mean in means(ours).items())
        bare, whole = journal_bytes(finished)

    aims = {
        f"a durable run takes {ratio:.2f} times one that is not (at most {RATIO})": ratio <= RATIO,
        f"resume takes {by_us:.2f} s, Ax's own load {by_ax:.2f} s": by_us < by_ax,
        f"the journal grows by {bare:.0f} bytes a trial and its generator run, which is another "
        f"{whole - bare:.0f} (at most {BYTES} without it)": bare <= BYTES,
    }
    print(f"\n{trials} trials, {workers} workers")
    print(f"      the driver's own CPU: {min(cpu[True]) / min(cpu[False]):.2f} times")
    return tell(aims)


if __name__ == "__main__":
    raise SystemExit(main())
