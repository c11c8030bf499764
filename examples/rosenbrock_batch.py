"""Batches: run hand-picked points first, then let Ax go on from their results.

python examples/rosenbrock_batch.py [--trials 16]
"""

import argparse
import logging
import math
import warnings

from ax import Client, RangeParameterConfig
from ax.utils.common.logger import set_ax_logger_levels

from axsched_core import AxScheduler


def rosenbrock(x1, x2):
    """The Rosenbrock function: a bent valley with its minimum, 0, at (1, 1).

    Its values span many decades, which is hard for a model, so the logarithm is used. The second
    number is the standard error: this function has no noise.
    """
    value = (1 - x1) ** 2 + 100 * (x2 - x1**2) ** 2
    return {"loss": (math.log1p(value), 0.0)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=16, help="trials that Ax adds to the four")
    options = parser.parse_args()

    warnings.filterwarnings("ignore", "Very small noise values")  # there is none, as we say
    set_ax_logger_levels(logging.WARNING)  # without this, Ax prints a line for each trial
    client = Client(random_seed=0)
    client.configure_experiment(
        name="rosenbrock",
        parameters=[
            RangeParameterConfig(name="x1", bounds=(-2.0, 2.0), parameter_type="float"),
            RangeParameterConfig(name="x2", bounds=(-1.0, 3.0), parameter_type="float"),
        ],
    )
    client.configure_optimization(objective="-loss")  # the minus sign: minimize

    scheduler = AxScheduler(client, "joblib", runner_options={"n_jobs": 4})
    scheduler.set_objective_function(rosenbrock)

    # Leaving the context runs the four side by side and waits for them.
    with scheduler.batch_trial_context() as batch:
        batch.add_trial({"x1": 0.0, "x2": 0.0})
        batch.add_trial({"x1": 0.5, "x2": 0.5})
        batch.add_trial({"x1": -1.0, "x2": 1.0})
        batch.add_trial({"x1": 1.5, "x2": 2.0})
    for trial in batch.trials:
        print(trial.index, dict(trial.parameters), trial.state.value, trial.results)

    best = scheduler.run_optimization(max_trials=options.trials)
    print(f"{len(scheduler.trials)} trials.\n{best}")

    path = scheduler.run_directory / "experiment.json"
    scheduler.save_experiment(path)
    print(f"The experiment is saved in {path}")


if __name__ == "__main__":
    main()
