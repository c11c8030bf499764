"""Stop trainings early that promise nothing, and compare with a run that does not.

A trial trains a neural network on scikit-learn's handwritten digits, epoch by epoch, and reports
its error on held-out images after each. Ax's `PercentileEarlyStoppingStrategy` compares the
curves: a training that is worse than most others at the same epoch is ended, and the next one gets
its place.

    python examples/early_stopping.py [--trials 12] [--parallel 2] [--seed 0] [--epochs 60]
        [--outputs outputs]
"""

import argparse
import logging
from pathlib import Path

from ax import Client, RangeParameterConfig
from ax.early_stopping.strategies import PercentileEarlyStoppingStrategy
from ax.utils.common.logger import set_ax_logger_levels
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from axsched_core import AxScheduler, TrialState, report

SEARCH_SPACE = [
    RangeParameterConfig(name="rate", bounds=(1e-5, 1.0), parameter_type="float", scaling="log"),
    RangeParameterConfig(name="alpha", bounds=(1e-6, 1.0), parameter_type="float", scaling="log"),
    RangeParameterConfig(name="batch", bounds=(16, 256), parameter_type="int", scaling="log"),
]


class Training:
    """The objective: an object that can be called, so that the number of epochs travels with it."""

    def __init__(self, epochs):
        self.epochs = epochs

    def __call__(self, parameters):
        images, labels = load_digits(return_X_y=True)
        train, test, train_labels, test_labels = train_test_split(
            images / 16, labels, test_size=0.4, stratify=labels, random_state=0
        )
        network = MLPClassifier(
            (256, 256),
            learning_rate_init=parameters["rate"],
            alpha=parameters["alpha"],
            batch_size=parameters["batch"],
            random_state=0,
        )
        error = 1.0
        for epoch in range(1, self.epochs + 1):
            network.partial_fit(train, train_labels, classes=range(10))
            error = 1.0 - network.score(test, test_labels)
            report(step=epoch, error=error)
        return {"error": error}


def strategy_for(epochs):
    """Stops a training that is worse than half of the others at the same epoch."""
    return PercentileEarlyStoppingStrategy(
        percentile_threshold=50, min_progression=epochs // 10, min_curves=3
    )


def run(options, strategy):
    """One optimization; returns the scheduler, closed."""
    client = Client(random_seed=options.seed)
    client.configure_experiment(name="training", parameters=SEARCH_SPACE)
    client.configure_optimization(objective="-error")
    scheduler = AxScheduler(
        client,
        "joblib",
        config={
            "job_output_dir": options.outputs,
            "monitoring_interval": 0.5,
            "progress": options.progress,
        },
        runner_options={"n_jobs": options.parallel},
        early_stopping_strategy=strategy,
    )
    with scheduler:
        scheduler.set_objective_function(Training(options.epochs))
        scheduler.run_n_trials(options.trials)
        return scheduler, scheduler.summarize_final_result()


def epochs_of(scheduler):
    """Epochs that all trials together have trained."""
    data = scheduler.experiment.lookup_data().full_df
    return int(data.groupby("trial_index")["step"].max().sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--parallel", type=int, default=2, help="trials at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=60, help="of one training")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    options = parser.parse_args()

    set_ax_logger_levels(logging.ERROR)
    options.progress = True
    strategies = {"to the end": None, "stopped early": strategy_for(options.epochs)}
    for words, chosen in strategies.items():
        scheduler, result = run(options, chosen)
        stopped = result.counts.get(TrialState.EARLY_STOPPED, 0)
        print(
            f"{words:<14} {epochs_of(scheduler):5d} epochs, {stopped:2d} trials stopped, "
            f"best error {result.best.observed.values['error']:.4f}"
        )


if __name__ == "__main__":
    main()
