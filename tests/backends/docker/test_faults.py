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
    monkeypatch.setattr("axsched_docker.lifecycle.Unexplained.patience", 1.0)
    bench = make_bench(host=proxy.url)
    proxy.refuse = ("/start", 500)
    status = bench.status(bench.sh(WRITE))
    assert (status.state, status.cause) == (JobState.FAILED, Cause.NODE_FAIL)
    assert "(tried for 1 s)" in status.message
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


# ---- what a job has made ---------------------------------------------------------------------

PRINTS = f"i=0; while [ $i -lt 3000 ]; do echo line $i; echo err $i >&2; i=$((i+1)); done; {WRITE}"


@pytest.mark.parametrize("call", ["/logs", "%2Faxsched%2Fjob"])
@pytest.mark.parametrize("size", [400, 20_000])
def test_an_answer_that_is_cut_is_asked_for_again(
    make_bench, proxy: EngineProxy, call: str, size: int
) -> None:
    bench = make_bench(host=proxy.url)
    proxy.cut_answer_to = (call, size)
    handle = bench.sh(f"cd $AXSCHED_JOB_DIR; head -c 100000 /dev/urandom > big; {PRINTS}")
    wait_until(lambda: proxy.count(call) >= 2)
    proxy.cut_answer_to = None
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert bench.log(handle, "stdout").decode().split("\n")[:-1] == [
        f"line {i}" for i in range(3000)
    ]
    assert bench.log(handle, "stderr").decode().count("err") == 3000
    assert (bench.folder(handle) / "big").stat().st_size == 100_000


@pytest.mark.parametrize("call", ["/logs", "%2Faxsched%2Fjob"])
def test_files_that_the_engine_does_not_give_for_a_while(
    make_bench, proxy: EngineProxy, containers, call: str
) -> None:
    bench = make_bench(host=proxy.url)
    proxy.refuse = (call, 500)
    handle = bench.sh(WRITE)
    wait_until(lambda: "cannot be fetched" in bench.session.poll([handle])[handle.key].message)
    assert bench.session.poll([handle])[handle.key].state is JobState.RUNNING
    after(8, proxy)
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert proxy.count("/create") == 1
    wait_until(lambda: containers(bench.run_id) == [])


def test_files_that_the_engine_never_gives(make_bench, proxy, containers, monkeypatch) -> None:
    monkeypatch.setattr("axsched_docker.collector.PATIENCE", 1.0)
    bench = make_bench(host=proxy.url)
    proxy.refuse = ("%2Faxsched%2Fjob", 500)
    handle = bench.sh(WRITE)
    status = bench.status(handle)
    assert (status.state, status.cause) == (JobState.FAILED, Cause.NODE_FAIL)
    assert f"cannot be fetched from {handle.backend_id}, which is kept" in status.message
    assert containers(bench.run_id) == [handle.backend_id]


@pytest.mark.parametrize("files", ["copy", "mount"])
@pytest.mark.parametrize("prints", [False, True])
def test_a_job_s_own_files_called_like_logs_are_kept(make_bench, files: str, prints: bool) -> None:
    bench = make_bench(files=files)
    words = f"cd $AXSCHED_JOB_DIR; echo mine > stdout.log; {WRITE}"
    handle = bench.sh(words + ("; echo printed" if prints else ""))
    assert bench.status(handle).state is JobState.SUCCEEDED
    assert bench.log(handle, "stdout") == (b"printed\n" if prints else b"mine\n")
    own = bench.folder(handle) / "stdout.log.own"
    assert own.exists() == prints
    if prints:
        assert own.read_text() == "mine\n"
    assert not list(bench.folder(handle).glob("*.printed"))


def test_what_a_container_has_printed_is_asked_for_once(make_bench, proxy: EngineProxy) -> None:
    bench = make_bench(host=proxy.url)
    handle = bench.sh("echo out; echo err >&2; exit 3")
    assert bench.status(handle).cause is Cause.EXIT_CODE
    assert proxy.count("/logs") == 1


@pytest.mark.parametrize(("files", "calls"), [("copy", 7), ("mount", 5)])
def test_what_a_container_costs(make_bench, proxy: EngineProxy, containers, files, calls) -> None:
    bench = make_bench(host=proxy.url, files=files)
    bench.status(bench.sh(WRITE))  # the image is known then
    wait_until(lambda: containers(bench.run_id) == [])
    before = len(proxy.calls)
    bench.sh(WRITE)
    bench.woken.get(timeout=60)  # nobody polls
    wait_until(lambda: containers(bench.run_id) == [])
    about_it = [call for call in proxy.calls[before:] if "/_ping" not in call]
    # A thread that makes its first call asks for the version of the interface.
    assert len([call for call in about_it if not call.endswith("/version")]) == calls, about_it
