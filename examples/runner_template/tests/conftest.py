"""The robot's queue as a separate process, and its controls."""

import json
import subprocess
import sys
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest


class Service:
    """A running `queue_service`."""

    def __init__(self, places=8, seconds=0.02):
        script = Path(__file__).with_name("queue_service.py")
        self.process = subprocess.Popen(
            [sys.executable, script, f"--places={places}", f"--seconds={seconds}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self.process.stdout.readline().strip()
        self._opener = build_opener(ProxyHandler({}))

    def _post(self, path, method, arguments):
        body = json.dumps({"method": method, "arguments": arguments}).encode()
        with self._opener.open(self.url + path, body, 10) as answer:
            return json.load(answer)

    def control(self, method, **arguments):
        return self._post("/control", method, arguments)

    def jobs(self, prefix):
        """Label and status of the jobs with a label that begins with the prefix."""
        return self._post("", "list_jobs", {"prefix": prefix})

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(10)


@pytest.fixture(scope="session")
def start_service():
    """Start a service; when the tests are over, all services are stopped and checked."""
    started = []

    def start(**settings):
        started.append(Service(**settings))
        return started[-1]

    yield start
    assert [service.stop() for service in started] == [0] * len(started)


@pytest.fixture(scope="session")
def _shared_service(start_service):
    return start_service()


@pytest.fixture
def service(_shared_service):
    """One service for all tests, without running jobs."""
    _shared_service.control("clear")
    return _shared_service
