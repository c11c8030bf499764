"""The loop of Ax's own scheduler, under its names: `Loops` is a part of `AxScheduler`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from axsched_core.result import OptimizationResult
from axsched_core.run import stepping
from axsched_core.run.run import Run
from axsched_core.trials import Trial, TrialState

_TO_OVERRIDE = (
    "report_results",
    "completion_criterion",
    "should_consider_optimization_complete",
    "should_abort_optimization",
)


class Loops:
    """Runs trials in a loop that a subclass can look into after each change.

    Override `report_results`, `completion_criterion`, `should_consider_optimization_complete` or
    `should_abort_optimization`. They run in the thread of the call, while no job starts: let them
    be short.
    """

    _run: Run

    # ---- to override ---------------------------------------------------------------------------

    def report_results(self) -> Any:
        """Called after each change of a trial; may tell another system.

        Returns:
            What `run_trials_and_yield_results` yields then; here an empty dict.
        """
        return {}

    def completion_criterion(self) -> bool:
        """Say whether the optimization has reached its aim, after each change."""
        return False

    def should_consider_optimization_complete(self) -> tuple[bool, str]:
        """Say whether to make no more trials, and why, after each change. Those that run are waited
        for.

        Returns:
            True if `completion_criterion` says so, or there are ``total_trials``.
        """
        if self.completion_criterion():
            return True, "The completion criterion is met."
        total = self._run.config.total_trials
        if total is not None and stepping.made_so_far(self._run) >= total:
            return True, f"All {total} trials (total_trials) have been made."
        return False, ""

    def should_abort_optimization(self) -> tuple[bool, str]:
        """Say whether to end at once, and why, after each change. Jobs that run are cancelled, and
        their trials abandoned."""
        return False, ""

    # ---- the loop ------------------------------------------------------------------------------

    def run_n_trials(
        self, max_trials: int, timeout_hours: float | None = None
    ) -> OptimizationResult:
        """Run up to ``max_trials`` more trials, and wait for them.

        Args:
            max_trials: trials to add; fewer if the setting ``total_trials`` leaves fewer.
            timeout_hours: hours; after that running jobs are cancelled and their trials abandoned.

        Returns:
            How it ended; see `summarize_final_result`.

        Raises:
            AxschedError: like `AxScheduler.run_optimization`.
        """
        if any(getattr(type(self), name) is not getattr(Loops, name) for name in _TO_OVERRIDE):
            for _ in self.run_trials_and_yield_results(max_trials, timeout_hours):
                pass
        else:
            stepping.all_at_once(self._run, max_trials, timeout_hours)
        return self.summarize_final_result()

    def run_all_trials(self, timeout_hours: float | None = None) -> OptimizationResult:
        """Run trials until the experiment has ``total_trials`` (a setting), or is complete.

        Args:
            timeout_hours: as for `run_n_trials`.

        Raises:
            InvalidInput: the setting ``total_trials`` is not set.
            AxschedError: like `AxScheduler.run_optimization`.
        """
        return self.run_n_trials(stepping.all_of(self._run), timeout_hours)

    def run_trials_and_yield_results(
        self, max_trials: int, timeout_hours: float | None = None
    ) -> Iterator[Any]:
        """The same as a generator: it yields what `report_results` returns, after each change.

        While your code handles what was yielded, jobs run on, and no job starts. If you leave the
        loop early, nothing is cancelled: `monitor_trials`, `wait_for_completed_trials` or `cancel`
        take up what runs, and a further call first runs what is left.

        Args:
            max_trials: as for `run_n_trials`.
            timeout_hours: as for `run_n_trials`; the time of your own code counts.

        Raises:
            AxschedError: like `AxScheduler.run_optimization`.

        Example:
            >>> for report in scheduler.run_trials_and_yield_results(20):
            ...     print(report)
        """
        steps = stepping.Steps(self._run, max_trials, timeout_hours)
        try:
            while steps.next():
                yield self.report_results()
                abort, why = _verdict(self.should_abort_optimization())
                if abort:
                    steps.abort(why)
                    continue
                complete, why = _verdict(self.should_consider_optimization_complete())
                if complete:
                    steps.make_no_more(why)
            steps.check()
        finally:
            steps.close()

    def stop_trial_runs(
        self, trials: Iterable[int | Trial], reasons: Iterable[str] | None = None
    ) -> None:
        """End the jobs of these trials.

        A trial that has reported intermediate results becomes EARLY_STOPPED, with them as its
        data. Another one is abandoned.

        Args:
            trials: their indices, or the trials.
            reasons: why, one for each trial; None: "stopped by the user".

        Raises:
            InvalidInput: a trial does not exist, or is not in progress; nothing was stopped.
        """
        indices = [one.index if isinstance(one, Trial) else one for one in trials]
        words = None if reasons is None else list(reasons)
        stepping.stop(self._run, indices, words)

    def poll_available_capacity(self) -> int:
        """Ask the runner how many more jobs could start now."""
        return stepping.capacity(self._run)

    # ---- what is there -------------------------------------------------------------------------

    @property
    def running_trials(self) -> list[Trial]:
        """The trials with a job that runs, as far as is known."""
        return self._in_states(TrialState.RUNNING)

    @property
    def pending_trials(self) -> list[Trial]:
        """The trials with a job that waits or runs."""
        return self._in_states(TrialState.QUEUED, TrialState.RUNNING)

    @property
    def trials_expecting_data(self) -> list[Trial]:
        """The trials that have data, or may still get some."""
        return self._in_states(TrialState.RUNNING, TrialState.SUCCEEDED, TrialState.EARLY_STOPPED)

    @property
    def has_trials_in_flight(self) -> bool:
        """True if there are `pending_trials`."""
        return bool(self.pending_trials)

    def _in_states(self, *states: TrialState) -> list[Trial]:
        return [trial for trial in self._run.trials().values() if trial.state in states]

    def summarize_final_result(self) -> OptimizationResult:
        """Say what the loops of this scheduler have brought so far."""
        return stepping.summary(self._run)


def _verdict(given: Any) -> tuple[bool, str]:
    """What an overridden method has returned; Ax's own return a bare bool in part."""
    if isinstance(given, tuple):
        stop, why = given
        return bool(stop), str(why)
    return bool(given), ""
