"""Which ended job is tried again, as a table, as a law, and as seen by a user."""

from __future__ import annotations

import io
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as some
from rich.console import Console

from axsched_core import RetryPolicy, TrialState, hookimpl
from axsched_core.config import _NEVER
from axsched_core.errors import InvalidInput, OptimizationInterrupted, OptimizerError
from axsched_core.events import JobWaiting
from axsched_core.jobs import (
    FAULTS_OF_THE_MACHINES,
    Cause,
    JobState,
    JobStatus,
    Resources,
    SubmitError,
)
from axsched_core.journal.view import Run
from axsched_core.observers.progress import Progress
from axsched_core.run.retry import Again, Ended, Stop, at_least, patience, verdict
from support.ctrl_c import press_ctrl_c
from support.journal_agreement import journalled
from support.resuming import died, resume
from support.toy import ToyOptimizer, ToyRunner
from support.waiting import wait_until

GB = 1 << 30


def after(*causes, policy=None, resizable=True, **resources):
    ended = [Ended(Cause(cause), Resources(**resources)) for cause in causes]
    return verdict(RetryPolicy(**(policy or {})), ended, resizable=resizable)


# ---- the verdict -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("causes", "policy", "again"),
    [
        (["LOST"], {}, True),
        (["LOST", "LOST"], {}, True),
        (["LOST"] * 3, {}, False),
        (["LOST", "NODE_FAIL", "PREEMPTED"], {}, False),
        (["EXCEPTION"], {}, False),
        (["EXIT_CODE"], {}, False),
        (["OUT_OF_MEMORY"], {}, False),
        (["RESULT_INVALID"], {}, False),
        (["EXIT_CODE"], {"attempts": {"EXIT_CODE": 2}}, True),
        (["EXIT_CODE"] * 2, {"attempts": {"EXIT_CODE": 2}}, False),
        (["EXIT_CODE", "LOST", "LOST"], {"attempts": {"EXIT_CODE": 2}}, True),
        (["PREEMPTED"] * 5 + ["LOST"], {"attempts": {"PREEMPTED": 9}}, True),
        (["PREEMPTED"] * 5 + ["LOST"] * 3, {"attempts": {"PREEMPTED": 9}}, False),
        (["LOST"], {"attempts": {"LOST": 1}}, False),
        (["NODE_FAIL"], {"attempts": {"LOST": 1}}, True),
    ],
)
def test_who_is_tried_again(causes, policy, again):
    assert isinstance(after(*causes, policy=policy), Again if again else Stop)


def test_a_failure_without_a_cause_is_final():
    assert verdict(RetryPolicy(), [Ended(None)], resizable=True) == Stop()


MEMORY = {"attempts": {"OUT_OF_MEMORY": 5}}
TIME = {"attempts": {"TIME_LIMIT": 5}}


@pytest.mark.parametrize(
    ("policy", "had", "gets"),
    [
        (MEMORY, 2 * GB, 4 * GB),
        ({**MEMORY, "memory_factor": 1.5}, 2 * GB, 3 * GB),
        ({**MEMORY, "max_memory": "3G"}, 2 * GB, 3 * GB),
        ({**MEMORY, "max_memory": "64G"}, 2 * GB, 4 * GB),
        ({**MEMORY, "memory_factor": 1}, 2 * GB, 2 * GB),
        ({**MEMORY, "memory_factor": 1}, None, None),
    ],
)
def test_who_ran_out_of_memory_gets_more(policy, had, gets):
    found = after("OUT_OF_MEMORY", policy=policy, memory_bytes=had, cpus=2, time_limit=60)
    assert found == Again(1.0, Resources(cpus=2, memory_bytes=gets, time_limit=60))


@pytest.mark.parametrize(
    ("policy", "had", "resizable", "why"),
    [
        ({**MEMORY, "max_memory": "2G"}, 2 * GB, True, "it had max_memory"),
        (MEMORY, None, True, "the objective names no memory that could grow"),
        (MEMORY, GB, False, "this runner cannot give a job more memory"),
    ],
)
def test_who_cannot_get_more_memory_is_not_tried_again(policy, had, resizable, why):
    found = after("OUT_OF_MEMORY", policy=policy, memory_bytes=had, resizable=resizable)
    assert found == Stop(why)


