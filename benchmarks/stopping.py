"""How much worker time does early stopping save, and what does it cost in quality?

    python benchmarks/stopping.py [--seeds 10] [--trials 12] [--epochs 60]

The trainings of examples/early_stopping.py, with and without Ax's percentile strategy, once for
each seed: epochs that all trials together have trained, and the best error. The aim: at least 40 %
fewer epochs, and a median of the best error that is not worse by more than one image in a hundred.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import warnings
from pathlib import Path

from common import tell

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))  # jobs find the example there too
SAVED, WORSE = 0.4, 0.01


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    import early_stopping as module

    strategies = {"to the end": None, "stopped early": module.strategy_for(arguments.epochs)}
    found: dict[str, list[tuple[int, float]]] = {words: [] for words in strategies}
    with tempfile.TemporaryDirectory() as outputs:
        for seed in range(arguments.seeds):
            for words, strategy in strategies.items():
                options = argparse.Namespace(
                    seed=seed,
                    trials=arguments.trials,
                    epochs=arguments.epochs,
                    parallel=2,
                    outputs=Path(outputs),
                    progress=False,
                )
                scheduler, result = module.run(options, strategy)
                epochs, best = module.epochs_of(scheduler), result.best.observed.values["error"]
                found[words].append((epochs, best))
                print(f"seed {seed}, {words:<14} {epochs:5d} epochs, best {best:.4f}", flush=True)
    whole, early = found.values()
    saved = 1 - sum(epochs for epochs, _ in early) / sum(epochs for epochs, _ in whole)
    errors = [statistics.median(error for _, error in one) for one in (whole, early)]
    words = f"median of the best error {errors[1]:.4f}, without it {errors[0]:.4f}"
    return tell(
        {
            f"{saved:.0%} fewer epochs (at least {SAVED:.0%})": saved >= SAVED,
            f"{words} (at most {WORSE} more)": errors[1] <= errors[0] + WORSE,
        }
    )


if __name__ == "__main__":
    raise SystemExit(main())
