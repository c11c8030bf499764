"""The conformance kit: `RunnerConformance`, a pytest class to derive from.

Each test checks one promise of the contract. A test for a capability that the runner does not have
is skipped as "capability absent: ..."; a test without its fixture is skipped as "not tested: ...".
Skipped tests never count as passed; ``pytest -rs`` lists both kinds.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import attrs
import pytest

from axsched_core.errors import BackendUnavailable
from axsched_core.jobs import (
    CancelOutcome,
    Capability,
    Cause,
    ContainerObjective,
    FunctionObjective,
    JobHandle,
    JobRequest,
    JobResult,
    JobState,
    NotReady,
    NotSubmitted,
    Objective,
    ScriptObjective,
    SubmitError,
)
from axsched_core.objectives.results import InvalidResult, metrics_of
from axsched_core.runners import discovery
from axsched_core.testing.bench import RESULT_LIMIT, Bench, through_json
from axsched_core.testing.payloads import checksum

SETTLED = 1.0
"""Seconds in which a job would end if it was cancelled by mistake."""
AWKWARD = {
    "quotes": 'it\'s "quoted" `back` \\ slash',
    "newlines": "one\ntwo\r\nthree\t.",
    "shell": "$(touch /tmp/pwned) ${HOME} ; rm -rf / | & > < * ? ~ # !",
    "unicode": "äß\u03bc\u2603\U0001f600\u202e",
    "empty": "",
    "long": "x" * 1_000_000,
    "true": True,
    "small": 5e-324,
    "exact": 0.1 + 0.2,
    "big": 2**53 + 1,
}
"""Parameters that a shell, a file name or a number's text could damage."""


def not_tested(why: str) -> NoReturn:
    """Report that the kit lacks something that it needs to test this."""
    pytest.skip(f"not tested: {why}")


def absent(what: str) -> NoReturn:
    """Report that the runner says that it cannot do this."""
    pytest.skip(f"capability absent: {what}")


