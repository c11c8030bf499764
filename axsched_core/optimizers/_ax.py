"""The adapters' shared code: it works on an Ax experiment and generation strategy."""

from __future__ import annotations

import abc
import contextlib
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from ax.core.metric import Metric
from ax.core.trial import Trial
from ax.core.trial_status import TrialStatus
from ax.exceptions.core import DataRequiredError, OptimizationComplete
from ax.exceptions.generation_strategy import MaxParallelismReachedException
from ax.exceptions.storage import JSONEncodeError
from ax.storage.json_store.decoder import object_from_json
from ax.storage.json_store.encoder import object_to_json
from ax.storage.json_store.registry import (
    CORE_CLASS_DECODER_REGISTRY,
    CORE_CLASS_ENCODER_REGISTRY,
    CORE_DECODER_REGISTRY,
    CORE_ENCODER_REGISTRY,
)

from axsched_core.best import Best, Point
from axsched_core.errors import InvalidInput, OptimizerError, sentence
from axsched_core.jobs import Parameters, Report
from axsched_core.optimizers import _bulk, _generation
from axsched_core.optimizers._best import modelled, observed
from axsched_core.optimizers._content import EXPERIMENT, STRATEGY, content_of
from axsched_core.optimizers._data import Results
from axsched_core.optimizers._describe import described
from axsched_core.optimizers._generation import WAITS, words
from axsched_core.optimizers._noise import even_sems
from axsched_core.optimizers._search_space import checked, conditional
from axsched_core.optimizers._stopping import OVERALL, Stopping
from axsched_core.optimizers.base import (
    Asked,
    Candidate,
    Outcome,
    OutcomeKind,
    TrialView,
)
from axsched_core.optimizers.content import Changes, Content
from axsched_core.optimizers.files import content_of_file, kind_of, why_unwritten
from axsched_core.optimizers.last_run import LastRun

_log = logging.getLogger("axsched")

_ALL_PARTS = EXPERIMENT | {STRATEGY}
_NOT_NOW = (DataRequiredError, MaxParallelismReachedException)
_STRATEGY_COMPLETED = "the generation strategy has made all of its trials"


