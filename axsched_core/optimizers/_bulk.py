"""Trials that use no results, made with one call to Ax.

Asked for several trials, Ax asks the node for one point at a time, and for each of them compares
every arm of the experiment with the search space: 1,000 Sobol points take half a million such
comparisons. Here the node makes all points as one generator run, which is then divided.
"""

from __future__ import annotations

import contextlib
from typing import Any

from ax.core.arm import Arm
from ax.core.generator_run import GeneratorRun
from ax.utils.common.random import with_rng_seed

from axsched_core.errors import OptimizerError


def generate(experiment: Any, strategy: Any, size: int, seed: int | None) -> None:
    """Make about ``size`` trials and mark them running.

    The points are those that Ax makes one by one. There are fewer if some are equal.

    Args:
        experiment: the Ax ``Experiment``.
        strategy: its generation strategy; its current node uses no results.
        size: at least 1.
        seed: of the user's object; None: it has none.

    Raises:
        OptimizerError: the strategy makes several generator runs for a trial.
    """
    with with_rng_seed(seed) if seed is not None else contextlib.nullcontext():
        ((*runs,),) = strategy.gen(experiment=experiment, n=size)
    if len(runs) != 1:
        raise OptimizerError(
            f"The generation strategy {strategy.name!r} proposes several arms per trial; only "
            "trials of one arm can be run."
        )
    singles = [_single(runs[0], arm) for arm in runs[0].arms]
    strategy._generator_runs[-1:] = singles
    for run in singles:
        experiment.new_trial(generator_run=run).mark_running(no_runner_required=True, unsafe=True)


def _single(run: Any, arm: Arm) -> GeneratorRun:
    """The run with only this arm, as if Ax had made it alone."""
    share = len(run.arms)
    metadata = run.candidate_metadata_by_arm_signature or {}
    return GeneratorRun(
        arms=[arm],
        optimization_config=run.optimization_config,
        search_space=run.search_space,
        type=run.generator_run_type,
        fit_time=run.fit_time and run.fit_time / share,
        gen_time=run.gen_time and run.gen_time / share,
        generator_key=run._generator_key,
        generator_kwargs=run._generator_kwargs,
        adapter_kwargs=run._adapter_kwargs,
        gen_metadata=run.gen_metadata,
        generator_state_after_gen=run._generator_state_after_gen,
        candidate_metadata_by_arm_signature={
            name: value for name, value in metadata.items() if name == arm.signature
        },
        generation_node_name=run._generation_node_name,
        suggested_experiment_status=run.suggested_experiment_status,
    )
