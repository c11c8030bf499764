"""Ask and tell: what the engine needs from the object that proposes trials.

The methods of one `Optimizer` are called from one thread at a time.
"""

from __future__ import annotations

import abc
import enum
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from axsched_core.best import Best
from axsched_core.errors import InvalidInput, OptimizerError
from axsched_core.jobs import Metrics, Parameters, Report
from axsched_core.optimizers.content import Changes, Content, Part


@frozen
class Candidate:
    """A trial that the optimizer has just made and holds as running."""

    index: int
    parameters: Parameters
    method: str = ""
    """What has made it, such as the name of the strategy's step; "": the user, or not known."""


@frozen
class Asked:
    """The answer to `Optimizer.ask`."""

    candidates: tuple[Candidate, ...] = ()
    """Fewer than asked for, or none, if the optimizer needs results first."""
    complete: bool = False
    """True: the optimization is over; it will never propose another trial."""
    reason: str = ""
    """Why there are fewer, in the optimizer's own words."""
    in_bulk: bool = False
    """True if the next trials use no results either."""


class OutcomeKind(enum.Enum):
    """How the optimizer is told that a trial ended."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    """Has no result; the same point may be proposed again."""
    ABANDONED = "ABANDONED"
    """Has no result, and its point must not be proposed again: it was cancelled, or it failed and
    would fail again."""
    EARLY_STOPPED = "EARLY_STOPPED"
    """It was stopped because its intermediate results promise nothing; these are its data."""
    STALE = "STALE"
    """It never ran, because the run was stopped before; nothing is known about its point."""


@frozen
class Outcome:
    """How one trial ended."""

    index: int
    kind: OutcomeKind
    metrics: Metrics = field(factory=dict)
    """For ``COMPLETED`` and ``EARLY_STOPPED``: validated, finite."""
    reason: str = ""


@frozen
class TrialView:
    """One trial as the optimizer sees it now."""

    index: int
    parameters: Parameters
    status: str
    """The optimizer's own word (``RUNNING``, ``COMPLETED``, ...)."""
    open: bool
    """True while the trial may still be completed."""
    has_data: bool = False
    """True if the optimizer holds data for it, also intermediate data."""
    metadata: Mapping[str, Any] = field(factory=dict)
    """The data that `Optimizer.annotate` added, in this session or an earlier one."""