@pytest.mark.parametrize("resizable", [True, False])
def test_who_ran_out_of_time_gets_more_from_any_runner(resizable):
    found = after("TIME_LIMIT", policy=TIME, time_limit=60.0, resizable=resizable)
    assert found == Again(1.0, Resources(time_limit=120.0))
    found = after("TIME_LIMIT", policy={**TIME, "max_time": 90}, time_limit=60.0)
    assert found == Again(1.0, Resources(time_limit=90))
    found = after("TIME_LIMIT", policy={**TIME, "max_time": 60}, time_limit=60.0)
    assert found == Stop("it had max_time")


def test_pauses_double_up_to_a_minute():
    policy = RetryPolicy(attempts={"LOST": 99})
    pauses = [verdict(policy, [Ended(Cause.LOST)] * n, resizable=True).pause for n in range(1, 9)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [patience(policy, n, 0.0) for n in (1, 2, 7, 5000)] == [1, 2, 60, 60]
    assert patience(policy, 3, 0.0, jitter=0.0) == 2


def test_a_refusal_is_waited_out_until_the_time_is_up_and_asked_once_more():
    policy = RetryPolicy(max_refusal_time=100)
    assert patience(policy, 9, 90.0) == 10
    assert patience(policy, 10, 100.0) is None


causes = some.sampled_from(sorted(set(Cause) - _NEVER))
policies = some.builds(
    RetryPolicy,
    attempts=some.dictionaries(causes, some.integers(1, 6)),
    pause=some.floats(0.001, 1e6),
    max_pause=some.floats(0.001, 1e6),
    memory_factor=some.floats(1, 1e3),
    max_memory=some.none() | some.integers(1, 1 << 50),
    time_factor=some.floats(1, 1e3),
    max_time=some.none() | some.floats(0.1, 1e9),
)


@given(
    policy=policies,
    ends=some.lists(causes, min_size=1, max_size=60),
    first=some.builds(
        Resources,
        memory_bytes=some.none() | some.integers(1, 1 << 45),
        time_limit=some.none() | some.floats(0.1, 1e8),
    ),
    resizable=some.booleans(),
    jitter=some.floats(0, 1),
)
def test_never_more_attempts_than_allowed_never_less_resources(
    policy, ends, first, resizable, jitter
):
    ended, resources = [], first
    for cause in ends:
        ended.append(Ended(cause, resources))
        found = verdict(policy, ended, resizable=resizable, jitter=jitter)
        if isinstance(found, Stop):
            break
        assert 0 < found.pause <= policy.max_pause
        assert found.pause >= min(policy.pause, policy.max_pause) / 2
        assert at_least(found.resources, resources) == found.resources
        if policy.max_memory is not None and found.resources.memory_bytes != first.memory_bytes:
            assert found.resources.memory_bytes <= policy.max_memory
        if policy.max_time is not None and found.resources.time_limit != first.time_limit:
            assert found.resources.time_limit <= policy.max_time
        resources = found.resources
    found_causes = [one.cause for one in ended]
    for cause in set(found_causes):
        assert found_causes.count(cause) <= policy.attempts.get(cause, 1)
    machines = [cause for cause in found_causes if cause in FAULTS_OF_THE_MACHINES]
    assert len(machines) <= max(policy.attempts[cause] for cause in FAULTS_OF_THE_MACHINES)


@given(policy=policies, refusals=some.integers(1, 10_000), jitter=some.floats(0, 1))
def test_a_wait_is_never_longer_than_the_longest_pause(policy, refusals, jitter):
    assert 0 < patience(policy, refusals, 0.0, jitter) <= policy.max_pause


# ---- the setting -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"atempts": {}}, "'retry': unknown key 'atempts'. Did you mean 'attempts'?"),
        ({"attempts": {"OOM": 2}}, "'attempts': 'OOM' is no cause after which"),
        ({"attempts": {"OUT_OF_MEMROY": 2}}, "Did you mean 'OUT_OF_MEMORY'?"),
        ({"attempts": {"CANCELLED": 2}}, "'attempts': 'CANCELLED' is no cause after which"),
        ({"attempts": {"LOST": 0}}, "LOST must be a whole number from 1, not 0"),
        ({"attempts": 3}, "'attempts' must be a mapping from cause to number, not 3"),
        ({"max_memory": "much"}, "'much' is not a size"),
        ({"memory_factor": 0.5}, "'memory_factor' must be >= 1: 0.5"),
        ({"pause": "1"}, "'pause' must be float, not str"),
        (3, "'retry': expected a mapping or a RetryPolicy, got int"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_in_words(make, given, words):
    with pytest.raises(InvalidInput) as found:
        make(retry=given)
    assert words in str(found.value)
    assert not str(found.value).endswith("..")


def test_a_resumed_run_keeps_its_policy(make):
    policy = RetryPolicy(attempts={Cause.EXIT_CODE: 2}, max_memory="3G", max_refusal_time=60)
    scheduler = make(retry=policy)
    scheduler.run_optimization(max_trials=1)
    scheduler.close()
    with resume(scheduler.run_directory, ToyRunner()) as again:
        assert again.config.retry == policy


# ---- in a run ----------------------------------------------------------------------------------


class Watch:
    """Takes events; `seen` is released at each of the kind."""

    def __init__(self, kind):
        self.kind, self.events, self.seen = kind, [], threading.Semaphore(0)

    @hookimpl
    def axsched_on_event(self, event):
        if isinstance(event, self.kind):
            self.events.append(event)
            self.seen.release()


def test_a_job_that_ran_out_of_memory_is_given_more(make, tmp_path):
    needs = []

    def finish(request):
        needs.append(request.resources.memory_bytes)
        enough = needs[-1] >= 4 * GB
        return {"loss": 1.0} if enough else JobStatus(JobState.FAILED, Cause.OUT_OF_MEMORY)

    runner = ToyRunner(finish, capabilities=["script", "resources"])
    scheduler = make(runner=runner, retry={"attempts": {"OUT_OF_MEMORY": 3}, "pause": 0.01})
    script = tmp_path / "evaluate.sh"
    script.write_text("exit 0")
    scheduler.set_script_objective(script, {"memory": "1G"})
    trial = run_one(scheduler)
    assert needs == [GB, 2 * GB, 4 * GB]
    assert trial.state is TrialState.SUCCEEDED


def run_one(scheduler):
    scheduler.run_optimization(max_trials=1)
    return scheduler.trials[0]


def test_a_job_over_the_cores_own_limit_is_given_more_time(make, monkeypatch):
    monkeypatch.setattr("axsched_core.run.timing.TIME_LIMIT_SLACK", 0.0)
    limits = []

    def finish(request):
        limits.append(request.resources.time_limit)
        return {"loss": 1.0} if len(limits) == 2 else None

    retry = {"attempts": {"TIME_LIMIT": 2}, "time_factor": 300, "pause": 0.01}
    scheduler = make(runner=ToyRunner(finish), max_trial_monitoring_time=0.1, retry=retry)
    assert run_one(scheduler).state is TrialState.SUCCEEDED
    assert limits == [0.1, 30.0]


def test_a_job_over_its_limit_that_does_not_end_is_not_run_a_second_time(make, monkeypatch):
    monkeypatch.setattr("axsched_core.run.timing.TIME_LIMIT_SLACK", 0.0)
    runner = ToyRunner(lambda request: None)
    runner.cannot_cancel = True
    retry = {"attempts": {"TIME_LIMIT": 2}, "pause": 0.01}
    scheduler = make(runner=runner, max_trial_monitoring_time=0.1, retry=retry)
    scheduler.run_trial(scheduler.get_next_trial())
    assert scheduler.wait_for_completed_trials()[0].cause is Cause.TIME_LIMIT
    assert len(runner.requests) == 1


def test_why_a_job_gets_no_more_memory_is_said(make):
    runner = ToyRunner(lambda request: JobStatus(JobState.FAILED, Cause.OUT_OF_MEMORY, "killed"))
    scheduler = make(runner=runner, retry={"attempts": {"OUT_OF_MEMORY": 3}})
    scheduler.run_trial(scheduler.get_next_trial())
    message = scheduler.wait_for_completed_trials()[0].message
    assert message == "killed (not tried again: this runner cannot give a job more memory)"


def test_an_invalid_result_is_tried_again_where_the_policy_says_so(make):
    runner = ToyRunner(lambda request: {"loss": 1.0 if request.attempt == 2 else "much"})
    scheduler = make(runner=runner, retry={"attempts": {"RESULT_INVALID": 2}, "pause": 0.01})
    assert run_one(scheduler).state is TrialState.SUCCEEDED


def with_one_lost_and_one_that_runs(make):
    lost = JobStatus(JobState.LOST)
    runner = ToyRunner(lambda request: lost if request.attempt == 1 else None)
    scheduler = make(runner=runner)
    scheduler.run_trial(scheduler.get_next_trial())
    while len(runner.requests) < 2:
        scheduler.monitor_trials()
    runner.finish = lambda request: lost
    return scheduler, runner


def test_the_count_of_attempts_survives_the_driver(make, tmp_path):
    scheduler, runner = with_one_lost_and_one_that_runs(make)
    copy = died(scheduler, tmp_path)
    runner.end(runner.key_of(0), JobStatus(JobState.LOST))
    with resume(copy, runner) as again:
        assert again.wait_for_completed_trials()[0].cause is Cause.LOST
    assert len(runner.requests) == 3


def test_an_attempt_that_ctrl_c_has_stopped_counts_in_no_later_driver(make):
    scheduler, runner = with_one_lost_and_one_that_runs(make)
    scheduler.close()
    with resume(scheduler.run_directory, runner) as again:
        again.run_trial(0)
        assert again.wait_for_completed_trials()[0].cause is Cause.LOST
    assert [runner.statuses[key].state.value for key in runner.requests] == [
        "LOST",
        "CANCELLED",
        "LOST",
        "LOST",
    ]


@pytest.mark.parametrize(
    ("end", "next_limit"),
    [
        (JobStatus(JobState.FAILED, Cause.TIME_LIMIT), 240.0),
        (JobStatus(JobState.LOST), 120.0),
    ],
)
def test_a_driver_that_follows_keeps_to_what_was_grown(make, tmp_path, end, next_limit):
    limits = []

    def finish(request):
        limits.append(request.resources.time_limit)
        return JobStatus(JobState.FAILED, Cause.TIME_LIMIT) if len(limits) != 2 else None

    runner = ToyRunner(finish)
    retry = {"attempts": {"TIME_LIMIT": 3}, "pause": 0.01}
    scheduler = make(runner=runner, max_trial_monitoring_time=60.0, retry=retry)
    scheduler.run_trial(scheduler.get_next_trial())
    while len(limits) < 2:
        scheduler.monitor_trials()
    copy = died(scheduler, tmp_path)
    runner.end(runner.key_of(0), end)
    runner.finish = lambda r: limits.append(r.resources.time_limit) or {"loss": 1.0}
    with resume(copy, runner) as again:
        assert again.wait_for_completed_trials()[0].state is TrialState.SUCCEEDED
    assert limits == [60.0, 120.0, next_limit]


def test_the_next_attempt_avoids_the_machines_that_failed(make, tmp_path):
    hosts, seen, copies = ["n1", "n2", ""], [], []

    def finish(request):
        seen.append(request.avoid)
        copies.append(died(scheduler, tmp_path / str(len(seen))))
        if request.attempt <= len(hosts):
            return JobStatus(JobState.FAILED, Cause.NODE_FAIL, host=hosts[request.attempt - 1])
        return {"loss": 1.0}

    runner = ToyRunner(finish)
    scheduler = make(runner=runner, retry={"attempts": {"NODE_FAIL": 9}, "pause": 1e-6})
    scheduler.run_optimization(max_trials=1)
    assert seen == [(), ("n1",), ("n1", "n2"), ("n1", "n2")]
    other = ToyRunner(lambda request: None)
    with resume(copies[2], other) as again:
        assert again._run.engine.records[0].avoid == (
            "n1",
            "n2",
        )


# ---- refusals for now --------------------------------------------------------------------------


class Full(ToyRunner):
    """A queue that is full until `places` says otherwise."""

    def __init__(self, refusals=10**9, **kwargs):
        super().__init__(**kwargs)
        self.left, self.keys = refusals, []
        self.on_submit = self.refuse

    def refuse(self, request):
        self.keys.append(request.key)
        self.left -= 1
        return SubmitError("the queue is full", transient=True) if self.left >= 0 else None


def test_a_full_queue_is_waited_out_and_is_no_attempt(make, caplog):
    runner, watch = Full(refusals=20), Watch(JobWaiting)
    scheduler = make(runner=runner, plugins=[watch], retry={"pause": 1e-3, "max_pause": 0.01})
    trial = run_one(scheduler)
    assert (trial.state, trial.attempts, trial.message) == (TrialState.SUCCEEDED, 1, "")
    assert len(set(runner.keys)) == 1  # it is the same job, in the same folder
    assert {event.message for event in watch.events} == {"refused for now: the queue is full"}
    assert len(watch.events) == 20
    assert caplog.text.count("refused for now: the queue is full") == 1


def test_why_a_trial_waits_is_in_its_message(make):
    runner = Full(finish=lambda request: None)
    scheduler = make(runner=runner)
    scheduler.run_trial(scheduler.get_next_trial())
    assert scheduler.trials[0].message == "refused for now: the queue is full"
    assert scheduler.trials[0].state is TrialState.QUEUED
    runner.left = 0
    while not runner.requests:
        scheduler.monitor_trials()
    assert scheduler.trials[0].message == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_line_says_why_trials_wait(make, terminal):
    text = io.StringIO()
    shown = Progress(Console(file=text, force_terminal=terminal, width=200))
    runner = Full(refusals=6)
    scheduler = make(runner=runner, plugins=[shown], max_parallelism=2)
    scheduler.run_optimization(max_trials=2)
    lines = text.getvalue()
    if terminal:
        assert "2 waiting: refused for now: the queue is full" in lines
        assert "waiting" not in lines.rsplit("2/2", 1)[1]
    else:
        assert lines.count("trial 0 waits: refused for now: the queue is full") == 1
        assert "trial 1 waits" not in lines  # the same words again


# ---- jobs in the backend's queue ---------------------------------------------------------------


def queued(runner, index, message, remedy=""):
    key = runner.key_of(index)
    runner.statuses[key] = JobStatus(JobState.QUEUED, message=message, remedy=remedy)
    runner.context.wake(key)


def test_why_a_job_is_queued_is_told_when_it_changes(make):
    runner, watch = ToyRunner(lambda request: None), Watch(JobWaiting)
    scheduler = make(runner=runner, plugins=[watch])
    for _ in range(2):
        scheduler.run_trial(scheduler.get_next_trial())
    queued(runner, 0, "Priority")
    wait_until(lambda: scheduler.monitor_trials()[0].message == "Priority")
    queued(runner, 0, "JobHeldUser", "scontrol release 7")
    scheduler._run.engine.records[0].job.next_reason = 0.0  # else it is too soon
    wait_until(lambda: scheduler.monitor_trials()[0].message == "JobHeldUser: scontrol release 7")
    told = [(event.trial_index, event.message, event.remedy) for event in watch.events]
    assert told == [(0, "Priority", ""), (0, "JobHeldUser", "scontrol release 7")]
    run = Run(scheduler.run_directory)
    wait_until(lambda: (scheduler.monitor_trials(), run.look()) and run.trials[0].remedy)
    assert (run.trials[0].waits_for, run.trials[0].remedy) == ("JobHeldUser", "scontrol release 7")
    runner.end(runner.key_of(0), JobStatus(JobState.RUNNING))
    wait_until(lambda: scheduler.monitor_trials()[0].state is TrialState.RUNNING)
    assert scheduler.trials[0].message == ""


def test_one_warning_counts_the_jobs_that_need_help(make, caplog):
    def stuck(index):
        remedy = f"scontrol release {index}"  # it names its job
        return JobStatus(JobState.QUEUED, message="JobHeldUser", remedy=remedy)

    runner = ToyRunner(lambda request: None)
    scheduler = make(runner=runner)
    for _ in range(3):
        scheduler.run_trial(scheduler.get_next_trial())
    runner.statuses.update({runner.key_of(index): stuck(index) for index in range(3)})
    wait_until(lambda: scheduler.monitor_trials()[2].message)
    for _ in range(3):
        runner.context.wake(runner.key_of(1))
        scheduler.monitor_trials()
    words = "wait and will not start without help: JobHeldUser: scontrol release 0."
    assert caplog.text.count("will not start without help") == 1
    assert f"3 jobs {words}" in caplog.text


def test_the_progress_line_tells_queued_from_running(make, in_thread):
    text = io.StringIO()
    shown = Progress(Console(file=text, force_terminal=True, color_system=None, width=200))
    runner = ToyRunner(lambda request: None)
    scheduler = make(runner=runner, plugins=[shown], max_parallelism=3)
    running = in_thread(lambda: scheduler.run_optimization(max_trials=3))
    for _ in range(3):
        assert runner.submitted.acquire(timeout=30)
    for index in (0, 1):
        queued(runner, index, "Resources")
    runner.end(runner.key_of(2), JobStatus(JobState.RUNNING))
    wait_until(lambda: "1 running  2 queued" in text.getvalue())
    wait_until(lambda: "2 waiting: Resources" in text.getvalue())
    for index in range(3):
        runner.end(runner.key_of(index), {"loss": 1.0})
    running.result()
    assert "queued" not in text.getvalue().rsplit("3/3", 1)[1]


# ---- the end of patience -----------------------------------------------------------------------


def test_patience_may_have_an_end(make):
    runner = Full()
    retry = {"max_refusal_time": 0.2, "pause": 0.01}
    scheduler = make(runner=runner, retry=retry)
    scheduler.run_trial(scheduler.get_next_trial())
    trial = scheduler.wait_for_completed_trials()[0]
    assert (trial.state, trial.cause) == (TrialState.FAILED, Cause.SUBMIT_REFUSED)
    assert trial.message.startswith("the queue is full (refused for 0.2")


def test_ctrl_c_acts_at_once_while_a_trial_waits_and_makes_no_refusal_final(make):
    runner, watch = Full(), Watch(JobWaiting)
    optimizer = ToyOptimizer()
    scheduler = make(optimizer, runner, plugins=[watch], retry={"pause": 3600, "max_pause": 3600})
    for _ in range(4):
        presser = press_ctrl_c(watch.seen)
        with pytest.raises(OptimizationInterrupted):
            scheduler.run_optimization(max_trials=1) if not optimizer.rows else scheduler.finish()
        presser.join()
    runner.left = 0
    scheduler.finish()
    assert optimizer.count("COMPLETED") == 1


def test_a_timeout_acts_at_once_while_a_trial_waits(make):
    optimizer, runner = ToyOptimizer(), Full()
    scheduler = make(optimizer, runner, retry={"pause": 3600, "max_pause": 3600})
    with pytest.raises(OptimizerError, match="the run's timeout"):
        scheduler.run_optimization(max_trials=1, timeout=0.2)
    assert optimizer.count("STALE") == 1
    assert scheduler.trials[0].attempts == 0


def test_a_refused_job_that_is_given_up_was_no_attempt(make, tmp_path):
    runner, watch = Full(), Watch(JobWaiting)
    retry = {"pause": 3600, "max_pause": 3600}
    scheduler = make(runner=runner, plugins=[watch], retry=retry)
    presser = press_ctrl_c(watch.seen)
    with pytest.raises(OptimizationInterrupted):
        scheduler.run_optimization(max_trials=1)
    presser.join()
    assert scheduler.trials[0].attempts == 0
    assert journalled(scheduler.run_directory)[0]["attempts"] == 0
    with resume(died(scheduler, tmp_path), runner) as again:
        assert again.trials[0].attempts == 0
    runner.left = 0
    scheduler.finish()
    assert scheduler.trials[0].attempts == 1


def test_refusals_before_a_resume_are_no_attempts(make):
    lost = JobStatus(JobState.LOST)
    runner = Full()
    scheduler = make(runner=runner)
    scheduler.run_trial(scheduler.get_next_trial())
    scheduler.close()
    second = ToyRunner(lambda request: lost if len(second.requests) < 3 else {"loss": 1.0})
    with resume(scheduler.run_directory, runner, runner=second) as again:
        again.run_trial(0)
        assert again.wait_for_completed_trials()[0].state is TrialState.SUCCEEDED
    assert len(second.requests) == 3


def test_what_is_refused_together_is_submitted_together(make):
    runner = Full(refusals=12)
    scheduler = make(runner=runner, max_parallelism=4, retry={"pause": 0.05})
    scheduler.run_optimization(max_trials=4)
    sizes = [size for hook, size in runner.calls if hook == "axsched_submit"]
    assert sizes == [4, 4, 4, 4]


def test_the_journal_says_why_a_job_has_more_than_the_objective_asks_for(make):
    answers = iter([JobStatus(JobState.FAILED, Cause.TIME_LIMIT), {"loss": 1.0}])
    retry = {"attempts": {"TIME_LIMIT": 2}, "pause": 0.01}
    scheduler = make(
        runner=ToyRunner(lambda r: next(answers)), max_trial_monitoring_time=60.0, retry=retry
    )
    run_one(scheduler)
    text = (scheduler.run_directory / "journal.jsonl").read_text()
    keys = [one for line in text.splitlines() if (one := json.loads(line))["k"] == "key"]
    assert keys[1]["ended"] == ["TIME_LIMIT"]
    assert keys[1]["grown"] == [None, 120.0]
