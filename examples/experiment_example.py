"""Ax's core classes: your own `Experiment` and `GenerationStrategy`, with two objectives.

A beam that is clamped at one end should be light and stiff: the answer is not one beam but a
Pareto set. Six quasi-random points come first, then a model.

    python examples/experiment_example.py [--trials 10]
"""

import argparse
import logging

from ax.adapter.registry import Generators
from ax.core.experiment import Experiment
from ax.core.metric import Metric
from ax.core.objective import Objective
from ax.core.optimization_config import MultiObjectiveOptimizationConfig
from ax.core.outcome_constraint import OutcomeConstraint
from ax.core.parameter import ParameterType, RangeParameter
from ax.core.search_space import SearchSpace
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.generation_strategy.transition_criterion import MinTrials
from ax.utils.common.logger import set_ax_logger_levels

from axsched_core import AxScheduler


def beam(width, height):
    """A steel beam of 2 m with 1 kN at its free end: mass in kg, deflection in mm."""
    width, height = width / 1000, height / 1000
    second_moment = width * height**3 / 12
    return {
        "mass": 7850 * width * height * 2.0,
        "deflection": 1000 * 1000 * 2.0**3 / (3 * 210e9 * second_moment),
    }


def make_experiment():
    """Make the experiment: the parameters (mm) and the objectives."""
    names = {"mass": "mass", "deflection": "deflection"}
    return Experiment(
        name="beam",
        search_space=SearchSpace(
            [
                RangeParameter("width", ParameterType.FLOAT, lower=10.0, upper=60.0),
                RangeParameter("height", ParameterType.FLOAT, lower=20.0, upper=120.0),
            ]
        ),
        optimization_config=MultiObjectiveOptimizationConfig(
            objective=Objective(expression="-mass, -deflection", metric_name_to_signature=names),
            objective_thresholds=[
                OutcomeConstraint(expression="mass <= 60", metric_name_to_signature=names),
                OutcomeConstraint(expression="deflection <= 20", metric_name_to_signature=names),
            ],
        ),
        tracking_metrics=[Metric(name=name) for name in names],
    )


def make_strategy():
    """Make the strategy: six Sobol points, then Bayesian optimization."""
    sobol = GenerationNode(
        name="Sobol",
        generator_specs=[GeneratorSpec(Generators.SOBOL, generator_kwargs={"seed": 0})],
        transition_criteria=[MinTrials(threshold=6, transition_to="Model")],
    )
    model = GenerationNode(
        name="Model", generator_specs=[GeneratorSpec(Generators.BOTORCH_MODULAR)]
    )
    return GenerationStrategy(name="Sobol, then a model", nodes=[sobol, model])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10)
    options = parser.parse_args()
    set_ax_logger_levels(logging.WARNING)

    experiment = make_experiment()
    scheduler = AxScheduler(
        experiment,
        "joblib",
        runner_options={"n_jobs": 4},
        generation_strategy=make_strategy(),
    )
    scheduler.set_objective_function(beam)
    best = scheduler.run_optimization(max_trials=options.trials)

    print("Pareto set, as observed:")
    for point in best.pareto:
        parameters, values = point.parameters, point.values
        print(
            f"  trial {point.trial_index}: {parameters['width']:.1f} mm x "
            f"{parameters['height']:.1f} mm, {values['mass']:.1f} kg, "
            f"{values['deflection']:.1f} mm"
        )
    print(experiment.to_df().to_string(index=False))


if __name__ == "__main__":
    main()
