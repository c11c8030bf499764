"""What is wrong for every job alike is one error, and no trial pays for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from axsched_core import AxScheduler, hookimpl
from axsched_core.errors import InvalidInput, RunnerError, WrongConfiguration
from axsched_core.jobs import Cause, JobState, JobStatus, SubmitError
from axsched_core.trials import TrialState
from support.journal_agreement import journalled
from support.resuming import died, resume
from support.toy import ToyOptimizer, ToyRunner

Make = Callable[..., AxScheduler]
WORDS = "invalid partition specified: nosuch"
GOOD = {"loss": 1.0}


class Misconfigured(ToyRunner):
    """Refuses everything, at once or when the jobs should start."""

    def __init__(self, *, later: bool = False) -> None:
        super().__init__(lambda request: GOOD)
        self.later, self.wrong, self.asked = later, True, 0
        self.on_submit = self.refuse
        if later:
            failed = JobStatus(JobState.FAILED, Cause.CONFIGURATION, WORDS)
            self.finish = lambda request: failed if self.wrong else GOOD

    def refuse(self, request):
        self.asked += 1
        return SubmitError(WORDS, every_job=True) if self.wrong and not self.later else None


@pytest.mark.parametrize("later", [False, True])
def test_the_run_ends_at_once_and_finish_runs_its_trials(make: Make, tmp_path: Path, later: bool):
    optimizer, runner = ToyOptimizer(), Misconfigured(later=later)
    scheduler = make(optimizer, runner, max_parallelism=3)
    with pytest.raises(WrongConfiguration, match=WORDS) as caught:
        scheduler.run_optimization(max_trials=20)
    assert "AxScheduler.resume(" in str(caught.value)
    assert runner.asked == 3
    trials = scheduler.trials.values()
    assert {trial.state for trial in trials} == {TrialState.CANDIDATE}
    assert {row["status"] for row in optimizer.rows.values()} == {"RUNNING"}
    assert max(trial.attempts for trial in trials) == (1 if later else 0)
    journalled(scheduler.run_directory)
    copy = died(scheduler, tmp_path)
    other = Misconfigured(later=later)
    with resume(copy, other, runner=other) as again:
        with pytest.raises(WrongConfiguration):
            again.finish()
        other.wrong = False
        again.finish()
        assert again.client.count("COMPLETED") == len(again.client.rows) == 20
    runner.wrong = False
    scheduler.finish()
    assert optimizer.count("COMPLETED") == len(optimizer.rows) == 20


def test_jobs_that_run_may_end(make: Make):
    optimizer, runner = ToyOptimizer(), Misconfigured()
    runner.wrong = False
    runner.finish = lambda request: None if request.trial_index == 0 else GOOD
    scheduler = make(optimizer, runner)
    scheduler.run_trial(scheduler.get_next_trial())
    runner.wrong = True
    index = scheduler.get_next_trial()
    with pytest.raises(WrongConfiguration):
        scheduler.run_trial(index)
    assert scheduler.trials[index].state is TrialState.CANDIDATE
    runner.end(runner.key_of(0), GOOD)
    assert scheduler.wait_for_completed_trials()[0].state is TrialState.SUCCEEDED
    runner.wrong = False
    scheduler.run_trial(index)
    scheduler.wait_for_completed_trials()
    assert optimizer.count("COMPLETED") == 2


def test_a_job_that_asks_for_more_than_the_others_fails_alone(make: Make):
    too_large = SubmitError("Requested node configuration is not available", every_job=True)
    runner = ToyRunner()
    runner.on_submit = lambda request: too_large if request.attempt == 2 else None
    late = JobStatus(JobState.FAILED, Cause.TIME_LIMIT)
    runner.finish = lambda request: late if request.trial_index == 0 else GOOD
    scheduler = make(runner=runner, retry={"attempts": {"TIME_LIMIT": 2}, "pause": 1e-6})
    scheduler.run_optimization(max_trials=3)
    causes = [trial.cause for trial in scheduler.trials.values()]
    assert causes == [Cause.SUBMIT_REFUSED, None, None]


def test_a_refusal_is_not_for_now_and_for_every_job():
    with pytest.raises(ValueError, match="'transient' cannot be one of 'every_job'"):
        SubmitError("full", transient=True, every_job=True)


# ---- before anything runs ------------------------------------------------------------------------


def test_a_runner_may_refuse_an_objective_when_it_is_set(make: Make):
    class Choosy(ToyRunner):
        @hookimpl
        def axsched_check_objective(self, objective):
            if objective.image == "typo":
                raise InvalidInput("there is no option 'memroy'; did you mean 'memory'?")
            if objective.image == "bug":
                raise KeyError("image")

    scheduler = make(runner=Choosy(capabilities=("container",)))
    with pytest.raises(InvalidInput, match="did you mean 'memory'"):
        scheduler.set_container_objective("typo")
    with pytest.raises(RunnerError, match="'toy': axsched_check_objective failed: KeyError"):
        scheduler.set_container_objective("bug")
    scheduler.set_container_objective("good")
    assert not scheduler.run_directory.exists()
