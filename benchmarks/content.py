"""What it costs to see whether the user has changed the object: the digest against a save.

    python benchmarks/content.py [--trials 1000]

Every call takes the digest (`Optimizer.content`) twice and compares it, and saves the object only
where it has changed. Seconds are this thread's CPU time, the least of several rounds, so that the
ratio can be had in one run. Ends with status 1 where the aim is missed.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from common import make_client, tell

RATIO = 0.01


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The least CPU time of so many rounds."""
    taken = []
    for _ in range(rounds):
        began = time.thread_time()
        work()
        taken.append(time.thread_time() - began)
    return min(taken)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)

    from axsched_core.optimizers import Outcome, OutcomeKind, adapt

    optimizer = adapt(make_client())
    made = [candidate.index for candidate in optimizer.ask(trials).candidates]
    assert len(made) == trials
    results = {"loss": (1.0, None), "time": (2.0, 0.5)}
    optimizer.tell([Outcome(index, OutcomeKind.COMPLETED, results) for index in made])
    optimizer.annotate({index: {"axsched": {"runner": "joblib", "key": "k"}} for index in made})

    before = optimizer.content()
    digest = seconds(lambda: optimizer.content().since(before), rounds=7)
    with tempfile.TemporaryDirectory(prefix="axsched-content-") as folder:
        save = seconds(lambda: optimizer.save(Path(folder) / "saved.json"), rounds=2)
    words = f"{trials} trials: the digest takes {1e3 * digest:.1f} ms, a save {save:.2f} s"
    ratio = digest / save
    return tell({f"{words}: {ratio:.4f} times (at most {RATIO})": ratio <= RATIO})


if __name__ == "__main__":
    raise SystemExit(main())