class RunnerConformance:
    """Derive from it, name your runner, and override the fixtures that you can serve.

    Example:
        >>> class TestMine(RunnerConformance):
        ...     runner_name = "mine"
    """

    runner_name: str = ""
    """The name of the installed runner."""

    # ---- what you may override ---------------------------------------------------------------

    @pytest.fixture
    def runner_options(self) -> Mapping[str, Any]:
        """Options for the runner; JSON values, if `new process` cases should be tested."""
        return {}

    @pytest.fixture
    def make_runner(self, runner_options: Mapping[str, Any]) -> Callable[[], object]:
        """Make a new runner for the same backend at each call."""
        return lambda: discovery.load(self.runner_name).make_runner(runner_options)

    @pytest.fixture
    def patience(self) -> float:
        """Seconds that your backend may take for any request."""
        return 30.0

    @pytest.fixture
    def parameters_for(self) -> Callable[[str], Mapping[str, Any] | None]:
        """Parameters that make a job behave in a given way; None: not possible ("not tested").

        The behaviours: ``succeed``, ``fail``, ``hang`` (until it is cancelled), ``late`` (ends
        without an error, its result comes a little later), and for runners of functions and
        scripts, with the kit's own objective: ``exit`` (code 3), ``die`` (SIGKILL), ``no result``,
        ``torn``, ``nan``, ``enormous``, ``print``, ``progress``.
        """
        return lambda behaviour: None if behaviour == "late" else {"do": behaviour}

    @pytest.fixture
    def received(self) -> Callable[[JobHandle], Mapping[str, Any]] | None:
        """For a runner that evaluates parameters itself: the parameters that reached the
        backend."""
        return None

    @pytest.fixture
    def backend_calls(self) -> Callable[[], int] | None:
        """How many calls the backend has had so far."""
        return None

    @pytest.fixture
    def calls_for_200_jobs(self) -> int:
        """How many backend calls one poll of 200 jobs may make."""
        return 5

    @pytest.fixture
    def outage(self) -> Callable[[], contextlib.AbstractContextManager[object]] | None:
        """A context in which the backend does not answer."""
        return None

    @pytest.fixture
    def answer_lost(self) -> Callable[[], contextlib.AbstractContextManager[object]] | None:
        """A context in which the backend accepts jobs, but its answer to a submission is lost."""
        return None

    @pytest.fixture
    def jobs_made(self) -> Callable[[str], int] | None:
        """For a runner that evaluates parameters itself: how many jobs of this key the backend has
        had in total. (The kit counts the runs of functions and scripts itself.)"""
        return None

    @pytest.fixture
    def leftovers(self) -> Callable[[str], list[str]] | None:
        """What a run (by its id) has left on the backend or this machine, running or queued."""
        return None

    @pytest.fixture
    def foreign_objective(self) -> Objective | None:
        """An objective that the runner must refuse."""
        info = discovery.load(self.runner_name).info if self.runner_name else None
        able = info.capabilities if info else frozenset[Capability]()
        foreign: list[Objective] = [
            ContainerObjective("no/such:image"),
            ScriptObjective(("/no/such/script",)),
            FunctionObjective("none", False, (3, 0)),
        ]
        return next((one for one in foreign if one.capability not in able), None)

    # ---- the kit's own -----------------------------------------------------------------------

    @pytest.fixture
    def bench(
        self, make_runner: Callable[[], object], tmp_path: Path, patience: float
    ) -> Iterator[Bench]:
        """An open session with a new runner."""
        bench = Bench(make_runner(), tmp_path, patience)
        yield bench
        bench.close()

    @pytest.fixture
    def told(
        self, parameters_for: Callable[[str], Mapping[str, Any] | None], bench: Bench
    ) -> Callable[..., dict[str, Any]]:
        """Parameters for a behaviour; without them the test is reported as not tested."""

        def tell(behaviour: str, **more: Any) -> dict[str, Any]:
            parameters = parameters_for(behaviour)
            if parameters is None:
                not_tested(f"parameters_for({behaviour!r}) is None")
            return {**parameters, **more}

        return tell

    @pytest.fixture
    def kit_payload(self, bench: Bench) -> None:
        """For cases that need the kit's own function or script."""
        if bench.kind not in (Capability.FUNCTION, Capability.SCRIPT):
            absent("functions or scripts, which the kit needs for this case")

    # ---- submitting --------------------------------------------------------------------------

    def test_says_what_it_is(self, bench: Bench) -> None:
        info = bench.session.info
        assert info.name
        if self.runner_name:
            assert info.name == self.runner_name
        objectives = {Capability.FUNCTION, Capability.SCRIPT, Capability.CONTAINER}
        assert info.capabilities & (objectives | {Capability.PARAMETERS})
        for capability, hook in (
            (Capability.REATTACH, "axsched_reattach"),
            (Capability.LOGS, "axsched_read_log"),
        ):
            assert bench.session.can(capability) <= bench.session.has(hook)

    def test_empty_batches(self, bench: Bench) -> None:
        assert bench.session.submit([]) == []
        assert bench.session.poll([]) == {}
        assert bench.session.fetch_results([]) == {}
        assert bench.session.cancel([], "nothing") == {}

    def test_a_job_succeeds(self, bench: Bench, told: Callable[..., dict[str, Any]]) -> None:
        handle = bench.start(told("succeed"))
        assert bench.status(handle).state is JobState.SUCCEEDED
        assert "loss" in bench.metrics(handle)

    def test_answers_are_as_many_and_in_the_order_of_the_requests(
        self, bench: Bench, told: Callable[..., dict[str, Any]]
    ) -> None:
        requests = [bench.request(told("succeed")) for _ in range(7)]
        handles = bench.submit(*requests[::-1])
        assert [handle.key for handle in handles] == [r.key for r in requests[::-1]]
        bench.wait(handles)

    def test_one_bad_request_among_good_ones_fails_alone(
        self,
        bench: Bench,
        told: Callable[..., dict[str, Any]],
        foreign_objective: Objective | None,
    ) -> None:
        if foreign_objective is None:
            not_tested("the runner takes every kind of objective; give one as foreign_objective")
        good, also = bench.request(told("succeed")), bench.request(told("succeed"))
        bad = attrs.evolve(bench.request(told("succeed")), objective=foreign_objective)
        first, refused, last = bench.session.submit([good, bad, also])
        assert isinstance(refused, SubmitError)
        assert refused.message
        assert not refused.transient
        assert isinstance(first, JobHandle)
        assert isinstance(last, JobHandle)
        bench.handles += [first, last]
        assert {status.state for status in bench.wait([first, last]).values()} == {
            JobState.SUCCEEDED
        }

    def test_the_same_key_twice_is_one_job(
        self,
        bench: Bench,
        told: Callable[..., dict[str, Any]],
        tmp_path: Path,
        jobs_made: Callable[[str], int] | None,
    ) -> None:
        mark = tmp_path / "mark"
        parameters = told("succeed")
        if bench.kind in (Capability.FUNCTION, Capability.SCRIPT):
            parameters["mark"] = str(mark)
        request = bench.request(parameters)
        (first,) = bench.submit(request)
        (again,) = bench.submit(request)
        assert again == first
        bench.wait([first])
        (late,) = bench.submit(request)
        assert late == first
        assert bench.status(late).state is JobState.SUCCEEDED
        self._ran_once(bench, told, mark, request.key, jobs_made)

    def _ran_once(
        self,
        bench: Bench,
        told: Callable[..., dict[str, Any]],
        mark: Path,
        key: str,
        jobs_made: Callable[[str], int] | None,
    ) -> None:
        if jobs_made is not None:
            assert jobs_made(key) == 1
        elif bench.kind not in (Capability.FUNCTION, Capability.SCRIPT):
            not_tested("whether the job was made once: no fixture jobs_made")
        else:
            # A second job of the same key would have run before two later jobs have.
            for _ in range(2):
                bench.status(bench.start(told("succeed")))
            assert mark.read_text() == "ran\n"

    def test_a_submission_whose_answer_is_lost_is_found_again(
        self,
        bench: Bench,
        told: Callable[..., dict[str, Any]],
        answer_lost: Callable[[], contextlib.AbstractContextManager[object]] | None,
        tmp_path: Path,
        jobs_made: Callable[[str], int] | None,
    ) -> None:
        if answer_lost is None:
            not_tested("no fixture answer_lost")
        mark = tmp_path / "mark"
        parameters = told("succeed")
        if bench.kind in (Capability.FUNCTION, Capability.SCRIPT):
            parameters["mark"] = str(mark)
        request = bench.request(parameters)
        with answer_lost(), pytest.raises(Exception):  # noqa: B017, PT011 - any error will do
            bench.session.submit([request])
        (handle,) = bench.submit(request)
        assert bench.status(handle).state is JobState.SUCCEEDED
        self._ran_once(bench, told, mark, request.key, jobs_made)

    def test_200_jobs_in_one_batch_cost_few_calls(
        self,
        bench: Bench,
        told: Callable[..., dict[str, Any]],
        backend_calls: Callable[[], int] | None,
        calls_for_200_jobs: int,
        patience: float,
    ) -> None:
        handles = bench.submit(*[bench.request(told("succeed")) for _ in range(200)])
        if backend_calls is not None:
            before = backend_calls()
            bench.session.poll(handles)
            assert backend_calls() - before <= calls_for_200_jobs
        bench.patience = 10 * patience
        statuses = bench.wait(handles)
        assert {status.state for status in statuses.values()} == {JobState.SUCCEEDED}
        results = bench.session.fetch_results(handles)
        assert sum(isinstance(result, JobResult) for result in results.values()) == 200
        if backend_calls is None:
            not_tested("the number of backend calls: no fixture backend_calls")

    # ---- polling -----------------------------------------------------------------------------

    def test_polls_before_during_and_after_the_end(
        self, bench: Bench, told: Callable[..., dict[str, Any]]
    ) -> None:
        handle = bench.start(told("hang"))
        for _ in range(3):
            status = bench.session.poll([handle]).get(handle.key)
            assert status is None or not status.state.ended
        bench.running(handle)
        bench.session.cancel([handle], "the end")
        assert bench.status(handle).state is JobState.CANCELLED
        for _ in range(3):
            assert bench.session.poll([handle])[handle.key].state is JobState.CANCELLED

    def test_a_finished_job_stays_finished(
        self, bench: Bench, told: Callable[..., dict[str, Any]]
    ) -> None:
        handle = bench.start(told("succeed"))
        ended = bench.status(handle)
        for _ in range(3):
            assert bench.session.poll([handle])[handle.key].state is ended.state
            assert isinstance(bench.fetch(handle), JobResult)

    def test_an_unknown_job_is_not_done_and_disturbs_no_other(
        self, bench: Bench, told: Callable[..., dict[str, Any]]
    ) -> None:
        known = bench.start(told("succeed"))
        bench.status(known)
        stranger = JobHandle(f"{bench.run_id}-999-1", backend_id="999999999")
        statuses = bench.session.poll([stranger, known])
        assert statuses[known.key].state is JobState.SUCCEEDED
        about = statuses.get(stranger.key)
        assert about is None or about.state in (JobState.LOST, JobState.QUEUED)
        results = bench.session.fetch_results([stranger, known])
        assert isinstance(results[known.key], JobResult)
        assert not isinstance(results.get(stranger.key), JobResult)
        outcome = bench.session.cancel([stranger], "nobody").get(stranger.key)
        assert outcome is not CancelOutcome.REQUESTED

    def test_handles_survive_json(self, bench: Bench, told: Callable[..., dict[str, Any]]) -> None:
        done, hung = bench.start(told("succeed")), bench.start(told("hang"))
        done, hung = through_json(done), through_json(hung)
        assert bench.status(done).state is JobState.SUCCEEDED
        assert "loss" in bench.metrics(done)
        bench.session.cancel([hung], "enough")
        assert bench.status(hung).state is JobState.CANCELLED

    def test_it_pushes(self, bench: Bench, told: Callable[..., dict[str, Any]]) -> None:
        if not bench.session.can(Capability.PUSH):
            absent("push")
        handle = bench.start(told("succeed"))
        deadline = time.monotonic() + bench.patience
        ended = False
        while not ended:
            key = bench.woken.get(timeout=max(0.01, deadline - time.monotonic()))
            ended = key == handle.key and bench.session.poll([handle])[handle.key].state.ended

    # ---- cancelling --------------------------------------------------------------------------

    def test_cancel_a_running_job(self, bench: Bench, told: Callable[..., dict[str, Any]]) -> None:
        handle, other = bench.start(told("hang")), bench.start(told("hang"))
        bench.running(handle)
        outcomes = bench.session.cancel([handle], "the user wishes it")
        assert outcomes.get(handle.key) is CancelOutcome.REQUESTED
        assert bench.status(handle).state is JobState.CANCELLED
        begin = time.monotonic()
        while time.monotonic() < begin + SETTLED:
            status = bench.session.poll([other]).get(other.key)
            assert status is None or not status.state.ended
            time.sleep(0.1)  # there is nothing to wait for: nothing should happen

    def test_cancel_what_has_not_begun(
        self, bench: Bench, told: Callable[..., dict[str, Any]]
    ) -> None:
        handles = bench.submit(*[bench.request(told("hang")) for _ in range(30)])
        outcomes = bench.session.cancel(handles, "all of them")
        assert set(outcomes.values()) == {CancelOutcome.REQUESTED}
        assert {s.state for s in bench.wait(handles).values()} == {JobState.CANCELLED}

    def test_cancel_twice_and_cancel_what_has_ended(
        self, bench: Bench, told: Callable[..., dict[str, Any]]
    ) -> None:
        done, hung = bench.start(told("succeed")), bench.start(told("hang"))
        bench.status(done)
        outcomes = bench.session.cancel([hung, done], "once")
        assert outcomes.get(hung.key) is CancelOutcome.REQUESTED
        assert outcomes.get(done.key) is not CancelOutcome.REQUESTED
        bench.session.cancel([hung, done], "twice")
        statuses = bench.wait([done, hung])
        assert statuses[done.key].state is JobState.SUCCEEDED
        assert statuses[hung.key].state is JobState.CANCELLED
        bench.session.cancel([hung, done], "three times")
        assert bench.session.poll([done])[done.key].state is JobState.SUCCEEDED

    # ---- how jobs end ------------------------------------------------------------------------

    def test_a_job_that_fails(self, bench: Bench, told: Callable[..., dict[str, Any]]) -> None:
        handle = bench.start(told("fail"))
        status = bench.status(handle)
        assert status.state is JobState.FAILED
        assert status.message or status.backend_state or status.exit_code

    @pytest.mark.usefixtures("kit_payload")
    def test_a_non_zero_exit(self, bench: Bench, told: Callable[..., dict[str, Any]]) -> None:
        status = bench.status(bench.start(told("exit")))
        assert (status.state, status.cause) == (JobState.FAILED, Cause.EXIT_CODE)
        assert status.exit_code == 3

    @pytest.mark.usefixtures("kit_payload")
    def test_death_by_signal(self, bench: Bench, told: Callable[..., dict[str, Any]]) -> None:
        status = bench.status(bench.start(told("die")))
        assert status.state is JobState.FAILED
        assert status.cause in (Cause.SIGNAL, Cause.OUT_OF_MEMORY)

    @pytest.mark.usefixtures("kit_payload")
    @pytest.mark.parametrize("behaviour", ["no result", "torn", "nan", "enormous"])
    def test_no_result_is_ever_made_of_nothing(
        self, bench: Bench, told: Callable[..., dict[str, Any]], behaviour: str
    ) -> None:
        handle = bench.start(told(behaviour, size=3 * RESULT_LIMIT))
        status = bench.status(handle)
        if status.state is JobState.FAILED:
            assert status.cause is Cause.RESULT_INVALID
            return
        assert status.state is JobState.SUCCEEDED
        result = bench.fetch(handle)
        if isinstance(result, JobResult):
            with pytest.raises(InvalidResult):
                metrics_of(result, objectives=["loss"], required=["loss"], limit=RESULT_LIMIT)

    def test_a_result_that_arrives_late(
        self, bench: Bench, told: Callable[..., dict[str, Any]]
    ) -> None:
        handle = bench.start(told("late"))
        assert bench.status(handle).state is JobState.SUCCEEDED
        assert isinstance(bench.fetch(handle, patience=0), NotReady)
        assert isinstance(bench.fetch(handle, patience=bench.patience), JobResult)

    @pytest.mark.usefixtures("kit_payload")
    def test_a_time_limit(self, bench: Bench, told: Callable[..., dict[str, Any]]) -> None:
        handle = bench.start(told("hang"), time_limit=0.5)
        status = bench.status(handle)
        assert (status.state, status.cause) == (JobState.FAILED, Cause.TIME_LIMIT)

    # ---- what goes in and what comes out -----------------------------------------------------

    def test_awkward_parameters_arrive_exactly(
        self,
        bench: Bench,
        told: Callable[..., dict[str, Any]],
        received: Callable[[JobHandle], Mapping[str, Any]] | None,
    ) -> None:
        parameters = told("succeed", **AWKWARD)
        handle = bench.start(parameters)
        assert bench.status(handle).state is JobState.SUCCEEDED
        if bench.kind in (Capability.FUNCTION, Capability.SCRIPT):
            assert bench.metrics(handle)["checksum"][0] == checksum(parameters)
        elif received is None:
            not_tested("no fixture received")
        else:
            assert dict(received(handle)) == parameters

    def test_environment_variables_arrive_and_are_written_nowhere(self, bench: Bench) -> None:
        if not bench.session.can(Capability.SCRIPT):
            absent("script")
        secret = uuid.uuid4().hex
        measure = 'printf "{\\"loss\\": %d}" ${#AXSCHED_KIT_SECRET} > "$AXSCHED_RESULT_FILE"'
        objective = ScriptObjective(("/bin/sh", "-c", measure), {"AXSCHED_KIT_SECRET": secret})
        request = bench.request({}, objective=objective)
        assert secret not in "".join(bench.session.preview([request]).values())
        (handle,) = bench.submit(request)
        assert bench.status(handle).state is JobState.SUCCEEDED
        assert bench.metrics(handle) == {"loss": (len(secret), None)}
        assert secret not in json.dumps(attrs.asdict(handle))
        files = [path for path in bench.run_dir.rglob("*") if path.is_file()]
        assert not [path for path in files if secret.encode() in path.read_bytes()]

    @pytest.mark.usefixtures("kit_payload")
    def test_50_megabytes_on_each_stream_kept_apart(
        self, bench: Bench, told: Callable[..., dict[str, Any]]
    ) -> None:
        handle = bench.start(told("print", kilobytes=50 * 1024))
        assert bench.status(handle).state is JobState.SUCCEEDED
        for stream, letter in (("stdout", b"o"), ("stderr", b"e")):
            text = bench.log(handle, stream)
            assert len(text) == 50 * 1024 * 1024
            assert set(text[:2048]) | set(text[-2048:]) == set(letter + b"\n")

    @pytest.mark.usefixtures("kit_payload")
    def test_progress_is_read_in_whole_lines_while_it_grows(
        self, bench: Bench, told: Callable[..., dict[str, Any]]
    ) -> None:
        if not bench.session.has("axsched_read_progress"):
            absent("progress")
        handle = bench.start(told("progress", steps=20))
        data, ended = b"", False
        while True:
            found = bench.session.read_progress([handle], {handle.key: len(data)})
            new = found.get(handle.key, b"")
            assert new == b"" or new.endswith(b"\n")
            data += new
            if ended:
                break
            status = bench.session.poll([handle]).get(handle.key)
            ended = status is not None and status.state.ended
        assert [json.loads(line)["step"] for line in data.splitlines()] == list(range(20))

    # ---- capacity ----------------------------------------------------------------------------

    def test_capacity_counts_what_runs(
        self, bench: Bench, told: Callable[..., dict[str, Any]]
    ) -> None:
        if not bench.session.has("axsched_capacity"):
            absent("capacity")
        free = bench.session.capacity()
        if free is None:
            absent("capacity")
        assert free > 0
        handle = bench.start(told("hang"))
        bench.running(handle)
        assert bench.session.capacity() == free - 1
        bench.session.cancel([handle], "make room")
        bench.status(handle)
        deadline = time.monotonic() + bench.patience
        while bench.session.capacity() != free:
            assert time.monotonic() < deadline, "the place is not given back"
            time.sleep(0.02)

    # ---- trouble -----------------------------------------------------------------------------

    def test_an_outage_is_told_and_passes(
        self,
        bench: Bench,
        told: Callable[..., dict[str, Any]],
        outage: Callable[[], contextlib.AbstractContextManager[object]] | None,
    ) -> None:
        if outage is None:
            not_tested("no fixture outage")
        handle = bench.start(told("hang"))
        bench.running(handle)
        with outage(), pytest.raises(BackendUnavailable):
            # The first polls may return states from a moment ago.
            bench.wait([handle])
        bench.wait([handle], lambda status: not status.state.ended)
        bench.session.cancel([handle], "enough")
        assert bench.status(handle).state is JobState.CANCELLED

    def test_it_is_called_from_another_thread_than_it_was_made_in(
        self, make_runner: Callable[[], object], tmp_path: Path, patience: float
    ) -> None:
        runner, failures = make_runner(), []

        def session() -> None:
            try:
                bench = Bench(runner, tmp_path / "thread", patience)
                bench.session.poll([])
                bench.close()
            except BaseException as error:  # noqa: BLE001 - it is shown below
                failures.append(error)

        thread = threading.Thread(target=session)
        thread.start()
        thread.join(patience)
        assert not thread.is_alive()
        assert failures == []

    # ---- a new driver ------------------------------------------------------------------------

    def _in_new_process(
        self, requests: list[JobRequest], options: Mapping[str, Any], bench: Bench
    ) -> dict[str, Any]:
        if not self.runner_name:
            not_tested("runner_name is not set, so a new process cannot find the runner")
        try:
            text = json.dumps(
                {
                    "runner": self.runner_name,
                    "options": dict(options),
                    "run_id": bench.run_id,
                    "run_dir": str(bench.run_dir),
                    "requests": [
                        {
                            "key": r.key,
                            "trial_index": r.trial_index,
                            "attempt": r.attempt,
                            "parameters": dict(r.parameters),
                            "folder": str(r.folder),
                        }
                        for r in requests
                    ],
                }
            )
        except TypeError as error:
            not_tested(f"runner_options do not survive JSON: {error}")
        ran = subprocess.run(
            [sys.executable, "-m", "axsched_core.testing.reattach"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stderr
        found: dict[str, Any] = json.loads(ran.stdout)
        return found

    def test_a_new_process_finds_the_jobs_of_an_old_one(
        self,
        bench: Bench,
        told: Callable[..., dict[str, Any]],
        runner_options: Mapping[str, Any],
    ) -> None:
        if not bench.session.can(Capability.REATTACH):
            absent("reattach")
        done, hung = bench.request(told("succeed")), bench.request(told("hang"))
        never = bench.request(told("succeed"))
        handles = bench.submit(done, hung)
        bench.status(handles[0])
        bench.running(handles[1])
        found = self._in_new_process([done, hung, never], runner_options, bench)
        assert found[never.key] == "not submitted"
        for handle in handles:
            other = JobHandle(**found[handle.key])
            assert (other.key, other.backend_id) == (handle.key, handle.backend_id)
            assert bench.session.poll([other])[other.key].state is (
                JobState.SUCCEEDED if handle.key == done.key else JobState.RUNNING
            )

    def test_when_nobody_can_say_reattach_does_not_guess(
        self,
        bench: Bench,
        told: Callable[..., dict[str, Any]],
        outage: Callable[[], contextlib.AbstractContextManager[object]] | None,
    ) -> None:
        if not bench.session.can(Capability.REATTACH):
            absent("reattach")
        if outage is None:
            not_tested("no fixture outage")
        known, never = bench.request(told("hang")), bench.request(told("succeed"))
        bench.submit(known)
        with outage():
            try:
                found = bench.session.reattach([known, never])
            except BackendUnavailable:
                found = {}
        assert not any(isinstance(one, NotSubmitted) for one in found.values())

    # ---- the end -----------------------------------------------------------------------------

    def test_closing_leaves_nothing_behind(
        self,
        bench: Bench,
        told: Callable[..., dict[str, Any]],
        leftovers: Callable[[str], list[str]] | None,
    ) -> None:
        handles = bench.submit(*[bench.request(told("hang")) for _ in range(3)])
        bench.running(handles[0])
        began = time.monotonic()
        bench.close()
        assert time.monotonic() - began < bench.patience
        if leftovers is None:
            not_tested("what is left: no fixture leftovers")
        deadline = time.monotonic() + bench.patience
        while leftovers(bench.run_id):
            assert time.monotonic() < deadline, leftovers(bench.run_id)
            time.sleep(0.05)

    def test_what_a_run_has_left_is_listed_and_removed(
        self, bench: Bench, told: Callable[..., dict[str, Any]]
    ) -> None:
        session = bench.session
        if not session.has("axsched_remove_leftovers"):
            absent("leftovers")
        handle = bench.start(told("hang"))
        bench.running(handle)
        assert session.find_leftovers("nobody-s-run") == []
        assert len(session.find_leftovers(bench.run_id)) == 1
        assert len(session.remove_leftovers(bench.run_id)) == 1
        deadline = time.monotonic() + bench.patience
        while session.find_leftovers(bench.run_id):
            assert time.monotonic() < deadline, session.find_leftovers(bench.run_id)
            time.sleep(0.05)
        assert bench.status(handle).state is not JobState.SUCCEEDED
