"""Ask and tell: what the engine needs of whatever proposes the trials.

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
from axsched_core.errors import OptimizerError
from axsched_core.jobs import Metrics, Parameters
from axsched_core.optimizers.content import Changes, Content, Part


@frozen
class Candidate:
    """A trial that the optimizer has just made; it holds it as running."""

    index: int
    parameters: Parameters


@frozen
class Asked:
    """The answer to `Optimizer.ask`."""

    candidates: tuple[Candidate, ...] = ()
    """Fewer than asked for, or none, where the optimizer needs results first."""
    complete: bool = False
    """True: the optimization is over; nothing will ever be proposed again."""
    reason: str = ""
    """Why there are fewer; the optimizer's own words."""


class OutcomeKind(enum.Enum):
    """What the optimizer is told of a trial."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    """Has no result; the same point may be proposed again."""
    ABANDONED = "ABANDONED"
    """Has no result, and its point is not to be proposed again: it was cancelled, or has failed and
    would fail again."""


@frozen
class Outcome:
    """How one trial ended."""

    index: int
    kind: OutcomeKind
    metrics: Metrics = field(factory=dict)
    """For ``COMPLETED``: validated, finite."""
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
    """True where the optimizer holds data for it, intermediate data too."""
    metadata: Mapping[str, Any] = field(factory=dict)
    """What `Optimizer.annotate` has left on it, in this session or an earlier one."""


class Optimizer(abc.ABC):
    """One adapter for each kind of object that proposes trials."""

    kind: str = ""
    """What its files are called, so that `resume` can read them again."""
    seed: int | None = None
    """A seed that its files do not hold."""
    in_database: bool = False
    """True where `store` has something to do."""

    def content(self) -> Content:
        """Everything that `save` writes, in a form that is cheap to compare.

        It is taken before and after each of our calls, so that what the user changes in between
        is noticed. An optimizer whose file holds more than its trial views overrides this.
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
                    repr(view.parameters),
                    view.has_data,
                    repr(view.metadata),
                )
                for view in views
            },
            {name: Part(json.dumps(value)) for name, value in names.items()},
        )

    def describe(self) -> Mapping[str, Any]:
        """What is optimized, as plain JSON, for people and programs that have no such optimizer.

        An optimizer that knows more than the names overrides this.

        Returns:
            objectives: a list of ``{"name", "minimize", "weights"}``. ``minimize`` is None where
                nobody knows; ``weights`` (metric -> factor) says what is added up.
            constraints: of results, thresholds of objectives too: a list of ``{"weights", "op",
                "bound", "relative"}``. ``op`` is ``"<="`` or ``">="``; ``relative``: the bound is
                per cent of the status quo's value.
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
        """The experiment's name, "" where it has none."""

    @abc.abstractmethod
    def check(self) -> None:
        """Raise `OptimizerError`, with the remedy, where nothing can be optimized yet."""

    @property
    @abc.abstractmethod
    def objective_names(self) -> tuple[str, ...]:
        """The metrics that are optimized, in order."""

    @property
    @abc.abstractmethod
    def required_metrics(self) -> frozenset[str]:
        """Every metric that a result must have: objectives and outcome constraints."""

    @property
    @abc.abstractmethod
    def parameter_names(self) -> tuple[str, ...]:
        """The search space's parameters, in order."""

    @property
    def conditional(self) -> frozenset[str]:
        """Those of `parameter_names` that not every trial has; none where nothing is said."""
        return frozenset()

    @abc.abstractmethod
    def ask(self, n: int) -> Asked:
        """Make up to ``n`` trials. Never waits for results; may compute for seconds.

        Asks a model-based strategy for no more than is left of its initial phase in one go.
        """

    @abc.abstractmethod
    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Write down how trials ended, all in one go. Unknown metrics become tracking metrics."""

    def may_return(self, indices: Sequence[int]) -> None:  # noqa: B027 - many do not repeat points
        """Trials that were told as ``ABANDONED`` because they failed count as ``FAILED`` now: their
        points may be proposed again. Others are left as they are; may be said twice."""

    @abc.abstractmethod
    def annotate(self, metadata: Mapping[int, Mapping[str, Any]]) -> None:
        """Leave plain data on trials (index -> data), beside what is there already."""

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
        """How many trials are still to be made before the strategy's model proposes any.

        0 for a strategy that has no model, or is in its model's phase already.
        """

    @abc.abstractmethod
    def best(self) -> Best:
        """The best trial (several objectives: the Pareto set), as observed and by its own model.

        Where there is none of the two, words say why; nothing is raised for that.
        """

    def origins(self, indices: Sequence[int]) -> Mapping[int, Any]:
        """For each trial, plain data from which `restore` can make it again as it was made.

        None, or absent, for a trial that was attached. An optimizer that does not override this
        and `restore` has its trials attached again, so that it loses track of its own.
        """
        return {}

    def restore(self, index: int, parameters: Parameters, origin: Any) -> None:
        """Make a trial again that a driver that has died had made after the last `save`."""
        made = self.attach(parameters)
        if made != index:
            raise OptimizerError(f"Trial {index} of the journal was made again as trial {made}.")

    def store(self) -> None:  # noqa: B027 - most optimizers have no database
        """Put what has changed into the optimizer's database, where it has one.

        Called once a consultation, and at the end of each call. Never raises because of the
        database: what could not be stored is stored with the next call.
        """

    def changed(self, changes: Changes | None) -> None:  # noqa: B027
        """Be told what the user has changed since our last call, for `store` to store it.

        None: nobody knows what has changed.
        """

    def runs_in(self, run_dir: Path, run_id: str) -> None:  # noqa: B027
        """Be told the run directory, as soon as it is there; a database remembers it."""

    @abc.abstractmethod
    def save(self, path: Path) -> None:
        """Write everything to a file that `load` reads; replace an old one atomically.

        Raises:
            InvalidInput: the file cannot be written.
        """

    @abc.abstractmethod
    def load(self, path: Path) -> Optimizer:
        """Read a file that `save` wrote, into a new adapter of the same kind."""