class Optimizer(abc.ABC):
    """One adapter for each kind of object that proposes trials."""

    kind: str = ""
    """The kind of its files, so that `resume` can read them again."""
    seed: int | None = None
    """The random seed, which its files do not hold."""
    in_database: bool = False
    """True if there is a database, so that `store` has work to do."""

    def content(self) -> Content:
        """Everything that `save` writes, in a form that is cheap to compare.

        It is taken before and after each of our calls, so that the user's changes in between
        are noticed. Override this if the optimizer's file holds more than its trial views.
        """
        views = self.trials().values()
        names = {
            "objectives": self.objective_names,
            "required metrics": sorted(self.required_metrics),
            "parameters": self.parameter_names,
        }
        return Content(
            {
                view.index: (
                    view.status,
                    hash(repr(view.parameters)),  # a text would be kept for each trial
                    view.has_data,
                    hash(repr(view.metadata)),
                )
                for view in views
            },
            {name: Part(json.dumps(value)) for name, value in names.items()},
        )

    def describe(self) -> Mapping[str, Any]:
        """What is optimized, as plain JSON, for people and programs without this optimizer.

        Override this if the optimizer knows more than the names.

        Returns:
            objectives: a list of ``{"name", "minimize", "weights"}``. ``minimize`` is None if
                it is not known; ``weights`` (metric -> factor) describes the sum.
            constraints: on results, including thresholds of objectives: a list of ``{"weights",
                "op", "bound", "relative"}``. ``op`` is ``"<="`` or ``">="``; ``relative``: the
                bound is per cent of the status quo's value.
            parameters: a list of ``{"name", "type", "kind", ...}``. ``kind`` is ``"range"``
                (``lower``, ``upper``, ``scale``), ``"choice"`` (``values``, ``ordered``),
                ``"fixed"`` (``values``), ``"derived"`` (``expression``), or absent.
            parameter_constraints: a list of ``{"weights", "op", "bound"}``.
        """
        names = self.objective_names
        return {
            "objectives": [{"name": n, "minimize": None, "weights": {n: 1.0}} for n in names],
            "constraints": [],
            "parameters": [{"name": name} for name in self.parameter_names],
            "parameter_constraints": [],
        }

    @property
    @abc.abstractmethod
    def native(self) -> Any:
        """The user's own object."""

    @property
    @abc.abstractmethod
    def experiment(self) -> Any:
        """The experiment inside it (an Ax ``Experiment``), or the object itself."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The experiment's name, "" if it has none."""

    @abc.abstractmethod
    def check(self) -> None:
        """Raise `OptimizerError`, with the remedy, if nothing can be optimized yet."""

    @property
    @abc.abstractmethod
    def objective_names(self) -> tuple[str, ...]:
        """The metrics that are optimized, in order."""

    @property
    @abc.abstractmethod
    def required_metrics(self) -> frozenset[str]:
        """Every metric that a result must have: objectives and outcome constraints."""

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Every metric that it knows: the objectives, other required ones, then those that it only
        tracks. Override this if it tracks any."""
        return tuple(dict.fromkeys((*self.objective_names, *sorted(self.required_metrics))))

    @property
    @abc.abstractmethod
    def parameter_names(self) -> tuple[str, ...]:
        """The search space's parameters, in order."""

    @property
    def conditional(self) -> frozenset[str]:
        """The `parameter_names` that not every trial has; by default none."""
        return frozenset()

    @abc.abstractmethod
    def ask(self, n: int, *, in_bulk: int = 0) -> Asked:
        """Make up to ``n`` trials; up to ``in_bulk`` in all, if these use no results. Never waits
        for results; may compute for seconds.

        Asks a model-based strategy in one go only for what is left of its initial phase.
        """

    @abc.abstractmethod
    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Record how trials ended, all in one go. Unknown metrics become tracking metrics."""

    def tell_intermediate(  # noqa: B027 - most optimizers use final results only
        self, reports: Mapping[int, Sequence[Report]]
    ) -> None:
        """Record what running trials (index -> reports, in order) have reported so far.

        A step that was told before is told again after a resume, or by another attempt.
        """

    def to_stop(self, indices: Sequence[int]) -> Mapping[int, str]:
        """Say which of these running trials should be stopped early: index -> reason."""
        return {}

    def stop_with(self, early: Any = None, overall: Any = None) -> None:
        """Use these strategies: one stops trials early, the other the whole optimization.

        Raises:
            InvalidInput: this optimizer cannot use them, or they are no strategies.
        """
        if early is not None or overall is not None:
            raise InvalidInput(
                "early_stopping_strategy and global_stopping_strategy go with Ax: an optimizer of "
                "another kind decides in its own `to_stop` and `ask`."
            )

    def go_on_with(self, described: Mapping[str, Any]) -> None:  # noqa: B027
        """Take from an earlier driver what `save` does not write.

        Args:
            described: what `describe` returned then.
        """

    def may_return(self, indices: Sequence[int]) -> None:  # noqa: B027 - many do not repeat points
        """Make ``FAILED`` those trials that were told as ``ABANDONED`` because they failed: their
        points may be proposed again. Other trials do not change; may be called twice."""

    @abc.abstractmethod
    def annotate(self, metadata: Mapping[int, Mapping[str, Any]]) -> None:
        """Add plain data to trials (index -> data), and keep their other data."""

    @abc.abstractmethod
    def attach(self, parameters: Parameters) -> int:
        """Add a trial with these parameters; return its index.

        Raises `InvalidInput` for parameters outside the search space.
        """

    @abc.abstractmethod
    def validate(self, parameters: Parameters) -> None:
        """Raise `InvalidInput` that names the parameter, its value and what is allowed."""

    @abc.abstractmethod
    def trials(self, indices: Sequence[int] | None = None) -> Mapping[int, TrialView]:
        """The trials with these indices (those that exist), or all, by index, in order."""

    @abc.abstractmethod
    def initial_trials_left(self) -> int:
        """How many trials the strategy must still make before its model proposes any.

        0 for a strategy that has no model, or is already in its model's phase.
        """

    @abc.abstractmethod
    def best(self) -> Best:
        """The best trial (several objectives: the Pareto set), as observed and by its own model.

        If one of the two is missing, a text says why; this raises no error.
        """

    def summarize(self) -> Any:
        """The optimizer's own summary as a ``DataFrame``.

        Raises:
            InvalidInput: it has none.
        """
        raise InvalidInput(f"A {type(self).__name__} has no summary: use to_df().")

    def plots(self) -> list[Any]:
        """The optimizer's own plots.

        Raises:
            InvalidInput: it has none.
        """
        raise InvalidInput(f"A {type(self).__name__} has no plots.")

    def origins(self, indices: Sequence[int]) -> Mapping[int, Any]:
        """For each trial, plain data from which `restore` can make it again in the same way.

        None, or absent, for a trial that was attached. If an optimizer does not override this
        and `restore`, its trials are attached again, and it no longer knows which are its own.
        """
        return {}

    def restore(self, index: int, parameters: Parameters, origin: Any) -> None:
        """Make a trial again that a dead driver had made after its last `save`."""
        made = self.attach(parameters)
        if made != index:
            raise OptimizerError(f"Trial {index} of the journal was made again as trial {made}.")

    def store(self) -> None:  # noqa: B027 - most optimizers have no database
        """Save the changes to the optimizer's database, if it has one.

        Called once per consultation, and at the end of each call. Never raises because of the
        database: the next call stores what this one could not.
        """

    def changed(self, changes: Changes | None) -> None:  # noqa: B027
        """Receive what the user has changed since our last call, so that `store` saves it.

        None: it is not known what has changed.
        """

    def runs_in(self, run_dir: Path, run_id: str) -> None:  # noqa: B027
        """Receive the run directory as soon as it exists; a database remembers it."""

    @abc.abstractmethod
    def save(self, path: Path) -> None:
        """Write everything to a file that `load` reads; replace an old one atomically.

        Raises:
            InvalidInput: the file cannot be written.
        """

    @abc.abstractmethod
    def load(self, path: Path) -> Optimizer:
        """Read a file that `save` wrote, into a new adapter of the same kind."""
