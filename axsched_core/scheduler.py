"""`AxScheduler`: the public class of the package. The work is done in `run/`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from axsched_core import options
from axsched_core.batch import Batch
from axsched_core.best import Best
from axsched_core.config import SchedulerConfig
from axsched_core.errors import InvalidInput
from axsched_core.jobs import Parameters
from axsched_core.looks import Looks
from axsched_core.loops import Loops
from axsched_core.past_data import PastData
from axsched_core.run import by_hand, driving, from_database, objective, resume
from axsched_core.run.run import Run
from axsched_core.trials import Trial


class AxScheduler(Loops, Looks, PastData):
    """Runs the trials of an Ax optimization on the machines behind a runner.

    Args:
        optimizer: an ``ax.Client``, an ``AxClient`` or an Ax ``Experiment``. It is not copied:
            afterwards it holds everything. None: `load_experiment` will load one.
        runner: the name of an installed runner (``"joblib"``), or an instance of one.
        config: a `SchedulerConfig`, or a mapping with its keys.
        runner_options: options of a runner given by name; see its documentation.
        generation_strategy: ``"fast"`` (Sobol points, then Bayesian optimization), ``"quality"``
            (the same with a slower, better model), ``"sobol"`` or ``"random"`` (quasi-random points
            to the end); or, for an ``Experiment``, an Ax ``GenerationStrategy``. None: the client's
            own, or Ax chooses one for the search space.
        plugins: observers, and wrappers of the runner's hooks.
        db_settings: Ax's ``DBSettings`` (or ``StorageConfig``) of the database in which the
            experiment is stored; a client with its own database is stored there.
        early_stopping_strategy: ends jobs whose intermediate results promise nothing: one of
            Ax's, or an object with its ``should_stop_trials_early``. None: the client's own.
        global_stopping_strategy: ends the optimization when it no longer improves: one of
            Ax's, or an object with its ``should_stop_optimization``. None: the client's own.

    Raises:
        InvalidInput: a setting is unknown or wrong, or the database cannot be used.
        RunnerError: the runner cannot be found, loaded or used.

    Results from before this run come in with the methods of `PastData`, which are also methods of
    this class.

    One call at a time: a method that is called while another one runs (from a second thread, from
    an observer) raises `SchedulerBusy`. Only `cancel` may be called at any time.

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
        early_stopping_strategy: Any = None,
        global_stopping_strategy: Any = None,
    ) -> None:
        self._run = Run(
            optimizer,
            runner,
            config,
            runner_options,
            generation_strategy=generation_strategy,
            plugins=plugins,
            db_settings=db_settings,
            stopping=(early_stopping_strategy, global_stopping_strategy),
        )

    @classmethod
    def _of(cls, run: Run) -> AxScheduler:
        """The scheduler of a run that exists already."""
        scheduler = cls.__new__(cls)
        scheduler._run = run
        return scheduler

    # ---- what is evaluated -----------------------------------------------------------------

    def set_objective_function(
        self,
        objective_fn: Callable[..., Any] | None = None,
        *,
        function: Callable[..., Any] | None = None,
        resources: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Evaluate trials with a Python function.

        Args:
            objective_fn: called as ``f(parameters)`` with a dict, or as ``f(x=..., y=...)``
                if its arguments are named after the search space's parameters. Returns
                metric -> value, or a bare number if there is one objective; a value is a
                number, ``(mean, sem)`` or ``{"mean": ..., "sem": ...}``. Under ``notes`` it may
                return any JSON value of up to 10,000 bytes.
            function: another name for ``objective_fn``.
            resources: what each job needs, if the runner supports it: ``cpus``, ``memory``
                (bytes, "4G"), ``gpus``; see `axsched_core.config.Needs`.
            timeout: seconds that one evaluation may take, if that is less than the setting
                ``max_trial_monitoring_time``; then its trial fails with TIME_LIMIT.

        Raises:
            InvalidInput: it is not a function, cannot be pickled, or its arguments do not fit.
            UnsupportedObjective: the runner cannot run functions.
        """
        if (objective_fn is None) == (function is None):
            raise InvalidInput("set_objective_function takes one function.")
        chosen = objective_fn if objective_fn is not None else function
        assert chosen is not None
        objective.set_function(self._run, chosen, resources, timeout)

    def set_script_objective(
        self, script_path: str | Path, script_options: Mapping[str, Any] | None = None
    ) -> None:
        """Evaluate trials with a script: Python, shell, or any executable.

        It finds its parameters in the JSON file that ``$AXSCHED_PARAMS_FILE`` names and writes
        its metrics, as JSON, to the file that ``$AXSCHED_RESULT_FILE`` names. A ``result.json`` in
        a given ``working_dir`` is not read: other jobs may write there too.

        Args:
            script_path: the script.
            script_options: see `axsched_core.config.ScriptOptions`: ``interpreter``,
                ``args``, ``timeout`` (s), ``env``, ``working_dir``, ``cpus``, ``memory``,
                ``gpus``.

        Raises:
            InvalidInput: the script is missing or cannot be run, or an option is wrong.
            UnsupportedObjective: the runner cannot run scripts.
        """
        objective.set_script(self._run, script_path, script_options)

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
            UnsupportedObjective: the runner cannot run containers; the message names runners that
                can.
        """
        objective.set_container(self._run, container_image, container_command, container_options)

    # ---- running ---------------------------------------------------------------------------

    def run_optimization(
        self,
        max_trials: int = 10,
        timeout: float | None = None,
        synchronous: bool | None = None,
    ) -> Best:
        """Ask the optimizer for ``max_trials`` more trials, run them, and wait for them.

        Args:
            max_trials: trials to add; trials that were added by hand do not count. Trials that an
                earlier Ctrl-C left open do not count either; they run first.
            timeout: seconds; after that no job starts, and running jobs are cancelled and their
                trials abandoned.
            synchronous: True: one trial at a time; None: the config decides.

        Returns:
            The best trial as it was observed, and as Ax's own model sees it; with several
            objectives the Pareto set. If there is none, a text that says why.

        Raises:
            AllTrialsFailed: no trial of this run has a result; the message gives the first causes.
            FailureRateExceeded: so many have failed that the rest was not started; the message
                gives the causes, and how to continue.
            OptimizationStuck: the optimizer waits for trials that are not running.
            OptimizationInterrupted: Ctrl-C; the message says how to continue.
            OptimizationTerminated: SIGTERM or SIGHUP; it ends the program.
            OptimizerError, RunnerError: the optimizer or the runner is broken or used wrongly.
        """
        return driving.run_optimization(self._run, max_trials, timeout, synchronous)

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
        early_stopping_strategy: Any = None,
        global_stopping_strategy: Any = None,
    ) -> AxScheduler:
        """Continue a run after its driver has ended for any reason.

        The optimizer gets the results that the last driver wrote down. Jobs that still run, or have
        ended since, are found again. `finish` then continues the interrupted call.

        Args:
            run_dir: the run directory.
            optimizer: only if the optimizer is not one of Ax's: an object with a ``load`` that
                reads what it saved.
            runner: only if the runner was given as an instance: a new one for the same backend.
            runner_options: those that differ from the first driver's, and secret ones.
            config: settings that differ from the first driver's; a `SchedulerConfig`
                replaces them all.
            plugins: observers and wrappers.
            early_stopping_strategy: only if it is a class of your own, which Ax cannot write down.
            global_stopping_strategy: likewise.

        Raises:
            InvalidInput: this is not a run directory, or something that was not saved is missing.
            RunLocked: another driver uses the run directory; the message names it.
            JournalDamaged: the message says which line is damaged, and what can be saved.
        """
        run = resume.resume(
            options.path(run_dir, "run_dir"),
            optimizer=optimizer,
            runner=runner,
            runner_options=runner_options,
            config=config,
            plugins=plugins,
            stopping=(early_stopping_strategy, global_stopping_strategy),
        )
        return cls._of(run)

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
        """Continue an experiment that is stored in a database.

        If the run directory of its last run is visible from here, and the runner is the same, this
        is `resume`: jobs that still run are found again, and `finish` makes the remaining trials.
        Otherwise the trials that were in progress are open, and the next call runs them again; set
        the objective first.

        Args:
            experiment_name: its name.
            db_settings: Ax's ``DBSettings`` (or ``StorageConfig``) of the database.
            runner: as for `AxScheduler`.
            runner_options: None: if this is a `resume`, those of the last run.
            config: settings; if this is a `resume`, they replace the last run's.
            plugins: observers and wrappers.

        Raises:
            InvalidInput: the database cannot be used, or does not hold this experiment (the message
                names the nearest); or there are jobs in progress that the runner cannot find.
            RunLocked: another driver uses the run directory; the message names it.

        Example:
            >>> settings = DBSettings(url="sqlite:////home/me/ax.db")
            >>> AxScheduler.from_stored_experiment("e", db_settings=settings, runner="joblib")
        """
        run = from_database.from_stored(
            experiment_name,
            db_settings=db_settings,
            runner=runner,
            runner_options=runner_options,
            config=config,
            plugins=plugins,
        )
        return cls._of(run)

    def finish(self) -> Best:
        """Continue the ``run_optimization`` that Ctrl-C or the driver's end has interrupted.

        Runs the trials that were left open, makes only the trials that were still missing, and
        waits for all.

        Returns:
            The best trial, like `run_optimization`.
        """
        return driving.finish(self._run)

    def get_next_trial(self) -> int | None:
        """Ask the optimizer for one trial; never waits for a job.

        Returns:
            Its index, for `run_trial`; None if there is no trial now (the optimizer needs results
            first, or is finished).
        """
        return by_hand.next_trial(self._run)

    def run_trial(self, trial_index: int) -> Trial:
        """Submit the job of a trial (from `get_next_trial` of this scheduler or of the client).

        Returns at once, unless the config says ``synchronous=True``; `monitor_trials` and
        `wait_for_completed_trials` process it further.

        Raises:
            InvalidInput: the trial does not exist, is not open, or is in progress already.
        """
        return driving.run_trial(self._run, trial_index)

    def complete_trial(self, trial_index: int, raw_data: Any = None) -> Trial:
        """Give a trial its result.

        Args:
            trial_index: the trial.
            raw_data: in the form that an objective returns; a job that still runs is cancelled.
                None: the result of its job, which the optimizer got when it came.

        Raises:
            TrialNotFinished: None was given, and its job has no result (yet); the message says why.
            InvalidInput: the trial does not exist or is not open, or the data is not valid.
        """
        return by_hand.complete(self._run, trial_index, raw_data)

    def abandon_trial(self, trial_index: int, reason: str = "abandoned by the user") -> Trial:
        """Give up a trial: it gets no result, and is not proposed again."""
        return by_hand.abandon(self._run, trial_index, reason)

    def monitor_trials(self) -> dict[int, Trial]:
        """Check all jobs once and process what has changed; does not wait for jobs.

        The backend is asked at most every ``monitoring_interval`` seconds; a runner's push and
        files in the jobs' folders are noticed at every call.
        """
        return driving.look(self._run)

    def wait_for_completed_trials(self) -> dict[int, Trial]:
        """Wait until every trial in progress has ended; returns all trials by index."""
        return driving.wait_for_all(self._run)

    def cancel(self) -> None:
        """Cancel all jobs in progress. Abandon their trials, and those that Ctrl-C has left open;
        nothing is left to `finish`.

        May be called from any thread: a call that runs at that moment then ends cleanly.
        """
        driving.cancel(self._run)

    @contextlib.contextmanager
    def batch_trial_context(self, synchronous: bool | None = None) -> Iterator[Batch]:
        """Collect trials, and run them in parallel when the context ends.

        Args:
            synchronous: False: the end of the context does not wait; `wait_for_completed_trials`
                does. None: the config's value, if it is set explicitly; otherwise True.

        If the body raises, nothing runs. After an explicit ``batch.run()`` the end of the context
        does nothing.

        Example:
            >>> with scheduler.batch_trial_context() as batch:
            ...     batch.add_trial({"x": 0.5, "y": 1.0})
            ...     batch.add_generated(3)
        """
        chosen = self.config.synchronous if synchronous is None else synchronous
        batch = Batch(self._run, chosen is not False)
        yield batch
        if not batch.empty:
            batch.run()

    # ---- looking, saving, ending -----------------------------------------------------------

    @property
    def config(self) -> SchedulerConfig:
        """The settings."""
        return self._run.config

    @property
    def trials(self) -> dict[int, Trial]:
        """The trials that this scheduler knows, by index, as they are now."""
        return self._run.trials()

    @property
    def experiment(self) -> Any:
        """The Ax ``Experiment``."""
        return self._run.optimizer.experiment

    @property
    def client(self) -> Any:
        """The user's own object; after `load_experiment` the one that was loaded."""
        return self._run.optimizer.native

    @property
    def run_directory(self) -> Path:
        """The folder of this run's files; made when the first trial or job needs it."""
        return self._run.rundir.path

    def preview(self, parameters: Parameters | None = None) -> str:
        """Say exactly what would be submitted for a trial, without submitting anything.

        Args:
            parameters: the trial's; None: those of the oldest trial without a job, or placeholders
                if there is none.
        """
        return self._run.preview(parameters)

    def save_experiment(self, path: str | Path) -> None:
        """Write the experiment to a file, replacing an old one atomically.

        If a client was used, Ax's own ``load_from_json_file`` can read it.
        """
        self._run.save(options.path(path, "save_experiment: path"))

    def load_experiment(self, path: str | Path) -> AxScheduler:
        """Continue an experiment that `save_experiment` has written; returns the scheduler.

        The object that was given at construction does not change; see `client`.

        Raises:
            InvalidInput: the file is missing, incomplete or of another kind, or jobs are in
                progress.
        """
        self._run.load(options.path(path, "load_experiment: path"))
        return self

    def close(self) -> None:
        """Cancel running jobs (their trials stay open), and close the runner. May be called twice.

        With the setting ``on_exit="leave"`` the jobs keep running, and `resume` finds them again.
        """
        self._run.close()

    def __enter__(self) -> AxScheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
