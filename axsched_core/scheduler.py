"""`AxScheduler`: the face of the package; it checks, delegates, and puts things into words."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from axsched_core import options
from axsched_core.batch import Batch
from axsched_core.best import Best
from axsched_core.config import SchedulerConfig
from axsched_core.errors import (
    AxschedError,
    FailureRateExceeded,
    InvalidInput,
    OptimizationInterrupted,
    OptimizationTerminated,
    OptimizerError,
    SchedulerBusy,
    TrialNotFinished,
    UnsupportedObjective,
)
from axsched_core.jobs import (
    OBJECTIVE_CAPABILITIES,
    Capability,
    JobResult,
    Parameters,
    Resources,
)
from axsched_core.journal import header
from axsched_core.journal.rundir import RunDirectory
from axsched_core.journal.writer import Writer
from axsched_core.objectives import build, fingerprint
from axsched_core.objectives.results import InvalidResult, read_result
from axsched_core.objectives.spec import ObjectiveSpec
from axsched_core.observers.manager import Observers, split_plugins
from axsched_core.observers.progress import Progress
from axsched_core.optimizers import adapt, keep_in_database
from axsched_core.optimizers.base import Optimizer, Outcome, OutcomeKind, TrialView
from axsched_core.run import failures, from_database, resume, signals
from axsched_core.run.engine import Engine
from axsched_core.run.guard import Guard
from axsched_core.run.records import Purpose, Record, Stage, all_failed
from axsched_core.run.snapshots import Snapshots
from axsched_core.runners.discovery import check, installed, load
from axsched_core.runners.session import RunnerSession
from axsched_core.trials import Trial, TrialState

log = logging.getLogger("axsched")


class AxScheduler:
    """Runs the trials of an Ax optimization on the machines behind a runner.

    Args:
        optimizer: an ``ax.Client``, an ``AxClient`` or an Ax ``Experiment``. It is used as it
            is, not copied: what it shows afterwards is complete. None: `load_experiment` will
            bring it.
        runner: the name of an installed runner (``"joblib"``), or an instance of one.
        config: a `SchedulerConfig`, or a mapping with its keys.
        runner_options: options of a runner given by name; see its documentation.
        generation_strategy: for an ``Experiment``; None: chosen from its search space.
        plugins: observers, and wrappers of the runner's hooks.
        db_settings: Ax's ``DBSettings`` (or ``StorageConfig``) of the database in which the
            experiment is stored; a client that has its own is stored there.

    Raises:
        InvalidInput: a setting is unknown or wrong, or the database cannot be used.
        RunnerError: the runner cannot be found, loaded or used.

    One call at a time: a method that is called while another is on the stack (from a second
    thread, from an observer) raises `SchedulerBusy`; only `cancel` may be called from anywhere.

    Example:
        >>> scheduler = AxScheduler(client, "joblib", runner_options={"n_jobs": 4})
        >>> scheduler.set_objective_function(lambda x, y: (x - 1) ** 2 + y**2)
        >>> best = scheduler.run_optimization(max_trials=20)
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
        _run: tuple[RunDirectory, Writer] | None = None,
    ) -> None:
        self.config = options.build(SchedulerConfig, config, "config")
        self._optimizer: Optimizer = adapt(optimizer, generation_strategy)
        wrappers, watching = split_plugins(plugins)
        self._session = RunnerSession(_runner(runner, runner_options), wrappers)
        try:
            observers = Observers()
            if self.config.progress:
                observers.register(Progress())
            for observer in watching:
                observers.register(observer)
            rundir, writer = _run or (
                RunDirectory(self.config.job_output_dir, self._optimizer.name),
                Writer(durable=self.config.durable),
            )
            keep_in_database(self._optimizer, db_settings)
        except BaseException:
            self._session.release()
            raise
        self._rundir, self._writer = rundir, writer
        self._engine = Engine(
            self._optimizer, self._session, observers, self.config, rundir, writer
        )
        self._recorder = self._engine.recorder
        self._saved = Snapshots(self._engine.owner.call, self._recorder, rundir)
        self._saved.remember(self._optimizer)
        self._left_to_make = 0
        self._runner_options = dict(runner_options or {}) if isinstance(runner, str) else None
        self._chosen: ObjectiveSpec | None = None
        native = self._optimizer if optimizer is None else self._optimizer.native
        self._guard = Guard(native, self._engine)
        self._taken_up = False

    # ---- what is evaluated -----------------------------------------------------------------

    def set_objective_function(
        self,
        objective_fn: Callable[..., Any] | None = None,
        *,
        function: Callable[..., Any] | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        """Evaluate trials with a Python function.

        Args:
            objective_fn: called as ``f(parameters)`` with a dict, or as ``f(x=..., y=...)``
                where its arguments are named after the search space's parameters. Returns
                metric -> value, or a bare number where there is one objective; a value is a
                number, ``(mean, sem)`` or ``{"mean": ..., "sem": ...}``. Under ``notes`` it may
                return whatever JSON can hold, up to 10,000 bytes.
            function: the same under another name.
            resources: what each job needs, where the runner looks at it: ``cpus``, ``memory``
                (bytes, "4G"), ``gpus``; see `axsched_core.config.Needs`.

        Raises:
            InvalidInput: it is no function, cannot be pickled, or its arguments do not fit.
            UnsupportedObjective: the runner takes no functions.
        """
        if (objective_fn is None) == (function is None):
            raise InvalidInput("set_objective_function takes one function.")
        chosen = objective_fn if objective_fn is not None else function
        assert chosen is not None
        pickled = build.function_objective(chosen)
        with self._call("set_objective_function"):
            self._require(Capability.FUNCTION)
            self._optimizer.check()
            names, conditional = self._optimizer.parameter_names, self._optimizer.conditional
            bound = build.bind_function(chosen, names, resources, conditional)
            self._set_objective(ObjectiveSpec(bound, pickled, fingerprint.of_function(chosen)))

    def set_script_objective(
        self, script_path: str | Path, script_options: Mapping[str, Any] | None = None
    ) -> None:
        """Evaluate trials with a script: Python, shell, or any executable.

        It finds its parameters in the JSON file that ``$AXSCHED_PARAMS_FILE`` names and writes
        its metrics, as JSON, to the file that ``$AXSCHED_RESULT_FILE`` names. Where
        ``working_dir`` is given, a ``result.json`` in it is not read: other jobs may write there
        too.

        Args:
            script_path: the script.
            script_options: see `axsched_core.config.ScriptOptions`: ``interpreter``,
                ``args``, ``timeout`` (s), ``env``, ``working_dir``, ``cpus``, ``memory``,
                ``gpus``.

        Raises:
            InvalidInput: the script is missing or cannot be run, or an option is wrong.
            UnsupportedObjective: the runner takes no scripts.
        """
        objective = build.script_objective(script_path, script_options)
        with self._call("set_script_objective"):
            self._require(Capability.SCRIPT)
            self._set_objective(
                ObjectiveSpec(objective, None, fingerprint.of_file(objective.script))
            )

    def set_container_objective(
        self,
        container_image: str,
        container_command: str | Sequence[str] | None = None,
        container_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Evaluate trials with a container image that follows the job folder's protocol.

        Args:
            container_image: the image's name.
            container_command: what to run in it; None: the image's own command.
            container_options: for the runner.

        Raises:
            InvalidInput: the image or command is empty.
            UnsupportedObjective: the runner runs no containers; names those that do.
        """
        objective = build.container_objective(container_image, container_command, container_options)
        with self._call("set_container_objective"):
            self._require(Capability.CONTAINER)
            self._set_objective(ObjectiveSpec(objective))

    def _set_objective(self, chosen: ObjectiveSpec) -> None:
        waiting = [r for r in self._engine.active.at(Stage.WAITING) if not r.orphaned]
        if self._engine.to_make or waiting:
            raise InvalidInput(
                "Trials are waiting to be run with the objective that was set before: "
                "wait_for_completed_trials() or cancel() first."
            )
        records = self._engine.records.values()
        evaluated = sum(record.state is TrialState.SUCCEEDED for record in records)
        if evaluated and self._chosen is not None and chosen.differs_from(self._chosen):
            log.warning(
                "The objective is another than before, and %d trials of this run have results of "
                "that one, which are kept. To keep the two apart, begin a new experiment.",
                evaluated,
            )
        needs = getattr(chosen.objective, "resources", Resources())
        if needs != Resources() and not self._session.can(Capability.RESOURCES):
            log.warning("The runner %r does not look at %s.", self._session.info.name, needs)
        before, self._chosen = self._chosen, chosen
        self._engine.dispatch.attempts.set_objective(chosen)
        if before is not None and (
            chosen.differs_from(before) or chosen.objective != before.objective
        ):
            self._begin_anew()

    def _require(self, capability: Capability) -> None:
        if self._session.can(capability):
            return
        name, able = self._session.info.name, _runners_with(capability)
        taken = sorted(self._session.info.capabilities & OBJECTIVE_CAPABILITIES)
        hint = f"Installed runners that do: {', '.join(able)}." if able else _WHERE[capability]
        raise UnsupportedObjective(
            f"The runner {name!r} takes no {capability.value} objective "
            f"(it takes: {', '.join(taken) or 'none'}). {hint}"
        )

    # ---- running ---------------------------------------------------------------------------

    def run_optimization(
        self,
        max_trials: int = 10,
        timeout: float | None = None,
        synchronous: bool | None = None,
    ) -> Best:
        """Have the optimizer make ``max_trials`` more trials, run them, and wait for them.

        Args:
            max_trials: trials to add; those that were added by hand are not counted, nor
                those that an earlier Ctrl-C left open, which are taken up first.
            timeout: seconds; then nothing more starts, running jobs are cancelled and their
                trials abandoned.
            synchronous: True: one trial at a time; None: as the config says.

        Returns:
            The best trial as it was observed, and as Ax's own model sees it; with several
            objectives the Pareto set. Where there is none, the words that say why.

        Raises:
            AllTrialsFailed: not one trial of this run has a result; says the first causes.
            FailureRateExceeded: so many have failed that the rest was not begun; says the causes,
                and how to go on.
            OptimizationStuck: the optimizer waits for trials that nobody runs.
            OptimizationInterrupted: Ctrl-C; the message says how to go on.
            OptimizationTerminated: SIGTERM or SIGHUP; it ends the program.
            OptimizerError, RunnerError: one of the two is broken or used wrongly.
        """
        _whole(max_trials, "max_trials")
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise InvalidInput(f"timeout must be a positive number of seconds, got {timeout!r}.")
        with self._call("run_optimization"):
            self._ready()
            self._warn_of_small_budget(max_trials)
            again = self._interrupted_before()
            return self._run(max_trials, again, timeout, synchronous)

    def _run(
        self,
        max_trials: int,
        again: Sequence[Record],
        timeout: float | None = None,
        synchronous: bool | None = None,
    ) -> Best:
        engine = self._engine

        def begin() -> None:
            # What a batch that did not wait has still to make is made too.
            on_the_way = len(engine.active)
            engine.want(max_trials, again, timeout)
            trials = engine.to_make + len(again) + on_the_way
            engine.recorder.run_started(trials)
            engine.made, self._left_to_make, engine.stops_at_failures = [], 0, True
            engine.deadline = None if timeout is None else time.monotonic() + timeout
            engine.dispatch.one_at_a_time(
                bool(self.config.synchronous if synchronous is None else synchronous)
            )

        self._long(begin, lambda: engine.idle)
        self._recorder.call_ended()
        self._writer.flush()
        ran = [engine.records[index] for index in engine.made] + list(again)
        if (error := all_failed(ran)) is not None:
            raise error
        halted = engine.active.halted
        if halted and not any(r.state is TrialState.SUCCEEDED for r in engine.records.values()):
            lost = sum(record.state is TrialState.CANCELLED for record in ran)
            raise OptimizerError(
                f"Everything was cancelled ({halted.value}) before any trial had a result, so "
                f"there are no best parameters; {lost} trials were abandoned."
            )
        best = engine.owner.call(self._optimizer.best)
        if best.why_not_observed:
            log.warning("There is no best trial: %s", best.why_not_observed)
        return best

    @classmethod
    def resume(
        cls,
        run_dir: str | Path,
        *,
        optimizer: Any = None,
        runner: str | object | None = None,
        runner_options: Mapping[str, Any] | None = None,
        config: SchedulerConfig | Mapping[str, Any] | None = None,
        plugins: Sequence[object] = (),
    ) -> AxScheduler:
        """Take a run up again whose driver has ended, in whatever way.

        Results that the last driver wrote down are told to the optimizer, jobs that still run
        (or have ended meanwhile) are found again; `finish` then goes on with the call that was
        interrupted.

        Args:
            run_dir: the run directory.
            optimizer: only where the optimizer is not one of Ax's: an object whose ``load`` reads
                what it saved.
            runner: only where the runner was given as an instance: another for the same backend.
            runner_options: those that are to be other than the first driver's, and secret ones.
            config: settings that are to be other than the first driver's; a `SchedulerConfig`
                replaces them all.
            plugins: observers and wrappers.

        Raises:
            InvalidInput: this is no run directory, or something is missing that was not saved.
            RunLocked: another driver is at it; names it.
            JournalDamaged: says which line, and what can be saved.
        """
        return resume.resume(
            cls,
            Path(run_dir),
            optimizer=optimizer,
            runner=runner,
            runner_options=runner_options,
            config=config,
            plugins=plugins,
        )

    @classmethod
    def from_stored_experiment(
        cls,
        experiment_name: str,
        *,
        db_settings: Any,
        runner: str | object,
        runner_options: Mapping[str, Any] | None = None,
        config: SchedulerConfig | Mapping[str, Any] | None = None,
        plugins: Sequence[object] = (),
    ) -> AxScheduler:
        """Go on with an experiment that is stored in a database.

        Where the run directory of its last run can be seen from here, and the runner is the
        same, this is `resume`: jobs that still run are found again, and `finish` makes what was
        still to be made. Elsewhere the trials that were under way are open, and the next call
        runs them again; the objective is to be set.

        Args:
            experiment_name: its name.
            db_settings: Ax's ``DBSettings`` (or ``StorageConfig``) of the database.
            runner: as for `AxScheduler`.
            runner_options: None: where this is a `resume`, those of the last run.
            config: settings; where this is a `resume`, instead of the last run's.
            plugins: observers and wrappers.

        Raises:
            InvalidInput: the database cannot be used, or holds no such experiment (names the
                nearest); or there are jobs under way that the runner cannot find.
            RunLocked: another driver is at it; names it.

        Example:
            >>> settings = DBSettings(url="sqlite:////home/me/ax.db")
            >>> AxScheduler.from_stored_experiment("e", db_settings=settings, runner="joblib")
        """
        return from_database.from_stored_experiment(
            cls,
            experiment_name,
            db_settings=db_settings,
            runner=runner,
            runner_options=runner_options,
            config=config,
            plugins=plugins,
        )

    def finish(self) -> Best:
        """Go on with the ``run_optimization`` that Ctrl-C or the driver's end has interrupted.

        Takes up the trials that were left open, makes those that it had still to make, and no
        more, and waits for all.

        Returns:
            The best trial, as `run_optimization`.
        """
        with self._call("finish"):
            self._ready()
            return self._run(self._left_to_make, self._interrupted_before())

    def _write_down(self) -> None:
        """Have a journal, and in it a snapshot of the optimizer as the user has left it."""
        if not self._writer.durable:  # as configured, or since its folder was removed
            return
        if not self._writer.opened:
            if self._rundir.make():
                self._recorder.say(f"Outputs: {self._rundir.path}")
            try:
                first = header.header(
                    self._rundir,
                    self._optimizer,
                    self._session.info,
                    self._runner_options,
                    self.config,
                )
                self._recorder.begin(self._rundir.path, first)
            except OSError as error:
                raise InvalidInput(
                    f"The run directory {self._rundir.path} cannot be written: {error}."
                ) from error
            run_dir, tell = self._rundir, self._optimizer.runs_in
            self._engine.owner.call(lambda: tell(run_dir.path, run_dir.run_id))
        self._engine.dispatch.attempts.write_function()
        self._writer.flush()  # who was taken over by another driver writes nothing
        self._saved.write(self._optimizer)
        self._writer.flush()

    def _notice_changes(self, name: str, *, must: bool) -> None:
        """Write down and store what the user has done to the optimizer since the last call."""
        try:
            self._saved.notice(self._optimizer)
        except Exception as error:
            if must:
                raise
            log.error("%s: what has changed since the last call is not written: %s", name, error)

    def _remember_content(self, error: BaseException | None = None) -> None:
        if self._engine.changed_outside:
            self._engine.changed_outside = False
            self._saved.due()
        self._saved.remember(self._optimizer, error)

    def get_next_trial(self) -> int | None:
        """Have the optimizer make one trial; never waits for a job.

        Returns:
            Its index, for `run_trial`; None where nothing can be made now (the optimizer needs
            results first, or is at its end).
        """
        with self._call("get_next_trial"):
            self._optimizer.check()
            signals.go_on()
            self._write_down()
            optimizer, made = self._optimizer, list[Record]()

            def ask() -> str:
                asked = optimizer.ask(1)
                for one in asked.candidates:
                    origin = optimizer.origins([one.index]).get(one.index)
                    made.append(self._engine.record(one.index, one.parameters, origin))
                return asked.reason

            with self._parking(made):
                reason = self._engine.owner.call(ask)
            if not made:
                log.info("Nothing to propose now: %s", reason)
                return None
            self._writer.flush()  # the user may evaluate it by hand, for hours
            return made[0].index

    def run_trial(self, trial_index: int) -> Trial:
        """Submit the job of a trial (from `get_next_trial`, or from the client's own).

        Returns at once, unless the config says ``synchronous=True``; `monitor_trials` and
        `wait_for_completed_trials` move it on.

        Raises:
            InvalidInput: there is no such trial, or it is not open, or is on the way already.
        """
        with self._call("run_trial"):
            self._ready()
            record = self._open_record(trial_index)
            engine = self._engine

            def begin() -> None:
                engine.dispatch.one_at_a_time(bool(self.config.synchronous))
                engine.active.want([record])

            if self.config.synchronous:
                self._long(begin, lambda: record.index not in engine.active)
            else:
                self._perform(begin)
            return record.snapshot()

    def complete_trial(self, trial_index: int, raw_data: Any = None) -> Trial:
        """Give a trial its result.

        Args:
            trial_index: the trial.
            raw_data: as an objective returns it; then a job that still runs is cancelled. None:
                the result of its job, which was told to the optimizer when it came.

        Raises:
            TrialNotFinished: None was given, and its job has no result (yet); says why.
            InvalidInput: there is no such open trial, or the data is not valid.
        """
        with self._call("complete_trial"):
            self._ready(objective=False)
            if raw_data is None:
                if trial_index in self._engine.active:
                    self._perform(lambda: None)
                return self._completed_by_its_job(trial_index)
            record = self._open_record(trial_index, on_the_way=True)
            try:
                found = read_result(
                    JobResult(metrics=raw_data),
                    objectives=self._optimizer.objective_names,
                    required=self._optimizer.required_metrics,
                    limit=self.config.max_result_bytes,
                )
            except InvalidResult as error:
                raise InvalidInput(f"raw_data of trial {trial_index}: {error}.") from error
            self._engine.dispatch.settler.take_notes(record, found)
            outcome = Outcome(record.index, OutcomeKind.COMPLETED, found.metrics)
            self._settle_by_hand(record, outcome, TrialState.SUCCEEDED)
            return record.snapshot()

    def abandon_trial(self, trial_index: int, reason: str = "abandoned by the user") -> Trial:
        """Give a trial up: it will have no result, and is not proposed again."""
        with self._call("abandon_trial"):
            self._ready(objective=False)
            record = self._open_record(trial_index, on_the_way=True)
            outcome = Outcome(record.index, OutcomeKind.ABANDONED, reason=reason)
            self._settle_by_hand(record, outcome, TrialState.CANCELLED)
            return record.snapshot()

    def monitor_trials(self) -> dict[int, Trial]:
        """Take one look and move everything on that can be; does not wait for jobs.

        The backend is asked at most every ``monitoring_interval`` seconds; a runner's push and
        files in the jobs' folders are noticed at every look.
        """
        with self._call("monitor_trials"):
            if self._engine.active or self._engine.to_make:
                self._perform(lambda: None)
            return self._snapshots()

    def wait_for_completed_trials(self) -> dict[int, Trial]:
        """Wait until every trial that is on the way has ended; returns all trials by index."""
        with self._call("wait_for_completed_trials"):
            engine = self._engine

            def begin() -> None:
                trials = len(engine.active) + engine.to_make
                engine.recorder.run_started(trials)

            if not engine.idle:
                self._long(begin, lambda: engine.idle)
            return self._snapshots()

    def cancel(self) -> None:
        """Cancel all jobs that are on the way and abandon their trials, and those that Ctrl-C
        has left open; nothing is left to `finish`.

        May be called from any thread: a call that is on the stack then ends in good order.
        """
        try:
            with self._call("cancel", must_be_written=False):
                engine = self._engine
                self._interrupted_before()
                if engine.perform(
                    lambda: engine.halt(Purpose.ABANDON), lambda: not engine.active.busy
                ):
                    raise self._interrupted()
        except SchedulerBusy:
            self._engine.cancel()

    def _cancel_from_shell(self, trials: Collection[int] | None) -> tuple[list[Trial], list[Trial]]:
        """What ``axsched cancel`` does where no driver lives: nothing is started, and the jobs of
        other trials run on.

        Args:
            trials: their indices; None: all, and nothing is left to `finish`.

        Returns:
            Those that have ended, and those whose jobs could not be stopped: they are as before.
        """
        with self._call("cancel", must_be_written=False):
            self._ready(objective=False)
            engine, dispatch = self._engine, self._engine.dispatch
            self._interrupted_before()
            records = engine.records.values() if trials is None else map(engine.records.get, trials)
            chosen = [r for r in records if r is not None and not r.state.ended]

            def begin() -> None:
                dispatch.start_nothing_more(Purpose.REOPEN)
                dispatch.leave()
                if trials is None:
                    self._left_to_make = 0
                    self._recorder.call_ended()
                dispatch.cancel(chosen, Purpose.FROM_SHELL)

            if engine.perform(begin, lambda: not engine.active.busy):
                raise self._interrupted()
            ended = [r.snapshot() for r in chosen if r.state.ended]
            return ended, [r.snapshot() for r in chosen if not r.state.ended]

    @contextlib.contextmanager
    def batch_trial_context(self, synchronous: bool | None = None) -> Iterator[Batch]:
        """Collect trials, and run them side by side when the context is left.

        Args:
            synchronous: False: leaving returns at once, and `wait_for_completed_trials` waits.
                None: as the config says, if it says so explicitly; else leaving waits.

        A body that raises runs nothing. After an explicit ``batch.run()`` leaving does nothing.

        Example:
            >>> with scheduler.batch_trial_context() as batch:
            ...     batch.add_trial({"x": 0.5, "y": 1.0})
            ...     batch.add_generated(3)
        """
        chosen = self.config.synchronous if synchronous is None else synchronous
        batch = Batch(self, chosen is not False)
        yield batch
        if not batch._indices and (batch._entries or batch._generated):
            batch.run()

    # ---- looking, saving, ending -----------------------------------------------------------

    @property
    def trials(self) -> dict[int, Trial]:
        """The trials that this scheduler has to do with, by index, as they are now."""
        return self._snapshots()

    @property
    def experiment(self) -> Any:
        """The Ax ``Experiment``."""
        return self._optimizer.experiment

    @property
    def client(self) -> Any:
        """The user's own object; after `load_experiment` the one that was loaded."""
        return self._optimizer.native

    @property
    def run_directory(self) -> Path:
        """Where this run's files lie; made when the first trial or job needs it."""
        return self._rundir.path

    def preview(self, parameters: Parameters | None = None) -> str:
        """Say exactly what would be submitted for a trial, without submitting anything.

        Args:
            parameters: the trial's; None: those of the oldest trial without a job, or else
                place holders.
        """
        with self._call("preview", must_be_written=False):
            self._ready(write=False)
            records = self._engine.records.values()
            index, attempt = max(self._engine.records, default=-1) + 1, 1
            if parameters is not None:
                self._optimizer.validate(parameters)
            else:
                parameters = {name: f"<{name}>" for name in self._optimizer.parameter_names}
                for record in records:
                    if record.state is TrialState.CANDIDATE:
                        index, attempt = record.index, record.attempts + 1
                        parameters = record.parameters
                        break
            request = self._engine.dispatch.attempts.request(index, attempt, parameters)
            texts = self._engine.call(lambda: self._session.preview([request]))
            return texts.get(request.key, f"{self._session.info.name}: {request}")

    def save_experiment(self, path: str | Path) -> None:
        """Write the experiment to a file, replacing an old one atomically.

        Ax's own ``load_from_json_file`` reads it, where a client was used.
        """
        with self._call("save_experiment", must_be_written=False):
            self._engine.owner.call(lambda: self._optimizer.save(Path(path)))

    def load_experiment(self, path: str | Path) -> AxScheduler:
        """Go on with an experiment that `save_experiment` has written; returns the scheduler.

        The object that was given at construction is left as it is; see `client`.

        Raises:
            InvalidInput: the file is missing, torn or of another kind; jobs are on the way.
        """
        with self._call("load_experiment", must_be_written=False):
            if not self._engine.idle:
                raise InvalidInput(
                    "load_experiment: jobs are on the way; wait_for_completed_trials() or "
                    "cancel() first."
                )
            loaded = self._engine.owner.call(lambda: self._optimizer.load(Path(path)))
            self._optimizer = self._engine.optimizer = loaded
            self._rundir.name_after(loaded.name)
            self._engine.records.clear()
            self._taken_up = False
            self._saved.another()
            self._left_to_make = 0
        return self

    def _let_go(self) -> None:
        """Give up a scheduler that could not be restored; touch nothing of its run."""
        self._guard.retire()
        self._engine.let_go()

    def close(self) -> None:
        """Cancel what runs (the trials stay open), and let the runner go. May be called twice.

        With the setting ``on_exit="leave"`` the jobs go on, and `resume` finds them again.
        """
        if not self._guard.open:
            return
        with self._guard.alone("close"):
            try:
                self._notice_changes("close", must=False)
            finally:
                self._guard.retire()
                self._engine.shut_down()

    def __enter__(self) -> AxScheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _parking(self, records: list[Record]) -> Iterator[None]:
        """Should this be interrupted, trials that were made by then are for the next run."""
        try:
            yield
            interrupted = signals.presses() > 0
        except (KeyboardInterrupt, OptimizationTerminated):
            interrupted = True
        if interrupted:
            for record in records:
                record.reopened = record.state is TrialState.CANDIDATE
            raise self._interrupted() from None

    # ---- small things ----------------------------------------------------------------------

    @contextlib.contextmanager
    def _call(self, name: str, *, must_be_written: bool = True) -> Iterator[None]:
        """One call: what the user has changed before it is seen, and what it changes is known.

        ``must_be_written``: it is not made where what the user has changed cannot be written.
        """
        with self._guard.alone(name, self._interrupted):
            self._guard.check_open()
            self._notice_changes(name, must=must_be_written)
            try:
                yield
                if self._optimizer.in_database:
                    self._writer.flush()  # the database knows no more than the journal
                    self._engine.owner.call(self._optimizer.store)
            except BaseException as error:
                self._leave(error)
                raise
            self._leave()

    def _leave(self, error: BaseException | None = None) -> None:
        """A call is over; ``error``: what it ended with."""
        if self._engine.active.halted is Purpose.ABANDON:
            self._left_to_make = 0
        self._remember_content(error)

    def _ready(self, *, objective: bool = True, write: bool = True) -> None:
        self._optimizer.check()
        if objective and not self._session.can(Capability.PARAMETERS):
            if self._chosen is None:
                raise InvalidInput(
                    "No objective is set: call set_objective_function(f), "
                    "set_script_objective(path) or set_container_objective(image) first."
                )
            self._chosen.check_complete()
        if objective and write:
            signals.go_on()
        if write:
            self._write_down()
        self._learn_metrics()

    def _learn_metrics(self) -> None:
        """Tell the engine what a result must hold."""
        optimizer = self._optimizer
        self._engine.dispatch.expect(optimizer.objective_names, optimizer.required_metrics)

    def _perform(self, begin: Callable[[], None]) -> None:
        if self._engine.perform(begin):
            raise self._interrupted()

    def _long(self, begin: Callable[[], None], until: Callable[[], bool]) -> None:
        """Wait for trials, with a progress line; turn Ctrl-C into words."""
        try:
            interrupted = self._engine.perform(begin, until)
        except BaseException as error:
            self._left_to_make = self._engine.unmade
            if isinstance(error, FailureRateExceeded):
                self._begin_anew()
            raise
        finally:
            self._engine.notify(self._recorder.run_ended)
        if interrupted:
            self._left_to_make = self._engine.unmade
            raise self._interrupted()

    def _begin_anew(self) -> None:
        """What has ended says nothing about the objective from here on."""
        engine, optimizer = self._engine, self._optimizer
        if failures.begin_anew(
            engine.records.values(),
            self._recorder,
            lambda indices: engine.owner.call(lambda: optimizer.may_return(indices)),
        ):
            engine.changed_outside = True  # the next call makes a snapshot

    def _interrupted(self) -> OptimizationInterrupted | OptimizationTerminated:
        """Save the experiment, and say how to go on after Ctrl-C or a signal, in what is raised."""
        records = self._engine.records.values()
        # One whose result is there, and is only still to be told, has no job any more.
        running = sum(not record.state.ended for record in self._engine.active)
        done = sum(record.state is TrialState.SUCCEEDED for record in records)
        opened = sum(r.reopened and r.state is TrialState.CANDIDATE for r in records)
        words = (
            f"{signals.name() or 'Interrupted'}: {done} trials have results, "
            f"{opened} were stopped and stay open, "
            + (f"{running} have jobs that may run on, " if running else "")
            + f"{self._left_to_make} were not made yet"
        )
        if self._rundir.path.exists():
            path = self._rundir.path / "experiment.json"
            try:
                self._engine.owner.call(lambda: self._optimizer.save(path))
            except OptimizationTerminated:
                log.error("There was no time left to save the experiment to %s.", path)
            except Exception as error:  # noqa: BLE001 - it must not hide that this was interrupted
                log.error("The experiment could not be saved to %s: %s", path, error)
            else:
                words += f"; the experiment is saved in {path}"
        again = f"AxScheduler.resume({str(self._rundir.path)!r}).finish()"
        if signals.name():
            return signals.ending(words + (f". To go on: {again}" if self._writer.opened else "."))
        words += ". To go on: scheduler.finish()"
        if self._writer.opened:
            words += f"; in a new session: {again}"
        return OptimizationInterrupted(words)

    def _interrupted_before(self) -> list[Record]:
        """Trials that Ctrl-C left open, in this session or in the one that was loaded."""
        if not self._taken_up:
            self._taken_up = True
            for index, view in self._engine.owner.call(self._optimizer.trials).items():
                mark = view.metadata.get("axsched")
                if view.open and isinstance(mark, Mapping) and mark.get("interrupted"):
                    self._engine.record(index, view.parameters).reopened = True
        found = [r for r in self._engine.records.values() if r.reopened]
        views = self._engine.owner.call(lambda: self._optimizer.trials([r.index for r in found]))
        return [r for r in found if r.state is TrialState.CANDIDATE and views[r.index].open]

    def _warn_of_small_budget(self, max_trials: int) -> None:
        left = self._engine.owner.call(self._optimizer.initial_trials_left)
        if max_trials <= left:
            log.warning(
                "max_trials=%d leaves the optimizer no model-based trial: its initial phase takes "
                "%d more. Ask for more trials to get more than a space-filling design.",
                max_trials,
                left,
            )

    def _open_record(self, trial_index: int, *, on_the_way: bool = False) -> Record:
        view = self._open_view(trial_index, on_the_way=on_the_way)
        return self._engine.record(trial_index, view.parameters)

    def _open_view(self, trial_index: int, *, on_the_way: bool = False) -> TrialView:
        _whole(trial_index, "trial_index", least=0)
        view = self._engine.owner.call(lambda: self._optimizer.trials([trial_index])).get(
            trial_index
        )
        if view is None:
            raise InvalidInput(f"The experiment has no trial {trial_index}.")
        if not view.open:
            raise InvalidInput(f"Trial {trial_index} is not open: it is {view.status}.")
        record = self._engine.active.get(trial_index)
        if record is not None and not on_the_way:
            raise InvalidInput(f"Trial {trial_index} is on the way already: {record.state.value}.")
        return view

    def _settle_by_hand(self, record: Record, outcome: Outcome, state: TrialState) -> None:
        settler = self._engine.dispatch.settler
        settler.end_by_hand(record, state, outcome.reason, outcome.metrics or None)
        self._writer.flush()
        self._engine.owner.call(lambda: self._optimizer.tell([outcome]))
        if (mark := self._recorder.take_mark(record.index)) is not None:
            marks = {record.index: {"axsched": mark}}
            self._engine.owner.call(lambda: self._optimizer.annotate(marks))
        if record.index in self._engine.active:
            self._perform(lambda: settler.close_trial(record, state, outcome.reason))

    def _completed_by_its_job(self, trial_index: int) -> Trial:
        record = self._engine.records.get(trial_index)
        if record is None:
            raise InvalidInput(
                f"Trial {trial_index} has had no job of this scheduler: run_trial({trial_index}) "
                "first, or give raw_data."
            )
        if record.state is TrialState.SUCCEEDED:
            return record.snapshot()
        if record.state.ended:
            why = f"it is {record.state.value}: {record.message}"
        else:
            why = f"its job is {record.state.value}: wait_for_completed_trials(), or give raw_data"
        raise TrialNotFinished(f"Trial {trial_index} has no result; {why}.")

    def _snapshots(self) -> dict[int, Trial]:
        records = self._engine.records
        return {index: records[index].snapshot() for index in sorted(records)}


_WHERE = {
    Capability.CONTAINER: "To run containers: pip install axsched-docker",
    Capability.FUNCTION: "To run functions: pip install axsched-joblib",
    Capability.SCRIPT: "To run scripts: pip install axsched-joblib",
}


def _runner(runner: str | object, runner_options: Mapping[str, Any] | None) -> object:
    if isinstance(runner, str):
        return load(runner).make_runner(runner_options)
    if runner_options:
        raise InvalidInput(
            "runner_options go with a runner's name; the runner given here is an instance "
            f"({type(runner).__name__}), which takes its options when it is made."
        )
    return runner


def _runners_with(capability: Capability) -> list[str]:
    able = []
    for one in installed():
        with contextlib.suppress(AxschedError):
            if capability in check(one).info.capabilities:
                able.append(one.name)
    return sorted(set(able))


def _whole(value: Any, name: str, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInput(f"{name} must be a whole number of at least {least}, got {value!r}.")
