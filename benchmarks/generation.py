"""Does making a candidate hold up the rest of the driver?

    python benchmarks/generation.py [--candidates 6] [--data 20]

Ax makes model-based candidates in one thread, as axsched has it do, while another thread wakes up
every 5 ms, as the engine, the progress line, a notebook or the main thread that takes a Ctrl-C do.
How late it wakes up is what a second process for the generation could save: the table has the
median, the 99th percentile and the latest, with and without the generation beside it.

Ends with status 1 where a thread is held up for longer than `LATEST`.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import threading
import time
import warnings

from common import PLANE, branin, make_client, tell

TICK = 0.005
LATEST = 0.5
"""Seconds within which a Ctrl-C must be noticed."""


def lateness(stop: threading.Event) -> list[float]:
    """Seconds by which each tick came late, until ``stop``."""
    late = []
    while not stop.is_set():
        began = time.perf_counter()
        time.sleep(TICK)
        late.append(time.perf_counter() - began - TICK)
    return late


def shown(name: str, late: list[float]) -> str:
    late = sorted(late)
    ms = [1e3 * one for one in (statistics.median(late), late[int(0.99 * len(late))], late[-1])]
    return f"{name:<24} median {ms[0]:6.1f} ms, 99 % {ms[1]:6.1f} ms, latest {ms[2]:6.1f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument("--data", type=int, default=20)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    import torch

    torch.set_num_threads(1)
    client = make_client("model", PLANE)

    def evaluate(trials: dict[int, dict[str, float]]) -> None:
        for index, parameters in trials.items():
            client.complete_trial(index, raw_data={"loss": branin(**parameters)})

    while len(client._experiment.trials) < arguments.data:
        evaluate(client.get_next_trials(max_trials=5))
    stop = threading.Event()
    threading.Timer(2.0, stop.set).start()
    print(shown("nothing beside it", lateness(stop)))

    stop, taken = threading.Event(), []

    def generate() -> None:
        for _ in range(arguments.candidates):
            began = time.perf_counter()
            made = client.get_next_trials(max_trials=1)
            taken.append(time.perf_counter() - began)
            evaluate(made)
        stop.set()

    threading.Thread(target=generate).start()
    late = lateness(stop)
    print(shown("a candidate being made", late))
    print(f"one candidate takes {statistics.median(taken):.2f} s")
    held_up = sum(one for one in late if one > TICK) / sum(taken)
    print(f"the thread waits {100 * held_up:.0f} % of the time in which candidates are made")
    return tell({f"latest {max(late):.3f} s (at most {LATEST} s)": max(late) <= LATEST})


if __name__ == "__main__":
    raise SystemExit(main())
