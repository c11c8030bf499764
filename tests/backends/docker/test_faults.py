"""An engine that answers, but cannot serve: no trial is lost by it, and none runs twice."""

from __future__ import annotations

import threading

import pytest

from axsched_core.errors import BackendUnavailable
from axsched_core.jobs import Cause, JobState
from support.engine_proxy import EngineProxy
from support.waiting import wait_until

WRITE = "echo '{\"loss\": 1}' > $AXSCHED_RESULT_FILE"


def after(seconds: float, proxy: EngineProxy) -> None:
    """Let the engine work again."""

    def heal() -> None:
        proxy.refuse = proxy.cut_answer_to = None

    threading.Timer(seconds, heal).start()


def test_a_service_that_is_out_of_order_is_an_outage(make_bench, proxy: EngineProxy) -> None:
    bench = make_bench(host=proxy.url)
    before = bench.sh(f"sleep 2; {WRITE}")
    bench.running(before)
    proxy.refuse = ("/", 503)
    during = bench.sh(WRITE)
    with pytest.raises(BackendUnavailable, match="out of order \\(503\\)"):
        bench.session.poll([before, during])
    cancelled = bench.sh("sleep 600")
    bench.session.cancel([cancelled], "enough")
    wait_until(
        lambda: proxy.count("/create") >= 2
    )  # it ends meanwhile, and its files are asked for
    after(6, proxy)
    wait_until(lambda: proxy.refuse is None)
    statuses = bench.wait([before, during, cancelled])
    assert [statuses[one.key].state for one in (before, during, cancelled)] == [
        JobState.SUCCEEDED,
        JobState.SUCCEEDED,
        JobState.CANCELLED,
    ]


@pytest.mark.parametrize("call", ["/containers/json", "/info"])
def test_a_question_about_no_container_says_nothing_of_a_job(
    make_bench, proxy: EngineProxy, call: str
) -> None:
    bench = make_bench(host=proxy.url)
    handle = bench.sh("sleep 600")
    bench.running(handle)
    proxy.refuse = (call, 500)
    with pytest.raises(BackendUnavailable, match="out of order \\(500\\)"):
        if call == "/info":
            make_bench(host=proxy.url)
        else:
            bench.session.poll([handle])
    proxy.refuse = None
    assert bench.session.poll([handle])[handle.key].state is JobState.RUNNING


@pytest.mark.parametrize("call", ["/create", "/archive", "/start"])
def test_a_start_that_fails_without_a_reason_is_tried_again(
    make_bench, proxy: EngineProxy, call: str
) -> None:
    bench = make_bench(host=proxy.url, max_containers=4)
    proxy.refuse = (call, 500)
    handles = [bench.sh(WRITE) for _ in range(6)]
    wait_until(lambda: bench.session.poll(handles)[handles[0].key].message != "")
    status = bench.session.poll(handles)[handles[0].key]
    assert status.state is JobState.QUEUED
    assert "the service is out of order" in status.message
    after(5, proxy)
    statuses = bench.wait(handles)
    assert {one.state for one in statuses.values()} == {JobState.SUCCEEDED}, statuses


def test_a_start_that_never_works_is_a_fault_of_the_machine(
    make_bench, proxy: EngineProxy, containers, monkeypatch
) -> None:
    monkeypatch.setattr("axsched_docker.containers.START_PATIENCE", 1.0)
    bench = make_bench(host=proxy.url)
    proxy.refuse = ("/start", 500)
    status = bench.status(bench.sh(WRITE))
    assert (status.state, status.cause) == (JobState.FAILED, Cause.NODE_FAIL)
    assert "not started within 1 s" in status.message
    assert "the service is out of order" in status.message
    assert containers(bench.run_id) == []


def test_who_cannot_be_stopped_now_is_stopped_later(make_bench, proxy: EngineProxy) -> None:
    bench = make_bench(host=proxy.url, stop_grace=0.5)
    handle = bench.sh("sleep 600")
    bench.running(handle)
    proxy.refuse = ("/axsched-", 500)  # all calls about one container
    bench.session.cancel([handle], "enough")
    before = proxy.count("/axsched-")
    wait_until(lambda: proxy.count("/axsched-") >= before + 3)
    proxy.refuse = None
    assert bench.status(handle).state is JobState.CANCELLED
