"""`Run`: one optimization on one runner, with its parts; shared by all code that works on a run."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import attrs

from axsched_core import options
from axsched_core.config import SchedulerConfig
from axsched_core.errors import (
    FailureRateExceeded,
    InvalidInput,
    OptimizationInterrupted,
    OptimizationTerminated,
    sentence,
)
from axsched_core.jobs import Capability, Parameters
from axsched_core.journal import header
from axsched_core.journal.rundir import RunDirectory
from axsched_core.journal.writer import Writer
from axsched_core.objectives.build import StaysHere
from axsched_core.objectives.spec import ObjectiveSpec
from axsched_core.observers.manager import Observers, split_plugins
from axsched_core.observers.progress import Progress
from axsched_core.optimizers import adapt, keep_in_database
from axsched_core.optimizers.base import Optimizer
from axsched_core.run import failures, interruption, termination
from axsched_core.run.engine import Engine
from axsched_core.run.guard import Guard
from axsched_core.run.lane import Lane
from axsched_core.run.records import Record
from axsched_core.run.snapshots import Snapshots
from axsched_core.runners.discovery import load
from axsched_core.runners.session import RunnerSession
from axsched_core.trials import Trial, TrialState

log = logging.getLogger("axsched")
T = TypeVar("T")


class Run:
    """One run: an optimizer, a runner, a run directory, and the engine between them.

    The user's actions are in `driving` (trials that jobs evaluate), `by_hand` (one trial at a
    time), `objective` (what is evaluated) and `batch`. Their common code is here: each of their
    functions is one `call`.

    Args:
        optimizer: an Ax object, an `Optimizer`, or None; see `AxScheduler`.
        runner: a runner's name, or an instance of one.
        config: settings, or a mapping with them.
        runner_options: options of a runner given by name.
        generation_strategy: for an Ax ``Experiment``.
        plugins: observers, and wrappers of the runner's hooks.
        db_settings: of the database in which the experiment is stored.
        stopping: Ax's strategies that stop a trial early, and the whole optimization.
        found: the run directory and the journal that this run continues; None: it is new.

    Raises:
        InvalidInput: a setting is unknown or wrong, or the database cannot be used.
        RunnerError: the runner cannot be found, loaded or used.
    """

    def __init__(
        self,
        optimizer: Any,
        runner: str | object,
        config: SchedulerConfig | Mapping[str, Any] | None = None,
        runner_options: Mapping[str, Any] | None = None,
        *,
        generation_strategy: Any = None,
        plugins: Sequence[object] = (),
        db_settings: Any = None,
        stopping: tuple[Any, Any] = (None, None),
        found: tuple[RunDirectory, Writer] | None = None,
    ) -> None:
        self.config = settings(config, runner)
        adapter = adapt(optimizer, generation_strategy)
        adapter.stop_with(*stopping)
        wrappers, watching = split_plugins(plugins)
        session = RunnerSession(_instance(runner, runner_options), wrappers)
        try:
            observers = Observers()
            if self.config.progress:
                observers.register(Progress())
            for observer in watching:
                observers.register(observer)
            self.rundir, self.writer = found or (
                RunDirectory(self.config.job_output_dir, adapter.name),
                Writer(durable=self.config.durable),
            )
            keep_in_database(adapter, db_settings)
            native = adapter if optimizer is None else adapter.native
        except BaseException:
            session.release()
            raise
        self.engine = Engine(adapter, [session], observers, self.config, self.rundir, self.writer)
        self.recorder = self.engine.recorder
        self.snapshots = Snapshots(self.engine.exchange.thread.call, self.recorder, self.rundir)
        self.snapshots.remember(adapter)
        self.guard = Guard(native, self.engine)
        self.objective: ObjectiveSpec | None = None
        """What jobs evaluate; None: not set yet."""
        self.budget = self.engine.budget
        self.seconds = 0.0
        """How long the calls have taken that wait for trials."""
        self.why_stopped = ""
        """Why the last of them has ended; "": its trials have ended, or the optimizer is
        complete."""
        self._runner = session.info
        self._runner_options = dict(runner_options or {}) if isinstance(runner, str) else None
        self._taken_up = False

    def __reduce__(self) -> NoReturn:
        raise StaysHere("a scheduler cannot be pickled")

    # ---- one call ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def call(self, name: str, *, must_be_written: bool = True) -> Iterator[None]:
        """One call: it notices the user's changes at its start, and remembers its own at its end.

        Args:
            name: of the user's method.
            must_be_written: True: the call is refused if the user's changes cannot be written.

        Raises:
            SchedulerBusy: another call is running.
            SchedulerClosed: the run is not open any more.
        """
        with self.guard.alone(name, lambda: self.interrupted(self.save_interrupted())):
            self.guard.check_open()
            self.engine.loop.rest()
            self._notice_changes(name, must=must_be_written)
            try:
                yield
                self._mark_trials()
                if self.optimizer.in_database:
                    self.writer.flush()  # the database knows no more than the journal
                    self.with_optimizer(lambda optimizer: optimizer.store())
            except BaseException as error:
                if isinstance(error, Exception):  # otherwise `save_interrupted` has done it
                    self._mark_trials()
                self._leave(error)
                raise
            self._leave()

    def _notice_changes(self, name: str, *, must: bool) -> None:
        """Write down and store the user's changes to the optimizer since the last call."""
        try:
            self.snapshots.notice(self.optimizer)
        except Exception as error:
            if must:
                raise
            log.error("%s: what has changed since the last call is not written: %s", name, error)

    def _mark_trials(self) -> None:
        """Give the optimizer the marks for which there was no turn any more."""
        marks = {} if self.engine.loop.left_behind else self.recorder.marks
        data = {index: {"axsched": mark} for index, mark in marks.items()}
        try:
            if data:
                self.with_optimizer(lambda optimizer: optimizer.annotate(data))
        except Exception as error:  # noqa: BLE001 - it must not hide how the call has ended
            log.error("The trials could not be marked; the next call does it: %s", error)
        else:
            self.recorder.marks_taken(marks)

    def _leave(self, error: BaseException | None = None) -> None:
        """A call is over; ``error``: the exception that ended it."""
        if self.engine.exchange.changed_outside:
            self.engine.exchange.changed_outside = False
            self.snapshots.due()
        self.snapshots.remember(self.optimizer, error)

    def ready(self, *, objective: bool = True, write: bool = True) -> None:
        """Check that a call has all that it needs.

        Args:
            objective: the call runs jobs.
            write: the call makes trials or gives them results, so there must be a journal.

        Raises:
            InvalidInput: no objective is set, or the run directory cannot be written.
            OptimizerError: there is nothing to optimize yet.
        """
        self.optimizer.check()
        if objective and not all(lane.can(Capability.PARAMETERS) for lane in self.lanes):
            if self.objective is None:
                raise InvalidInput(
                    "No objective is set: call set_objective_function(f), "
                    "set_script_objective(path) or set_container_objective(image) first."
                )
            self.objective.check_complete()
        if objective and write:
            termination.go_on()
        if write:
            self.write_down()
        self.learn_metrics()

    def learn_metrics(self) -> None:
        """Tell the engine what a result must hold."""
        self.engine.expect(self.optimizer.objective_names, self.optimizer.required_metrics)

    def write_down(self) -> None:
        """Make sure that there is a journal, with a snapshot of the user's optimizer state."""
        if not self.writer.durable:  # as configured, or because its folder was removed
            return
        if not self.writer.opened:
            if self.rundir.make():
                self.recorder.say(f"Outputs: {self.rundir.path}")
            try:
                first = header.header(
                    self.rundir,
                    self.optimizer,
                    self._runner,
                    self._runner_options,
                    self.config,
                )
                self.recorder.begin(self.rundir.path, first)
                if self.budget.open:  # what a run on another runner has left
                    self.recorder.call_begun(self.budget.open)
            except OSError as error:
                raise InvalidInput(
                    f"The run directory {self.rundir.path} cannot be written: {sentence(error)}"
                ) from error
            path, run_id = self.rundir.path, self.rundir.run_id
            self.with_optimizer(lambda optimizer: optimizer.runs_in(path, run_id))
        self.engine.attempts.write_function()
        self.writer.flush()  # a replaced driver writes nothing
        self.snapshots.write(self.optimizer)
        self.writer.flush()

    @property
    def lanes(self) -> Sequence[Lane]:
        """The runners of this run."""
        return self.engine.lanes

    # ---- the optimizer and its trials ----------------------------------------------------------

    @property
    def optimizer(self) -> Optimizer:
        """What proposes the trials. Use `with_optimizer` for computations in it."""
        return self.engine.optimizer

    def with_optimizer(self, work: Callable[[Optimizer], T]) -> T:
        """Run ``work`` with the optimizer, on the one thread that uses it."""
        optimizer = self.optimizer
        return self.engine.exchange.thread.call(lambda: work(optimizer))

    def record(
        self, index: int, parameters: Parameters, origin: Any = None, method: str = ""
    ) -> Record:
        """The record of a trial; if there is none, it is made, on the engine's thread."""
        return self.engine.loop.call(
            lambda: self.engine.record(index, parameters, origin, method=method)
        )

    def trials(self) -> dict[int, Trial]:
        """The trials that this run knows, by index, as they are now."""
        records = self.engine.records
        return {index: records[index].snapshot() for index in sorted(records)}

    def stopped_before(self) -> list[Record]:
        """Trials that Ctrl-C left open, in this session or in the one that was loaded."""
        if not self._taken_up:
            self._taken_up = True
            for index, view in self.with_optimizer(lambda optimizer: optimizer.trials()).items():
                mark = view.metadata.get("axsched")
                if self.guard.elsewhere(index):
                    continue
                if view.open and isinstance(mark, Mapping) and mark.get("interrupted"):
                    self.record(index, view.parameters).reopened = True
        found = [r for r in self.engine.records.values() if r.reopened]
        indices = [record.index for record in found]
        views = self.with_optimizer(lambda optimizer: optimizer.trials(indices))
        return [r for r in found if r.state is TrialState.CANDIDATE and views[r.index].open]

    def begin_anew(self) -> None:
        """From here on, ended trials say nothing about the objective."""
        if failures.begin_anew(
            self.engine.records.values(),
            self.recorder,
            lambda indices: self.with_optimizer(lambda optimizer: optimizer.may_return(indices)),
        ):
            self.engine.exchange.changed_outside = True  # the next call makes a snapshot

    def preview(self, parameters: Parameters | None) -> str:
        """What would be submitted for a trial; see `AxScheduler.preview`."""
        with self.call("preview", must_be_written=False):
            self.ready(write=False)
            index, attempt = max(self.engine.records, default=-1) + 1, 1
            if parameters is not None:
                if not isinstance(parameters, Mapping):
                    kind = type(parameters).__name__
                    raise InvalidInput(f"preview: parameters must be a mapping, not {kind}.")
                self.optimizer.validate(parameters)
            else:
                parameters = {name: f"<{name}>" for name in self.optimizer.parameter_names}
                for record in self.engine.records.values():
                    if record.state is TrialState.CANDIDATE:
                        index, attempt = record.index, record.attempts + 1
                        parameters = record.parameters
                        break
            request = self.engine.attempts.request(index, attempt, parameters)
            return self.engine.loop.call(
                lambda: "\n\n".join(lane.preview(request) for lane in self.lanes)
            )

    # ---- waiting, and Ctrl-C -------------------------------------------------------------------

    def perform(self, begin: Callable[[], None], until: Callable[[], bool] | None = None) -> None:
        """Run ``begin`` on the engine's thread, then turn after turn.

        Args:
            begin: runs first.
            until: returns True at the end; None: end after one turn.

        Raises:
            OptimizationInterrupted, OptimizationTerminated: Ctrl-C or a signal came.
        """
        if self.engine.loop.perform(begin, until):
            raise self.interrupted(self.save_interrupted())

    def wait(self, begin: Callable[[], None], until: Callable[[], bool]) -> None:
        """The same for a call that waits for trials: observers are told when it begins and ends."""

        began = time.monotonic()

        def start() -> None:
            try:
                begin()
            finally:  # also if it fails: the end is said in any case
                self.begins(len(self.engine.active) + self.budget.to_make)

        try:
            interrupted = self.engine.loop.perform(start, until)
        except FailureRateExceeded:
            self.begin_anew()
            raise
        finally:
            self.ends(began)
        if interrupted:
            raise self.interrupted(self.save_interrupted())
        if self.engine.active.halted is not None:
            self.why_stopped = f"Stopped: {self.engine.active.halted.value}."

    def begins(self, trials: int) -> None:
        """A call that waits for trials begins; on the engine's thread."""
        self.why_stopped = ""
        self.recorder.run_started(trials)

    def ends(self, began: float) -> None:
        """It ends; ``began``: `time.monotonic` seconds."""
        self.seconds += time.monotonic() - began
        self.engine.notify(self.recorder.run_ended)

    @contextlib.contextmanager
    def parking(self, records: list[Record]) -> Iterator[None]:
        """If this is interrupted, the next call runs the trials that were made before."""
        try:
            yield
            interrupted = termination.presses() > 0
        except (KeyboardInterrupt, OptimizationTerminated):
            interrupted = True
        if interrupted:
            park = self.engine.dispatch.settler.park
            idle = [record for record in records if record.state is TrialState.CANDIDATE]
            self.engine.notify(lambda: [park(record) for record in idle])
            raise self.interrupted(self.save_interrupted()) from None

    def save_interrupted(self) -> Path | None:
        """Save the experiment into the run directory: see `interruption.save`."""

        def write(path: Path) -> None:
            self._mark_trials()
            self.with_optimizer(lambda optimizer: optimizer.save(path))

        return interruption.save(self.rundir, write)

    def interrupted(self, saved: Path | None) -> OptimizationInterrupted | OptimizationTerminated:
        """What a call raises after Ctrl-C or a signal; ``saved``: from `save_interrupted`."""
        return interruption.error(
            records=self.engine.records.values(),
            active=self.engine.active,
            not_made=self.budget.open,
            run_dir=self.rundir.path,
            resumable=self.writer.opened,
            saved=saved,
        )

    # ---- files, and the end --------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the experiment to a file; see `AxScheduler.save_experiment`."""
        with self.call("save_experiment", must_be_written=False):
            self.with_optimizer(lambda optimizer: optimizer.save(path))

    def load(self, path: Path) -> None:
        """Continue another experiment; see `AxScheduler.load_experiment`."""
        with self.call("load_experiment", must_be_written=False):
            if self.engine.active or self.budget.to_make:
                raise InvalidInput(
                    "load_experiment: jobs are in progress; wait_for_completed_trials() or "
                    "cancel() first."
                )
            self.engine.begin_with(self.with_optimizer(lambda optimizer: optimizer.load(path)))
            self.rundir.name_after(self.optimizer.name)
            self._taken_up = False
            self.snapshots.another()

    def close(self) -> None:
        """Cancel running jobs, or leave them, and close the runner; see `AxScheduler.close`."""
        if not self.guard.open:
            return
        with self.guard.alone("close"):
            try:
                self._notice_changes("close", must=False)
            finally:
                # In this order: if Ctrl-C comes between the two, the end of the program, or
                # another `close`, still finds an engine that it can shut down.
                self.engine.shut_down()
                self.guard.retire()

    def let_go(self) -> None:
        """Give up a run that could not be restored, without changes to it."""
        self.guard.retire()
        self.engine.let_go()


def settings(
    config: SchedulerConfig | Mapping[str, Any] | None, runner: str | object
) -> SchedulerConfig:
    """Check the ``config`` of a call with this ``runner``."""
    others = {}
    known = attrs.fields_dict(SchedulerConfig)
    if isinstance(config, Mapping) and isinstance(runner, str) and not config.keys() <= set(known):
        others["runner_options"] = load(runner).option_names
    return options.build(SchedulerConfig, config, "config", others=others)


def _instance(runner: str | object, runner_options: Mapping[str, Any] | None) -> object:
    if isinstance(runner, str):
        return load(runner).make_runner(runner_options)
    if runner is None:
        raise InvalidInput(
            "The runner is None: give an installed runner's name, such as 'joblib' (`axsched "
            "runners` lists them), or an instance of a runner."
        )
    if runner_options:
        raise InvalidInput(
            "runner_options go with a runner's name; the runner given here is an instance "
            f"({type(runner).__name__}), which takes its options when it is made."
        )
    return runner
