"""Tune a classifier of handwritten digits, four trials at a time.

The data are the 1,797 images of 8 x 8 pixels that come with scikit-learn. A trial is one choice
of the settings of gradient-boosted trees; its result is their accuracy in cross-validation. At
the end the best choice is compared with scikit-learn's defaults on images that no trial has seen.

    python examples/tune_digits.py [--trials 20] [--parallel 4] [--outputs outputs]
"""

import argparse
import logging
from pathlib import Path

from ax import Client, RangeParameterConfig
from ax.utils.common.logger import set_ax_logger_levels
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import cross_val_score, train_test_split

from axsched_core import AxScheduler

SEARCH_SPACE = [
    RangeParameterConfig(
        name="learning_rate", bounds=(0.01, 0.5), parameter_type="float", scaling="log"
    ),
    RangeParameterConfig(name="max_depth", bounds=(1, 5), parameter_type="int"),
    RangeParameterConfig(
        name="max_features", bounds=(0.03, 0.5), parameter_type="float", scaling="log"
    ),
    RangeParameterConfig(name="subsample", bounds=(0.3, 1.0), parameter_type="float"),
]


def load_data():
    """Return images and labels: 70 % to tune with, 30 % held out."""
    images, labels = load_digits(return_X_y=True)
    return train_test_split(images, labels, test_size=0.3, stratify=labels, random_state=0)


def make_classifier(parameters):
    """Make the classifier; without parameters it is scikit-learn's default."""
    return GradientBoostingClassifier(random_state=0, **parameters)


def evaluate(parameters):
    """The objective: accuracy in three-fold cross-validation, with its standard error."""
    images, _, labels, _ = load_data()
    scores = cross_val_score(make_classifier(parameters), images, labels, cv=3)
    return {"accuracy": (scores.mean(), scores.std(ddof=1) / len(scores) ** 0.5)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--parallel", type=int, default=4, help="trials at a time")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    options = parser.parse_args()

    set_ax_logger_levels(logging.WARNING)  # without this, Ax prints a line for each trial
    client = Client(random_seed=0)
    client.configure_experiment(name="digits", parameters=SEARCH_SPACE)
    client.configure_optimization(objective="accuracy")

    scheduler = AxScheduler(
        client,
        "joblib",
        config={"job_output_dir": options.outputs},
        runner_options={"n_jobs": options.parallel},
    )
    scheduler.set_objective_function(evaluate)
    best = scheduler.run_optimization(max_trials=options.trials)
    chosen = (best.modelled or best.observed).parameters  # an accuracy of few images is noisy

    images, unseen_images, labels, unseen_labels = load_data()
    print("\nBest parameters:")
    for name, value in chosen.items():
        print(f"  {name:<14} {value:.4g}")
    print(f"Accuracy on {len(unseen_labels)} images that no trial has seen:")
    for name, parameters in (("defaults", {}), ("best", chosen)):
        classifier = make_classifier(parameters).fit(images, labels)
        print(f"  {name:<14} {classifier.score(unseen_images, unseen_labels):.4f}")
    print(f"Parameters, results and logs of each trial: {scheduler.run_directory}")


if __name__ == "__main__":
    main()
