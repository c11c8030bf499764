"""Tune a program that is not Python: `simulate.sh` reads its parameters from a file.

python examples/script_objective/tune_script.py [--trials 10]
"""

import argparse
import logging
from pathlib import Path

from ax import Client, RangeParameterConfig
from ax.utils.common.logger import set_ax_logger_levels

from axsched_core import AxScheduler


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10)
    options = parser.parse_args()

    set_ax_logger_levels(logging.WARNING)  # without this, Ax prints a line for each trial
    client = Client(random_seed=0)
    client.configure_experiment(
        name="throw",
        parameters=[
            RangeParameterConfig(name="angle", bounds=(5.0, 85.0), parameter_type="float"),
            RangeParameterConfig(name="speed", bounds=(10.0, 30.0), parameter_type="float"),
        ],
    )
    client.configure_optimization(objective="range")

    scheduler = AxScheduler(client, "joblib", runner_options={"n_jobs": 2})
    scheduler.set_script_objective(
        Path(__file__).with_name("simulate.sh"),
        {"timeout": 60, "env": {"DRAG": "0.02"}},
    )
    print("One job, before any is submitted:")
    print(scheduler.preview({"angle": 45.0, "speed": 30.0}))

    best = scheduler.run_optimization(max_trials=options.trials)
    print(best)
    first = scheduler.trials[0]
    print(f"Files of trial 0 in {first.folder}:")
    for path in sorted(first.folder.iterdir()):
        print(f"  {path.name}")


if __name__ == "__main__":
    main()
