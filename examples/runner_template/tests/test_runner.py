"""What is special in this runner: options, refusals, messages, and that nothing is mixed twice."""

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from axsched_core import AxScheduler
from axsched_core.errors import BackendUnavailable, InvalidInput
from axsched_core.jobs import JobRequest, JobState, SubmitError

from axsched_robot.info import RobotOptions
from axsched_robot.runner import RobotRunner


@pytest.fixture
def runner(service):
    return RobotRunner(RobotOptions(service.url))


def request(key, **parameters):
    return JobRequest(key, 0, 1, parameters, folder=Path("/nowhere"), objective=None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "url"),
        ({"url": "robot.example"}, "url"),
        ({"url": "http://robot.example", "timeout": 0}, "timeout"),
        ({"url": "http://robot.example", "timeouts": 3}, "Did you mean 'timeout'"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(InvalidInput, match=words):
        AxScheduler(None, "robot", runner_options=options)


def test_what_the_queue_refuses_is_refused_for_good(runner, service):
    good, bad = request("refused-1-1", red=1.0), request("refused-2-1", red=-1.0)
    accepted, refused = runner.axsched_submit([good, bad])
    assert accepted.key == good.key
    assert refused == SubmitError("red is -1.0: a volume is never negative")
    assert [label for label, _ in service.jobs("refused")] == [good.key]


def test_a_submission_whose_answer_is_lost_makes_one_job(runner, service):
    lost = request("lost-1-1", red=1.0)
    service.control("set", loses_answers=True)
    with pytest.raises(BackendUnavailable):
        runner.axsched_submit([lost])
    service.control("set")
    (handle,) = runner.axsched_submit([lost])
    assert runner.axsched_submit([lost]) == [handle]
    other = RobotRunner(RobotOptions(service.url))
    assert other.axsched_submit([lost]) == [handle]
    assert len(service.jobs("lost")) == 1


def test_what_the_robot_says_of_a_failure_reaches_the_user(runner):
    (handle,) = runner.axsched_submit([request("fails-1-1", do="fail")])
    while not (status := runner.axsched_poll([handle])[handle.key]).state.ended:
        pass
    assert (status.state, status.backend_state) == (JobState.FAILED, "FAILED")
    assert status.message == "the needle is blocked"


def test_half_an_answer_is_an_outage():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                asked = b""
                while not asked.endswith(b"}}"):
                    asked += connection.recv(1000)
                connection.sendall(b'HTTP/1.0 200 OK\r\n\r\n"id of a j')

        thread = threading.Thread(target=answer)
        thread.start()
        runner = RobotRunner(RobotOptions(f"http://127.0.0.1:{server.getsockname()[1]}"))
        with pytest.raises(BackendUnavailable):
            runner.axsched_submit([request("torn-1-1")])
        thread.join()


# ---- the stand-in leaves nothing behind ------------------------------------------------------


def answers(url):
    try:
        return RobotRunner(RobotOptions(url, timeout=5.0)).axsched_capacity() > 0
    except BackendUnavailable:
        return False


def test_the_service_ends_when_it_is_stopped(start_service):
    service = start_service()
    assert answers(service.url)
    assert service.stop() == 0
    assert not answers(service.url)


def test_the_service_ends_with_whoever_has_started_it():
    code = "import time; from conftest import Service; print(Service().url); time.sleep(60)"
    starter = subprocess.Popen(
        [sys.executable, "-u", "-c", code], cwd=Path(__file__).parent, stdout=subprocess.PIPE
    )
    url = starter.stdout.readline().decode().strip()
    assert answers(url)
    starter.kill()
    starter.communicate()
    deadline = time.monotonic() + 10
    while answers(url):
        assert time.monotonic() < deadline, "it still answers"
        time.sleep(0.02)
