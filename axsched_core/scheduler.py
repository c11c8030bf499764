"""`AxScheduler`: the face of the package. Its methods say what they do, and hand on to `run/`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from axsched_core.batch import Batch
from axsched_core.best import Best
from axsched_core.config import SchedulerConfig
from axsched_core.errors import InvalidInput
from axsched_core.jobs import Parameters
from axsched_core.run import by_hand, driving, from_database, objective, resume
from axsched_core.run.run import Run
from axsched_core.trials import Trial


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
    ) -> None:
        self._run = Run(
            optimizer,
            runner,
            config,
            runner_options,
            generation_strategy=generation_strategy,
            plugins=plugins,
            db_settings=db_settings,
        )

    @classmethod
    def _of(cls, run: Run) -> AxScheduler:
        """The scheduler of a run that goes on."""
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
        objective.set_function(self._run, chosen, resources)

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
            UnsupportedObjective: the runner runs no containers; names those that do.
        """
        objective.set_container(self._run, container_image, container_command, container_options)

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
        run = resume.resume(
            Path(run_dir),
            optimizer=optimizer,
            runner=runner,
            runner_options=runner_options,
            config=config,
            plugins=plugins,
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
        """Go on with the ``run_optimization`` that Ctrl-C or the driver's end has interrupted.

        Takes up the trials that were left open, makes those that it had still to make, and no
        more, and waits for all.

        Returns:
            The best trial, as `run_optimization`.
        """
        return driving.finish(self._run)

    def get_next_trial(self) -> int | None:
        """Have the optimizer make one trial; never waits for a job.

        Returns:
            Its index, for `run_trial`; None where nothing can be made now (the optimizer needs
            results first, or is at its end).
        """
        return by_hand.next_trial(self._run)

    def run_trial(self, trial_index: int) -> Trial:
        """Submit the job of a trial (from `get_next_trial`, or from the client's own).

        Returns at once, unless the config says ``synchronous=True``; `monitor_trials` and
        `wait_for_completed_trials` move it on.

        Raises:
            InvalidInput: there is no such trial, or it is not open, or is on the way already.
        """
        return driving.run_trial(self._run, trial_index)

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
        return by_hand.complete(self._run, trial_index, raw_data)

    def abandon_trial(self, trial_index: int, reason: str = "abandoned by the user") -> Trial:
        """Give a trial up: it will have no result, and is not proposed again."""
        return by_hand.abandon(self._run, trial_index, reason)

    def monitor_trials(self) -> dict[int, Trial]:
        """Take one look and move everything on that can be; does not wait for jobs.

        The backend is asked at most every ``monitoring_interval`` seconds; a runner's push and
        files in the jobs' folders are noticed at every look.
        """
        return driving.look(self._run)

    def wait_for_completed_trials(self) -> dict[int, Trial]:
        """Wait until every trial that is on the way has ended; returns all trials by index."""
        return driving.wait_for_all(self._run)

    def cancel(self) -> None:
        """Cancel all jobs that are on the way and abandon their trials, and those that Ctrl-C
        has left open; nothing is left to `finish`.

        May be called from any thread: a call that is on the stack then ends in good order.
        """
        driving.cancel(self._run)

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
        """The trials that this scheduler has to do with, by index, as they are now."""
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
        """Where this run's files lie; made when the first trial or job needs it."""
        return self._run.rundir.path

    def preview(self, parameters: Parameters | None = None) -> str:
        """Say exactly what would be submitted for a trial, without submitting anything.

        Args:
            parameters: the trial's; None: those of the oldest trial without a job, or else
                place holders.
        """
        return self._run.preview(parameters)

    def save_experiment(self, path: str | Path) -> None:
        """Write the experiment to a file, replacing an old one atomically.

        Ax's own ``load_from_json_file`` reads it, where a client was used.
        """
        self._run.save(Path(path))

    def load_experiment(self, path: str | Path) -> AxScheduler:
        """Go on with an experiment that `save_experiment` has written; returns the scheduler.

        The object that was given at construction is left as it is; see `client`.

        Raises:
            InvalidInput: the file is missing, torn or of another kind; jobs are on the way.
        """
        self._run.load(Path(path))
        return self

    def close(self) -> None:
        """Cancel what runs (the trials stay open), and let the runner go. May be called twice.

        With the setting ``on_exit="leave"`` the jobs go on, and `resume` finds them again.
        """
        self._run.close()

    def __enter__(self) -> AxScheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