class AxOptimizer(Stopping):
    """An `Optimizer` over anything that has an Ax experiment and a generation strategy."""

    kind: str
    """Which of the three kinds it is; only a file of the same kind can be loaded."""

    def __init__(self, native: Any) -> None:
        super().__init__()
        self._native = native
        self._results = Results(self._step)
        self._database: Any = None
        self._touched: set[int] = set()
        """Trials that must be stored again although their status is the same."""
        self._uneven: set[str] = set()
        """Metrics that were already reported to have a standard error in some results only."""
        self._changed_parts: set[str] = set()
        """Parts of the `Content` that the user has changed and that are not stored yet."""

    # The three kinds differ in these.

    @property
    @abc.abstractmethod
    def strategy(self) -> Any:
        """The Ax generation strategy; chosen now if the user has chosen none."""

    @property
    @abc.abstractmethod
    def _chosen(self) -> Any:
        """The same, None if none was chosen yet."""

    @abc.abstractmethod
    def _generate(self, n: int) -> bool:
        """Make ``n`` trials and mark them running; True: there will never be more."""

    @abc.abstractmethod
    def _attach(self, parameters: dict[str, Any]) -> int: ...

    @abc.abstractmethod
    def _write(self, path: Path) -> None: ...

    @abc.abstractmethod
    def _read(self, path: Path, content: Any) -> AxOptimizer: ...

    _remedy = ""
    """The call that sets the objective."""

    _step: float | None = None
    """The step that this kind's own ``complete_trial`` writes for a final result."""

    def _track(self, names: list[str]) -> None:
        """Register tracking metrics."""
        self.experiment.add_tracking_metrics([Metric(name=name) for name in names])

    def _connect(self, settings: Any) -> None:
        """Let the native object save what the user does with it, if it can."""

    @classmethod
    @abc.abstractmethod
    def of_stored(
        cls, settings: Any, experiment: Any, strategy: Any, seed: int | None
    ) -> AxOptimizer:
        """Make an adapter from an experiment and strategy that a database held."""

    # The three kinds share these.

    @property
    def native(self) -> Any:
        return self._native

    @property
    def seed(self) -> int | None:  # type: ignore[override]
        found: int | None = getattr(self._native, "_random_seed", None)
        return found

    @property
    def name(self) -> str:
        return str(self.experiment._name or "")

    def content(self) -> Content:
        return content_of(self.experiment, self._chosen)

    def describe(self) -> Mapping[str, Any]:
        stopping = self.stopping_to_plain()
        return {**described(self.experiment), **({"stopping": stopping} if stopping else {})}

    @property
    def _current_node(self) -> Any:
        return getattr(self._chosen, "current_node", None)

    def check(self) -> None:
        self._config()

    def _config(self) -> Any:
        config = self.experiment.optimization_config
        if config is None:
            raise OptimizerError(
                f"There is nothing to optimize yet: the experiment has no objective. {self._remedy}"
            )
        return config

    @property
    def objective_names(self) -> tuple[str, ...]:
        return tuple(self._config().objective.metric_names)

    @property
    def required_metrics(self) -> frozenset[str]:
        return frozenset(self._config().metric_names)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*super().metric_names, *self.experiment.metrics)))

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return tuple(self.experiment.search_space.parameters)

    @property
    def conditional(self) -> frozenset[str]:
        return conditional(self.experiment.search_space)

    def ask(self, n: int, *, in_bulk: int = 0) -> Asked:
        self.check()
        if over := self.why_over():
            return Asked(complete=True, reason=over)
        if self.strategy_for(OVERALL) is not None:
            in_bulk = 0  # it is asked before each trial
        # A trial that Ax has made is never lost, even if the call to Ax fails: the experiment's
        # trials count, not what the call returned.
        before = frozenset(self.experiment.trials)
        made: tuple[Candidate, ...] = ()
        one_by_one = complete = False
        reason = ""
        while not complete and not reason:
            size = 0
            try:
                size, complete, reason = self._room(n - len(made), in_bulk - len(made))
                if not (size or complete or reason):
                    break
                if size > 0:
                    size = 1 if one_by_one else size
                    with self._unstored(), even_sems(self.experiment, self._uneven):
                        complete = self._generate_some(size)
                    reason = self._why_complete() if complete else ""
            except OptimizationComplete as error:
                if size > 1:
                    # Ax discards a whole batch if it cannot make all of it.
                    one_by_one = True
                    continue
                complete, reason = True, words(error)
            except _NOT_NOW as error:
                reason = words(error)
            except Exception as error:
                if frozenset(self.experiment.trials) == before:
                    raise OptimizerError(f"Ax could not propose a trial: {words(error)}") from error
                reason = f"Ax could not propose more trials: {words(error)}"
            so_far = len(made)
            made = self._candidates(before)
            if len(made) == so_far:
                reason = reason or WAITS
        self._mark_made([candidate.index for candidate in made])
        more = not (complete or reason) and _generation.is_free(self.experiment, self.strategy)
        return Asked(made, complete, reason, in_bulk=more)

    def _generate_some(self, size: int) -> bool:
        """As `_generate`, faster if the trials use no results."""
        strategy = self.strategy
        if size == 1 or not _generation.is_free(self.experiment, strategy):
            return self._generate(size)
        _bulk.generate(self.experiment, strategy, size, self.seed)
        return False

    def _room(self, n: int, in_bulk: int) -> tuple[int, bool, str]:
        """How many trials may be made in one go: (number, complete, reason)."""
        found = _generation.room(self.experiment, self._placed_strategy(), n, in_bulk)
        if found is None:
            return 0, True, self._why_complete() or _STRATEGY_COMPLETED
        return found.size, False, found.reason

    def _placed_strategy(self) -> Any:
        with self._unstored():  # a client saves the strategy that it chooses
            strategy = self.strategy
        if strategy._experiment is None:
            strategy.experiment = self.experiment
        return strategy

    def _why_complete(self) -> str:
        """Why the optimizer is complete, in its own words, if it says so."""
        return ""

    def _candidates(self, before: frozenset[int]) -> tuple[Candidate, ...]:
        return tuple(
            Candidate(index, dict(trial.arm.parameters), _method(trial))
            for index, trial in self.experiment.trials.items()
            if index not in before and _ours(trial) and trial.status.is_running
        )

    def initial_trials_left(self) -> int:
        return _generation.initial_trials_left(self.experiment, self._placed_strategy())

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        trials = self.experiment.trials
        for outcome in outcomes:
            if not _ours(trials.get(outcome.index)):
                raise OptimizerError(
                    f"Experiment {self.name!r} has no trial {outcome.index} with one arm, "
                    "so its outcome cannot be told."
                )
        # A trial that the user has ended in the meantime stays unchanged.
        told = [(o, trials[o.index]) for o in outcomes if not trials[o.index].status.is_terminal]
        completed = {o.index: o.metrics for o, _ in told if o.kind is OutcomeKind.COMPLETED}
        self._know({name for metrics in completed.values() for name in metrics})
        self._results.add_final(self.experiment, completed)
        for outcome, trial in told:
            if trial.status in (TrialStatus.CANDIDATE, TrialStatus.STAGED):
                # unsafe: whether it must be staged first matters to its Ax runner, not to us.
                trial.mark_running(no_runner_required=True, unsafe=True)
            if outcome.kind is OutcomeKind.COMPLETED:
                trial.mark_completed()
            elif outcome.kind is OutcomeKind.FAILED:
                trial.mark_failed(reason=outcome.reason or None)
            elif outcome.kind is OutcomeKind.STALE:
                trial.mark_stale(unsafe=True)  # it is RUNNING for Ax, so that it counts as pending
            elif outcome.kind is OutcomeKind.EARLY_STOPPED:
                # unsafe: after a resume its last reports may be lost, and it may have no data.
                trial.mark_early_stopped(reason=outcome.reason or None, unsafe=True)
            else:
                trial.mark_abandoned(reason=outcome.reason or None)

    def tell_intermediate(self, reports: Mapping[int, Sequence[Report]]) -> None:
        known = {i: found for i, found in reports.items() if _ours(self.experiment.trials.get(i))}
        self._know({name for found in known.values() for one in found for name in one.metrics})
        self._results.add_intermediate(self.experiment, known)
        self._touched |= set(known)

    def may_return(self, indices: Sequence[int]) -> None:
        for index in indices:
            trial = self.experiment.trials.get(index)
            if _ours(trial) and trial.status is TrialStatus.ABANDONED:
                trial.mark_failed(reason=trial.status_reason, unsafe=True)

    def _know(self, metrics: set[str]) -> None:
        """Make tracking metrics of those that the experiment does not have."""
        if unknown := sorted(metrics.difference(self.experiment.metrics)):
            with self._unstored():
                self._track(unknown)

    def annotate(self, metadata: Mapping[int, Mapping[str, Any]]) -> None:
        trials = self.experiment.trials
        for index, data in metadata.items():
            if index not in trials:
                raise OptimizerError(f"Experiment {self.name!r} has no trial {index}.")
            trials[index].update_run_metadata(_harmless(dict(data)))
        self._touched |= set(metadata)

    # In a database.

    def keep_in(self, database: Any, *, loaded: bool = False) -> None:
        """Store the experiment in a `Database`, now and with each `store`.

        Args:
            database: an `axsched_core.optimizers._sql.Database`.
            loaded: True: the experiment was loaded from there.

        Raises:
            InvalidInput: it cannot be stored there.
        """
        if loaded:
            database.go_on(self.experiment, self._chosen)
        else:
            properties = self.experiment._properties
            last = LastRun.of(properties) or LastRun(self.kind, self.seed)
            properties["axsched"] = attrs.asdict(attrs.evolve(last, kind=self.kind, seed=self.seed))
            database.begin(self.experiment, self._chosen)
        self._database = database
        self._connect(database.settings)

    @property
    def in_database(self) -> bool:  # type: ignore[override]
        return self._database is not None

    def store(self) -> None:
        if self._database is not None:
            self._database.store(self.experiment, self._chosen, self._touched, self._changed_parts)

    def changed(self, changes: Changes | None) -> None:
        if self._database is not None:
            self._changed_parts |= _ALL_PARTS if changes is None else changes.parts
            # A new trial is stored anyway for its status, perhaps already by the user's client.
            self._touched |= set(self.experiment.trials if changes is None else changes.trials)

    def runs_in(self, run_dir: Path, run_id: str) -> None:
        if self._database is not None:
            last = LastRun(self.kind, self.seed, str(run_dir), run_id, socket.gethostname())
            self._database.remember(self.experiment, attrs.asdict(last))

    @contextlib.contextmanager
    def _unstored(self) -> Iterator[None]:
        """Stop the native object from saving trial by trial; `store` saves all in one go."""
        if self._database is None or not hasattr(self._native, "_db_settings"):
            yield
            return
        settings = self._native._db_settings
        self._native._db_settings = None
        try:
            yield
        finally:
            self._native._db_settings = settings

    def _mark_made(self, indices: Sequence[int]) -> None:
        # So a driver that finds them in a database, without a journal, knows that they are ours.
        if self._database is not None:
            self.annotate({index: {"axsched": {"made": True}} for index in indices})

    def attach(self, parameters: Parameters) -> int:
        with self._unstored():
            index = self._attach(checked(self.experiment.search_space, parameters))
        self._mark_made([index])
        return index

    def origins(self, indices: Sequence[int]) -> Mapping[int, Any]:
        return {index: _run_to_json(self.experiment.trials[index]) for index in indices}

    def restore(self, index: int, parameters: Parameters, origin: Any) -> None:
        if origin is None:
            super().restore(index, parameters, origin)
            return
        # `attach` would lose the trial's origin, and Sobol would propose the point again: the
        # strategy continues from the last of its generator runs.
        run = object_from_json(
            origin,
            decoder_registry=CORE_DECODER_REGISTRY,
            class_decoder_registry=CORE_CLASS_DECODER_REGISTRY,
        )
        self._placed_strategy()._generator_runs.append(run)
        trial = self.experiment.new_trial(generator_run=run)
        trial.mark_running(no_runner_required=True, unsafe=True)
        if trial.index != index:
            raise OptimizerError(
                f"Trial {index} of the journal was made again as trial {trial.index}."
            )

    def validate(self, parameters: Parameters) -> None:
        checked(self.experiment.search_space, parameters)

    def trials(self, indices: Sequence[int] | None = None) -> Mapping[int, TrialView]:
        trials = self.experiment.trials
        wanted = sorted(trials if indices is None else {i for i in indices if i in trials})
        with_data = self.experiment.lookup_data().trial_indices
        return {
            index: TrialView(
                index=index,
                # A batch trial (several arms) belongs to the user: we run nothing in it.
                parameters=dict(trials[index].arm.parameters) if _ours(trials[index]) else {},
                status=trials[index].status.name,
                open=_ours(trials[index]) and not trials[index].status.is_terminal,
                has_data=index in with_data,
                metadata=dict(trials[index].run_metadata),
            )
            for index in wanted
        }

    def best(self) -> Best:
        several = self._config().is_moo_problem
        seen, why_not_seen = observed(self.experiment)
        predicted: list[Point] = []
        if not self.experiment.trial_indices_by_status[TrialStatus.COMPLETED]:
            why_none = why_not_seen
        else:
            try:
                strategy = self._placed_strategy()
                with even_sems(self.experiment, self._uneven):
                    predicted, why_none = modelled(self.experiment, strategy)
            except Exception as error:  # noqa: BLE001 - the observed best is still there
                why_none = f"Ax cannot say which trial is best: {words(error)}"
        if several:
            return Best(
                pareto=tuple(seen),
                modelled_pareto=tuple(predicted),
                why_not_observed=why_not_seen,
                why_not_modelled=why_none,
            )
        return Best(
            next(iter(seen), None),
            next(iter(predicted), None),
            why_not_observed=why_not_seen,
            why_not_modelled=why_none,
        )

    def summarize(self) -> Any:
        return self._as_client().summarize()

    def plots(self) -> list[Any]:
        return list(self._as_client().compute_analyses(display=False))

    def _as_client(self) -> Any:
        """A ``Client`` over the same experiment, without its own database."""
        from ax import Client

        client = Client()
        client._maybe_experiment = self.experiment
        client._maybe_generation_strategy = self._placed_strategy()
        return client

    def save(self, path: Path) -> None:
        beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            self._write(beside)
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(beside, path)
        except JSONEncodeError as error:
            raise OptimizerError(
                f"Ax cannot write the {self.kind} as JSON: {words(error)} "
                "Register that class with Ax (CORE_ENCODER_REGISTRY), or leave it away."
            ) from error
        except OSError as error:
            raise InvalidInput(
                f"{path} cannot be written: {sentence(why_unwritten(path, error))}"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)

    def load(self, path: Path) -> AxOptimizer:
        content = content_of_file(path, f"a saved {self.kind}")
        kind = kind_of(content)
        if kind != self.kind:
            raise InvalidInput(
                f"{path} holds {f'an Ax {kind}' if kind else 'nothing of Ax'}, not the "
                f"{self.kind} that is expected."
            )
        try:
            with self._unstored():  # the loaded object must not look for the database
                loaded = self._read(path, content)
        except Exception as error:
            raise InvalidInput(
                f"{path} holds no {self.kind} that Ax can load: {words(error)}"
            ) from error
        if self.in_database or "axsched" in loaded.experiment._properties:
            # Ax's JSON has no database ids, and Ax refuses to save an experiment a second time.
            _log.warning(
                "The %s read from %s is not connected to a database: Ax cannot store what comes "
                "from a file. AxScheduler.from_stored_experiment(%r, db_settings=..., runner=...) "
                "goes on there.",
                self.kind,
                path,
                loaded.name,
            )
        return loaded


def _ours(trial: Any) -> bool:
    """True for a trial of one arm; False for a batch trial and for one without arms."""
    return isinstance(trial, Trial) and trial.arm is not None


def _method(trial: Any) -> str:
    """The node of the generation strategy, or the generator, that has made a trial."""
    run = trial.generator_run
    return str(run._generation_node_name or run._generator_key or "") if run else ""


def _harmless(value: Any) -> Any:
    """The same, without parts that Ax would read back from JSON as its own objects."""
    if isinstance(value, Mapping):
        if "__type" in value:
            return json.dumps(value, default=str)
        return {name: _harmless(item) for name, item in value.items()}
    return [_harmless(item) for item in value] if isinstance(value, list | tuple) else value


def _run_to_json(trial: Any) -> Any:
    """A trial's generator run, without what is the same for all runs of an experiment."""
    run = trial.generator_run
    if run is None:
        return None
    encoded = object_to_json(
        run,
        encoder_registry=CORE_ENCODER_REGISTRY,
        class_encoder_registry=CORE_CLASS_ENCODER_REGISTRY,
    )
    return {**encoded, "search_space": None, "optimization_config": None}
