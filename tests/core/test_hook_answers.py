"""What hooks return is checked down to the fields, and the error says whose answer was wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from axsched_core import TrialState, hookimpl
from axsched_core.errors import ContractError, RunnerError
from axsched_core.jobs import (
    CancelOutcome,
    Cause,
    JobHandle,
    JobRequest,
    JobResult,
    JobState,
    JobStatus,
    NotReady,
    NotSubmitted,
    SubmitError,
)
from axsched_core.runners.session import RunnerSession
from support.toy import ToyRunner

KEY = "r-0-1"
HANDLE = JobHandle(KEY)
REQUEST = JobRequest(KEY, 0, 1, {}, Path("/none"), None)
LOOP: dict = {}
LOOP["loop"] = LOOP
DEEP: list = []
for _ in range(100_000):
    DEEP = [DEEP]


class Unprintable:
    def __repr__(self):
        raise ValueError("no words")


def answering(hook, answer):
    """A session with a runner that answers this hook so, and what is called."""

    class Answers(ToyRunner):
        @hookimpl
        def axsched_submit(self, requests):
            return answer

        @hookimpl
        def axsched_poll(self, handles):
            return answer

        @hookimpl
        def axsched_fetch_results(self, handles):
            return answer

        @hookimpl
        def axsched_cancel(self, handles, reason):
            return answer

        @hookimpl
        def axsched_reattach(self, requests):
            return answer

        @hookimpl
        def axsched_capacity(self):
            return answer

        @hookimpl
        def axsched_read_log(self, handle, stream, offset, limit):
            return answer

        @hookimpl
        def axsched_read_progress(self, handles, offsets):
            return answer

        @hookimpl
        def axsched_preview(self, requests):
            return answer

        @hookimpl
        def axsched_find_leftovers(self, run_id):
            return answer

        @hookimpl
        def axsched_remove_leftovers(self, run_id):
            return answer

    session = RunnerSession(Answers())
    arguments = {
        "submit": ([REQUEST],),
        "poll": ([HANDLE],),
        "fetch_results": ([HANDLE],),
        "cancel": ([HANDLE], "why"),
        "reattach": ([REQUEST],),
        "read_log": (HANDLE, "stdout", 0, 9),
        "read_progress": ([HANDLE], {KEY: 0}),
        "preview": ([REQUEST],),
        "find_leftovers": ("r",),
        "remove_leftovers": ("r",),
    }
    try:
        return getattr(session, hook)(*arguments.get(hook, ()))
    finally:
        session.release()


def status(**fields):
    return {KEY: JobStatus(fields.pop("state", JobState.RUNNING), **fields)}


@pytest.mark.parametrize(
    ("hook", "answer", "words"),
    [
        ("submit", ["x"], "JobHandle or SubmitError, but returned 'x' (str)"),
        ("submit", "x", "1 answers, but returned 'x' (str)"),
        ("submit", [SubmitError], "SubmitError'>; write SubmitError(...)"),
        ("submit", [JobHandle("other")], "whose key is the request's, but returned one whose key"),
        ("submit", [JobHandle(KEY, 17)], "whose backend_id is a str, but returned one whose backe"),
        ("submit", [JobHandle(KEY, "", None)], "data is a mapping that comes back from JSON"),
        ("submit", [JobHandle(KEY, "", {"at": Path("x")})], "data is a mapping that comes back"),
        ("submit", [JobHandle(KEY, "", {"at": (1, 2)})], "data is a mapping that comes back from"),
        ("submit", [JobHandle(KEY, "", {1: 2})], "data is a mapping that comes back from JSON"),
        ("submit", [JobHandle(KEY, "", {"n": float("nan")})], "data is a mapping that comes back"),
        ("submit", [JobHandle(KEY, "", LOOP)], "data is a mapping that comes back from JSON"),
        ("submit", [JobHandle(KEY, "", {"deep": DEEP})], "data is a mapping that comes back"),
        ("submit", [SubmitError(ValueError("full"))], "message is a str, but returned one whose"),
        ("submit", [SubmitError("full", transient="yes")], "transient is a bool, but returned one"),
        ("poll", {KEY: "RUNNING"}, "JobStatus, but returned 'RUNNING' (str)"),
        ("poll", {KEY: JobState.RUNNING}, "JobStatus, but returned <JobState.RUNNING"),
        ("poll", {17: JobStatus(JobState.RUNNING)}, "a mapping from key, which is a str"),
        ("poll", [JobStatus(JobState.RUNNING)], "must return a mapping from key, but returned ["),
        (
            "poll",
            status(state="RUNNING"),
            "a JobStatus whose state is a JobState, but returned one",
        ),
        ("poll", status(cause="LOST"), "cause is a Cause or None, but returned one whose cause is"),
        ("poll", status(message=None), "message is a str, but returned one whose message is None"),
        ("poll", status(message=Unprintable()), "message is (its repr raises ValueError)"),
        ("poll", status(backend_state=3), "backend_state is a str, but returned one whose"),
        (
            "poll",
            status(exit_code="1"),
            "exit_code is an int or None, but returned one whose exit_",
        ),
        ("poll", status(exit_code=True), "exit_code is an int or None, but returned one whose exi"),
        (
            "poll",
            status(signal=9.0),
            "signal is an int or None, but returned one whose signal is 9",
        ),
        ("poll", status(started_at="now"), "started_at is a finite number of seconds or None"),
        ("poll", status(ended_at=float("nan")), "ended_at is a finite number of seconds or None"),
        ("poll", status(host=None), "host is a str, but returned one whose host is None"),
        ("fetch_results", {KEY: {"loss": 1}}, "JobResult or NotReady, but returned {'loss': 1} (d"),
        ("fetch_results", {KEY: JobResult({"loss": 1})}, "a JobResult whose raw is bytes or None"),
        (
            "fetch_results",
            {KEY: JobResult('{"loss": 1}')},
            "a JobResult whose raw is bytes or None",
        ),
        ("fetch_results", {KEY: JobResult(b"1", 1)}, "raw or metrics, but returned one with both"),
        ("fetch_results", {KEY: JobResult()}, "but returned one with neither raw nor metrics"),
        ("fetch_results", {KEY: NotReady(None)}, "a NotReady whose reason is a str, but returned"),
        ("fetch_results", {KEY: NotReady}, "NotReady'>; write NotReady(...)"),
        ("cancel", {KEY: "REQUESTED"}, "CancelOutcome, but returned 'REQUESTED' (str)"),
        ("reattach", [HANDLE], "must return a mapping from key, but returned [JobHandle"),
        ("reattach", {KEY: None}, "JobHandle or NotSubmitted, but returned None"),
        ("reattach", {KEY: NotSubmitted}, "NotSubmitted'>; write NotSubmitted(...)"),
        ("reattach", {KEY: JobHandle("other")}, "whose key is the request's, but returned one who"),
        ("reattach", {KEY: JobHandle(KEY, None)}, "backend_id is a str, but returned one whose"),
        ("capacity", 2.0, "an int or None, but returned 2.0 (float)"),
        ("capacity", True, "an int or None, but returned True (bool)"),
        ("read_log", "text", "bytes, but returned 'text' (str)"),
        ("read_progress", {KEY: "text"}, "bytes, but returned 'text' (str)"),
        ("read_progress", b"{}", "a mapping from key, but returned b'{}' (bytes)"),
        ("preview", {KEY: ["sbatch"]}, "a str, but returned ['sbatch'] (list)"),
        ("preview", "sbatch", "a mapping from key, but returned 'sbatch' (str)"),
        ("find_leftovers", "job 1", "a list of str, but returned 'job 1' (str)"),
        ("find_leftovers", [1], "a list of str, but returned [1] (list)"),
        ("remove_leftovers", 1, "a list of str, but returned 1 (int)"),
    ],
)
def test_a_wrong_answer_is_named_with_what_is_expected(hook, answer, words):
    with pytest.raises(ContractError) as found:
        answering(hook, answer)
    text = str(found.value)
    assert text.startswith(f"Runner 'toy': axsched_{hook}")
    assert words in text
    single = isinstance(answer, dict) and KEY in answer
    assert (f"axsched_{hook}, job {KEY}: must return" in text) or not single


@pytest.mark.parametrize(
    ("hook", "answer", "found"),
    [
        ("submit", (HANDLE,), [HANDLE]),
        ("submit", [JobHandle(KEY, "7", {"a": [1, None, {"b": "ä"}]})], None),
        (
            "poll",
            status(cause=Cause.LOST, exit_code=-9, signal=9, started_at=1, ended_at=2.5),
            None,
        ),
        ("poll", {"somebody-else-s": "whatever"}, {}),
        ("fetch_results", {KEY: JobResult(b"")}, None),
        ("fetch_results", {KEY: JobResult(metrics=0)}, None),
        ("cancel", {KEY: CancelOutcome.REQUESTED}, None),
        ("reattach", None, {}),
        ("capacity", None, None),
        ("capacity", -1, 0),
        ("read_log", None, b""),
        ("read_progress", None, {}),
        ("preview", None, {}),
        ("find_leftovers", None, []),
        ("remove_leftovers", ("a",), ["a"]),
    ],
)
def test_a_right_answer_goes_through(hook, answer, found):
    assert answering(hook, answer) == (answer if found is None else found)


@pytest.mark.parametrize("raw", [{"loss": 1.0}, '{"loss": 1.0}'])
def test_a_wrong_result_ends_the_call_with_words_and_the_job_stays_known(make, raw):
    runner = ToyRunner(lambda request: JobResult(raw=raw))
    scheduler = make(runner=runner)
    with pytest.raises(RunnerError, match=r"raw is bytes or None, but .*\(5 times in a row\)"):
        scheduler.run_optimization(max_trials=1)
    runner.results[runner.key_of(0)] = {"loss": 1.0}
    assert scheduler.wait_for_completed_trials()[0].state is TrialState.SUCCEEDED
    assert len(runner.requests) == 1


def test_a_state_that_is_a_mere_word_ends_the_call_with_words(make):
    runner = ToyRunner(lambda request: None)
    scheduler = make(runner=runner)
    scheduler.run_trial(scheduler.get_next_trial())
    runner.statuses[runner.key_of(0)] = JobStatus("RUNNING")
    with pytest.raises(RunnerError, match="a JobStatus whose state is a JobState"):
        scheduler.wait_for_completed_trials()
    runner.end(runner.key_of(0), {"loss": 1.0})
    assert scheduler.wait_for_completed_trials()[0].state is TrialState.SUCCEEDED
