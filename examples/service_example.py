"""The older service API of Ax: an `AxClient`. (Ax says that its version 1.4 removes it.)

Older versions of Ax took the direction of an objective as a string,
``objectives={"objective": "minimize"}``. Current versions need `ObjectiveProperties`.

    python examples/service_example.py [--trials 8]
"""

import argparse
import logging
import math

from ax.service.ax_client import AxClient
from ax.service.utils.instantiation import ObjectiveProperties
from ax.utils.common.logger import set_ax_logger_levels

from axsched_core import AxScheduler


def objective(parameters):
    """The Branin function, which has three equal minima of 0.398, and one more metric."""
    x, y = parameters["x"], parameters["y"]
    value = (y - 0.12918 * x**2 + 1.59155 * x - 6) ** 2 + 9.60211 * math.cos(x) + 10
    return {"objective": value, "distance": (x**2 + y**2) ** 0.5}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=8)
    options = parser.parse_args()

    set_ax_logger_levels(logging.WARNING)  # without this, Ax prints a line for each trial
    ax_client = AxClient(random_seed=0)
    ax_client.create_experiment(
        name="branin",
        parameters=[
            {"name": "x", "type": "range", "bounds": [-5.0, 10.0], "value_type": "float"},
            {"name": "y", "type": "range", "bounds": [0.0, 15.0], "value_type": "float"},
        ],
        objectives={"objective": ObjectiveProperties(minimize=True)},
    )

    scheduler = AxScheduler(
        ax_client,
        "joblib",
        config={"job_output_dir": "outputs"},
        runner_options={"n_jobs": 4},
    )
    scheduler.set_objective_function(objective)
    best = scheduler.run_optimization(max_trials=options.trials)
    print(best)
    print(ax_client.get_trials_data_frame().to_string(index=False))


if __name__ == "__main__":
    main()
