"""How many trials an Ax generation strategy may make: now, and before its model proposes any."""

from __future__ import annotations

import math
import sys
from typing import Any

from attrs import frozen
from ax.generation_strategy.transition_criterion import AutoTransitionAfterGen, MinTrials
from ax.generators.random.base import RandomGenerator

WAITS = "the optimizer proposes nothing more until running trials have ended"


@frozen
class Room:
    """So many trials may be made in one go."""

    size: int
    reason: str = ""
    """Why there is no room."""


def room(experiment: Any, strategy: Any, n: int, in_bulk: int) -> Room | None:
    """How many of ``n`` trials may be made in one go, or of ``in_bulk`` if these use no results;
    None: the strategy makes no more.

    Ax counts only the trials on the experiment, so one large call would go past the end
    of the initial phase (a fresh ``Client`` makes 20 initial points if asked for 20).
    """
    limit, complete = strategy.current_generator_run_limit()  # moves to the next node, too
    if complete:
        return None
    node = strategy.current_node
    wanted = max(n, in_bulk) if is_free(experiment, strategy) else n
    if wanted <= 0:
        return Room(0)
    if limit == 0:
        try:
            node.new_trial_limit(raise_generation_errors=True)
        except ExceptionGroup as errors:
            return Room(0, "; ".join(map(words, errors.exceptions)))
        return Room(0, WAITS)
    # Ax says -1 for 'no limit', and also if more trials run than allowed; then
    # generating raises an error that means "not now".
    most = limit if limit > 0 else sys.maxsize
    still_wanted = _still_wanted(experiment, node) or sys.maxsize
    return Room(min(wanted, most, still_wanted, _points_left(experiment)))


def is_free(experiment: Any, strategy: Any) -> bool:
    """True if the current node may make its next trials at any time: they use no results, and its
    phase does not end with them."""
    node = strategy.current_node
    last = all(name == node.name for name in node.transition_edges)
    return _is_initial(node) and (last or _still_wanted(experiment, node) > 0)


def initial_trials_left(experiment: Any, strategy: Any) -> int:
    """How many more trials the strategy makes before its model proposes any."""
    if strategy.current_generator_run_limit()[1]:
        return 0
    node, total, seen = strategy.current_node, 0, set[str]()
    while _is_initial(node) and node.name not in seen:
        seen.add(node.name)
        total += _still_wanted(experiment, node, planned=total)
        onward = [name for name in node.transition_edges if name != node.name]
        if not onward:
            return 0  # random search to the end: no model will come
        node = strategy.nodes_by_name[onward[0]]
    return total


def _still_wanted(experiment: Any, node: Any, planned: int = 0) -> int:
    """How many trials ``node`` must still make before the strategy may leave it.

    By then the nodes before it will have made ``planned`` trials.
    """
    wanted = 0
    for criterion in node.transition_criteria:
        if isinstance(criterion, AutoTransitionAfterGen):  # the centre of the search space
            wanted = max(wanted, 1)
        elif (
            isinstance(criterion, MinTrials)
            # The other criteria wait for results; more trials do not help.
            and criterion.only_in_statuses is None
            and not criterion.count_only_trials_with_data
        ):
            missing = criterion.num_till_threshold(
                experiment=experiment, trials_from_node=node.trials_from_node
            )
            wanted = max(wanted, missing - planned * bool(criterion.use_all_trials_in_exp))
    return wanted


def _points_left(experiment: Any) -> int:
    """An upper limit for the points left in a finite search space, at least 1.

    Ax searches for seconds before it says that a batch is larger than what is left.
    """
    tunable = experiment.search_space.tunable_parameters
    points = math.prod(parameter.cardinality() for parameter in tunable.values())
    if not points < math.inf:
        return sys.maxsize
    return max(1, int(points) - len(experiment.arms_by_signature_for_deduplication))


def _is_initial(node: Any) -> bool:
    """True for a node that uses no results: random points, or the centre."""
    if any(isinstance(c, AutoTransitionAfterGen) for c in node.transition_criteria):
        return True
    classes = [spec.generator_enum.generator_class for spec in node.generator_specs]
    return bool(classes) and all(issubclass(cls, RandomGenerator) for cls in classes)


def words(error: BaseException) -> str:
    """An exception in words: Ax's own speak for themselves."""
    return f"{type(error).__name__}: {error}" if not _speaks(error) else str(error)


def _speaks(error: BaseException) -> bool:
    """True for Ax's own exceptions, whose messages are sentences."""
    return type(error).__module__.startswith("ax.") and bool(str(error))
