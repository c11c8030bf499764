"""The runner keeps the contract: axsched has the tests, these fixtures control the queue."""

from contextlib import contextmanager

import pytest
from axsched_core.testing import RunnerConformance


class TestConformance(RunnerConformance):
    runner_name = "robot"

    @pytest.fixture
    def runner_options(self, service):
        return {"url": service.url}

    @pytest.fixture
    def parameters_for(self):
        told = {
            "succeed": {"red": 0.5, "yellow": 0.25, "blue": 0.0},
            "fail": {"do": "fail"},
            "hang": {"do": "hang"},
            "late": {"do": "late"},
        }
        return told.get

    @pytest.fixture
    def received(self, service):
        return lambda handle: service.control("get_parameters", job_id=handle.backend_id)

    @pytest.fixture
    def backend_calls(self, service):
        return lambda: service.control("count_calls")

    @pytest.fixture
    def calls_for_200_jobs(self):
        return 200  # the queue is asked for one job at a time

    @pytest.fixture
    def outage(self, service):
        return lambda: _while(service, dead=True)

    @pytest.fixture
    def answer_lost(self, service):
        return lambda: _while(service, loses_answers=True)

    @pytest.fixture
    def jobs_made(self, service):
        return lambda key: [label for label, _ in service.jobs(key)].count(key)

    @pytest.fixture
    def leftovers(self, service):
        def find(run_id):
            jobs = service.jobs(run_id)
            return [label for label, status in jobs if status in ("STAGED", "RUNNING")]

        return find


@contextmanager
def _while(service, **trouble):
    service.control("set", **trouble)
    try:
        yield
    finally:
        service.control("set")
