"""The runner's hooks, driven directly."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import cloudpickle
import joblib
import psutil
import pytest
from axsched_joblib import JobLibRunner, warm
from axsched_joblib.options import JobLibOptions, capture_parallel_config, resolve
from axsched_joblib.pools import LokyPool

from axsched_core import AxScheduler, jobfolder
from axsched_core.errors import InvalidInput
from axsched_core.jobs import (
    CancelOutcome,
    Cause,
    ContainerObjective,
    JobHandle,
    JobState,
    NotReady,
    ScriptObjective,
    SubmitError,
)
from support import early

cloudpickle.register_pickle_by_value(sys.modules[__name__])

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")

MakeSession = Callable[..., Any]
MakePipe = Callable[[str], Any]

EVERY_WAY = [
    {"n_jobs": 2},
    {"n_jobs": 1},
    {"n_jobs": 2, "isolation": "spawn"},
    {"n_jobs": 2, "isolation": "none"},
    {"n_jobs": 2, "backend": "multiprocessing"},
    {"n_jobs": 1, "backend": "multiprocessing"},
    {"n_jobs": 2, "backend": "threading"},
    {"n_jobs": 1, "backend": "threading"},
    {"n_jobs": 2, "backend": "threading", "isolation": "spawn"},
    {"backend": "sequential"},
]


def square(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"loss": parameters["x"] ** 2}


def shell(command: str, **keywords: Any) -> ScriptObjective:
    return ScriptObjective(("/bin/sh", "-c", command), **keywords)


def passing(started: Any, gate: Any) -> ScriptObjective:
    """A job that tells that it has begun and ends when it is let go."""
    return shell(f"echo $$ > {started.path}; read line < {gate.path}")


# ------------------------------------------------------------------ running


@pytest.mark.parametrize("options", EVERY_WAY, ids=lambda o: "-".join(map(str, o.values())))
def test_every_way_to_run(session: MakeSession, options: dict[str, Any]) -> None:
    s = session(**options)
    good = [s.submit(square, {"x": x}) for x in range(5)]
    bad = s.submit(lambda _: 1 / 0)
    script = s.submit(shell('cat "$AXSCHED_PARAMS_FILE"; exit 3'), {"odd": "a'b\n$(id)"})

    statuses = s.wait(*good, bad, script)

    assert [status.state for status in statuses[:5]] == [JobState.SUCCEEDED] * 5
    assert [s.result(handle) for handle in good] == [{"loss": x * x} for x in range(5)]
    assert statuses[5].cause is Cause.EXCEPTION
    assert "ZeroDivisionError" in statuses[5].message
    assert b"ZeroDivisionError" in s.runner.axsched_read_log(bad, "stderr", 0, 10_000)
    assert (statuses[6].cause, statuses[6].exit_code) == (Cause.EXIT_CODE, 3)
    assert json.loads(s.runner.axsched_read_log(script, "stdout", 0, 1000)) == {"odd": "a'b\n$(id)"}


@pytest.mark.parametrize("isolation", ["fork", "spawn"])
def test_a_job_s_crash_is_its_own(session: MakeSession, isolation: str) -> None:
    def segfault(_: Any) -> None:
        import ctypes

        ctypes.string_at(0)

    s = session(n_jobs=2, isolation=isolation)
    jobs = [
        s.submit(segfault),
        s.submit(lambda _: os._exit(4)),
        s.submit(lambda _: os.kill(os.getpid(), signal.SIGKILL)),
        s.submit(square, {"x": 2}),
    ]
    statuses = s.wait(*jobs)
    assert [status.signal for status in statuses] == [signal.SIGSEGV, None, signal.SIGKILL, None]
    assert statuses[1].exit_code == 4
    assert statuses[3].state is JobState.SUCCEEDED


def test_jobs_of_one_worker_draw_different_random_numbers(session: MakeSession) -> None:
    def draw(_: Any) -> dict[str, Any]:
        import numpy as np

        return {"python": random.random(), "numpy": np.random.random_sample()}

    s = session(n_jobs=1)
    jobs = [s.submit(draw) for _ in range(3)]
    s.wait(*jobs)
    results = [s.result(handle) for handle in jobs]
    assert len({r["python"] for r in results}) == len({r["numpy"] for r in results}) == 3


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_an_objective_may_use_processes_of_its_own(session: MakeSession, backend: str) -> None:
    def nested(_: Any) -> float:
        import multiprocessing

        import joblib

        total = sum(joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-i) for i in range(4)))
        with multiprocessing.get_context("fork").Pool(2) as pool:
            return total + sum(pool.map(abs, [-1, -2]))

    s = session(n_jobs=2, backend=backend)
    job = s.submit(nested)
    assert s.wait(job)[0].state is JobState.SUCCEEDED, s.status(job)
    assert s.result(job) == 9
    assert b"died unexpectedly" not in s.runner.axsched_read_log(job, "stderr", 0, 10_000)


def test_the_user_s_own_modules_are_found(
    session: MakeSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_module.py").write_text("def f(parameters): return parameters['x'] + 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import users_module  # type: ignore[import-not-found]

    for isolation in ("fork", "spawn"):
        s = session(n_jobs=1, isolation=isolation)
        job = s.submit(users_module.f, {"x": 1})
        assert s.wait(job)[0].state is JobState.SUCCEEDED, s.status(job)
        assert s.result(job) == 2


def make_twins(root: Path, name: str) -> tuple[str, str]:
    """Two folders with a module of one name; the second one's is wrong."""
    for folder, value in (("drivers", 1), ("others", 2)):
        (root / folder).mkdir()
        (root / folder / f"{name}.py").write_text(f"VALUE = {value}\n")
    return str(root / "drivers"), str(root / "others")


EACH_ISOLATION = [
    {"backend": "loky", "isolation": "fork"},
    {"backend": "loky", "isolation": "spawn"},
    {"backend": "loky", "isolation": "none"},
    {"backend": "threading", "isolation": "spawn"},
    {"backend": "threading", "isolation": "none"},
]


@pytest.mark.parametrize("options", EACH_ISOLATION, ids=lambda o: "-".join(o.values()))
def test_a_folder_that_the_driver_puts_first_is_first_in_its_jobs(
    session: MakeSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    name = "twin_" + "_".join(options.values())
    drivers, others = make_twins(tmp_path, name)

    def value(_: Any) -> int:
        return importlib.import_module(name).VALUE  # type: ignore[no-any-return]

    monkeypatch.setattr(sys, "path", [others, *sys.path])
    monkeypatch.setenv("PYTHONPATH", others)  # as if they were installed
    s = session(n_jobs=1, **options)
    s.wait(s.submit(square, {"x": 1}))  # its workers have begun
    sys.path.insert(0, drivers)
    before = list(sys.path)
    job = s.submit(value)
    assert s.wait(job)[0].state is JobState.SUCCEEDED, s.status(job)
    assert s.result(job) == 1
    assert sys.path == before


@pytest.mark.parametrize("isolation", ["fork", "none"])
def test_a_module_that_a_worker_has_from_elsewhere_is_not_the_job_s(
    session: MakeSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:
    # What a pool's worker loads for itself, it has found before it knew the driver's path.
    drivers, others = make_twins(tmp_path, "early")
    (tmp_path / "others" / "sitecustomize.py").write_text("import early\n")
    monkeypatch.setenv("PYTHONPATH", others)
    s = session(n_jobs=1, isolation=isolation)
    monkeypatch.setattr(sys, "path", [drivers, *sys.path])

    def value(_: Any) -> int:
        import early  # type: ignore[import-not-found]

        return early.VALUE  # type: ignore[no-any-return]

    job = s.submit(value)
    assert s.wait(job)[0].state is JobState.SUCCEEDED, s.status(job)
    assert s.result(job) == 1


@pytest.mark.parametrize("isolation", ["fork", "spawn"])
def test_a_module_of_the_driver_s_that_hides_one_of_python_s_own(
    session: MakeSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:
    drivers, _ = make_twins(tmp_path, "colorsys")
    monkeypatch.setattr(sys, "path", [drivers, *sys.path])
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    importlib.import_module("colorsys")

    def value(_: Any) -> int:
        return importlib.import_module("colorsys").VALUE  # type: ignore[no-any-return]

    s = session(n_jobs=1, isolation=isolation)
    job = s.submit(value)
    assert s.wait(job)[0].state is JobState.SUCCEEDED, s.status(job)
    assert s.result(job) == 1
    monkeypatch.delitem(sys.modules, "colorsys")


@pytest.mark.parametrize("isolation", ["fork", "spawn"])
@pytest.mark.parametrize("entry", ["", "lib"])
def test_modules_beside_a_notebook_are_found(
    session: MakeSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    isolation: str,
    entry: str,
) -> None:
    """A notebook and a REPL have "" on their path: the directory that the driver is in."""
    name = f"beside_{isolation}_{entry}"
    monkeypatch.setattr(sys, "path_importer_cache", {})  # it has relative paths
    (tmp_path / "there" / entry).mkdir(parents=True)
    source = "def f(parameters): return parameters['x'] + 1\n"
    (tmp_path / "there" / entry / f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path / "there")
    monkeypatch.setattr(sys, "path", [entry, *filter(None, sys.path)])
    function = importlib.import_module(name).f
    s = session(n_jobs=1, isolation=isolation)
    monkeypatch.chdir("/")  # where the driver goes later does not matter
    job = s.submit(function, {"x": 1})
    assert s.wait(job)[0].state is JobState.SUCCEEDED, s.status(job)
    assert s.result(job) == 2


def test_a_search_path_that_has_more_than_strings(
    session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, Path("/no/string")])  # Python passes over it
    s = session(n_jobs=1)
    job = s.submit(square, {"x": 3})
    assert s.wait(job)[0].state is JobState.SUCCEEDED, s.status(job)


def test_a_runner_can_be_made_where_the_directory_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    JobLibRunner(1)


def test_threads_per_job(session: MakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def limits(_: Any) -> dict[str, float]:
        import threadpoolctl

        blas = threadpoolctl.threadpool_info()
        return {
            "omp": float(os.environ["OMP_NUM_THREADS"]),
            "mkl": float(os.environ["MKL_NUM_THREADS"]),
            "blas": max(pool["num_threads"] for pool in blas) if blas else 1.0,
        }

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    for options in ({}, {"isolation": "spawn"}, {"backend": "multiprocessing"}):
        s = session(n_jobs=2, threads_per_job=1, **options)
        job = s.submit(limits)
        s.wait(job)
        assert s.result(job) == {"omp": 1, "mkl": 5, "blas": 1}


# ------------------------------------------------------------------ submitting


def test_at_most_n_jobs_run_and_capacity_tells(session: MakeSession, pipe: MakePipe) -> None:
    s, started, gate = session(n_jobs=2), pipe("started"), pipe("gate")
    assert s.runner.axsched_capacity() == 2
    jobs = [s.submit(passing(started, gate)) for _ in range(4)]
    assert s.runner.axsched_capacity() == 0
    started.read_lines(2)
    assert [s.status(job).state for job in jobs] == [JobState.RUNNING] * 2 + [JobState.QUEUED] * 2
    assert started.is_empty()
    gate.let_go(2)
    s.wait(*jobs[:2])
    started.read_lines(2)
    gate.let_go(2)
    s.wait(*jobs[2:])
    assert s.comes_to_have(free=2)


def test_the_same_key_is_submitted_once(session: MakeSession, tmp_path: Path) -> None:
    s = session(n_jobs=2)
    request = s.request(shell(f"echo >> {tmp_path}/count"))
    first, second = s.submit_requests([request, request])
    assert first == second
    s.wait(first)
    assert s.submit_requests([request]) == [first]
    s.wait(s.submit(shell("true")))
    assert (tmp_path / "count").read_text() == "\n"


def test_one_bad_request_fails_alone(session: MakeSession) -> None:
    s = session(n_jobs=1)
    good = s.request(square, {"x": 1})
    container = attrs.evolve(s.request(square), objective=ContainerObjective("image"))
    homeless = attrs.evolve(s.request(square), folder=s.root / "nowhere")
    answers = s.runner.axsched_submit([container, homeless, good])
    assert isinstance(answers[0], SubmitError)
    assert "functions and scripts, not container" in answers[0].message
    assert isinstance(answers[1], SubmitError)
    assert not answers[1].transient
    assert s.wait(answers[2])[0].state is JobState.SUCCEEDED


def test_scripts_keep_their_time_limit_without_isolation(session: MakeSession) -> None:
    s = session(n_jobs=2, isolation="none")
    script = s.submit(shell("sleep 100"), time_limit=0.2)
    assert s.wait(script)[0].cause is Cause.TIME_LIMIT


def test_time_limit(session: MakeSession) -> None:
    s = session(n_jobs=1)
    job = s.submit(shell("sleep 100"), time_limit=0.2)
    assert s.wait(job)[0].cause is Cause.TIME_LIMIT


def test_a_job_whose_worker_cannot_start_is_given_up(session: MakeSession) -> None:
    s = session(n_jobs=1)
    request = s.request(square)
    (request.folder / jobfolder.WORKER).unlink()
    (request.folder / jobfolder.WORKER).write_text("raise RuntimeError('broken worker')\n")
    (job,) = s.submit_requests([request])
    (status,) = s.wait(job)
    assert status.state is JobState.LOST
    assert "broken worker" in status.message
    assert not jobfolder.try_claim(request.folder, "nobody")


# ------------------------------------------------------------------ cancelling


@pytest.mark.parametrize("options", [{}, {"isolation": "spawn"}, {"backend": "multiprocessing"}])
def test_cancel_running_and_queued(
    session: MakeSession, pipe: MakePipe, options: dict[str, Any]
) -> None:
    s, started, gate = session(n_jobs=2, **options), pipe("started"), pipe("gate")
    jobs = [s.submit(passing(started, gate)) for _ in range(4)]
    pids = [int(line) for line in started.read_lines(2)]
    begin = time.monotonic()
    assert s.runner.axsched_cancel(jobs, "the user") == {
        job.key: CancelOutcome.REQUESTED for job in jobs
    }
    statuses = s.wait(*jobs)
    assert time.monotonic() - begin < 1.5
    assert {status.state for status in statuses} == {JobState.CANCELLED}
    assert statuses[0].message == "cancelled: the user"
    assert all(s.ended(pid, within=0.0) for pid in pids)
    assert started.is_empty()
    assert not (s.folder(jobs[3]) / jobfolder.STDOUT).exists()
    assert s.cancel(jobs[0]) is CancelOutcome.ALREADY_ENDED
    assert s.cancel(jobs[3]) is CancelOutcome.REQUESTED
    assert s.cancel(JobHandle("x", data={"folder": "/no/such"})) is CancelOutcome.UNKNOWN_JOB
    # The slots are free again.
    assert s.wait(s.submit(shell("true")))[0].state is JobState.SUCCEEDED


def test_a_cancelled_job_may_save_a_checkpoint(session: MakeSession, pipe: MakePipe) -> None:
    s, started = session(n_jobs=1, stop_grace=8.0), pipe("started")
    words = f"trap 'sleep 1; echo saved; exit' TERM; echo 1 >{started.path}; while :; do sleep 0.1"
    job = s.submit(shell(f"{words}; done"))
    started.read()
    s.cancel(job)
    assert s.wait(job)[0].state is JobState.CANCELLED
    assert (s.folder(job) / jobfolder.STDOUT).read_text() == "saved\n"


def test_a_thread_cannot_be_cancelled_but_what_waits_for_it_can(session: MakeSession) -> None:
    s = session(n_jobs=1, backend="threading")
    began, go_on = threading.Event(), threading.Event()
    _shared.update(began=began, go_on=go_on)
    running, waiting = s.submit(_wait_in_thread), s.submit(square, {"x": 1})
    assert began.wait(30)
    assert s.status(running).state is JobState.RUNNING
    assert s.cancel(running) is CancelOutcome.NOT_POSSIBLE
    assert s.cancel(waiting) is CancelOutcome.REQUESTED
    go_on.set()
    first, second = s.wait(running, waiting)
    assert (first.state, second.state) == (JobState.SUCCEEDED, JobState.CANCELLED)


_shared: dict[str, threading.Event] = {}


def _wait_in_thread(_: Any) -> float:
    shared = sys.modules[MODULE]._shared
    shared["began"].set()
    assert shared["go_on"].wait(60)
    return 1.0


MODULE = __name__


def test_close_does_not_wait_for_a_thread(session: MakeSession) -> None:
    for n_jobs in (1, 2):
        s = session(n_jobs=n_jobs, backend="threading")
        _shared.update(began=threading.Event(), go_on=threading.Event())
        s.submit(_wait_in_thread)
        assert _shared["began"].wait(30)
        begin = time.monotonic()
        s.close(wait=True)
        assert time.monotonic() - begin < 5
        _shared["go_on"].set()


# ------------------------------------------------------------------ deaths


def workers() -> list[psutil.Process]:
    """The processes of pools that this process has started."""
    found = []
    for child in psutil.Process().children():
        command = child.cmdline()
        if any("popen_loky_posix" in word for word in command):
            found.append(child)
    return found


@linux
@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_a_killed_worker_loses_no_job_and_repeats_none(
    session: MakeSession, pipe: MakePipe, tmp_path: Path, backend: str
) -> None:
    s, started, gate = session(n_jobs=2, backend=backend), pipe("started"), pipe("gate")
    log = tmp_path / "log"
    command = f"echo $AXSCHED_TRIAL_INDEX >> {log}; echo > {started.path}; read l < {gate.path}"
    jobs = [s.submit(shell(command)) for _ in range(6)]
    started.read_lines(2)
    killed = workers()
    for worker in killed:
        with contextlib.suppress(psutil.NoSuchProcess):  # loky ends the siblings of a dead one
            worker.kill()
            worker.wait(5)
    assert started.is_empty(within=2.0), "the orphans still fill all slots"
    assert len(set(workers()) - set(killed)) == 2, "and there is a new pool"
    assert [s.status(job).state for job in jobs[:2]] == [JobState.RUNNING] * 2
    assert s.runner.axsched_capacity() == 0
    gate.let_go(6)
    statuses = s.wait(*jobs)
    assert {status.state for status in statuses} == {JobState.SUCCEEDED}
    assert sorted(log.read_text().split()) == list("123456")
    assert s.comes_to_have(free=2)


@linux
@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_workers_killed_again_and_again(session: MakeSession, tmp_path: Path, backend: str) -> None:
    s = session(n_jobs=2, backend=backend)
    jobs = [s.submit(shell(f"echo x >> {tmp_path}/{i}; sleep 0.02")) for i in range(30)]
    for number in (3, 12, 20):
        s.wait(*jobs[:number])
        for worker in workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
    statuses = s.wait(*jobs)
    runs = [
        (tmp_path / str(i)).read_text() if (tmp_path / str(i)).exists() else "" for i in range(30)
    ]
    lost = [status for status in statuses if status.state is JobState.LOST]
    assert all(run in ("x\n", "") for run in runs), "nothing runs twice"
    assert len(lost) <= 2, "only what a worker was just about to start"
    assert {s.state for s in statuses if s not in lost} == {JobState.SUCCEEDED}


@linux
def test_a_killed_supervisor_means_lost(session: MakeSession, pipe: MakePipe) -> None:
    s, started, gate = session(n_jobs=1), pipe("started"), pipe("gate")
    job = s.submit(passing(started, gate))
    (pid,) = map(int, started.read_lines(1))
    s.supervisor(job).kill()
    (status,) = s.wait(job)
    assert (status.state, status.cause) == (JobState.LOST, Cause.LOST)
    assert "left no exit file" in status.message
    assert s.ended(pid)
    assert s.comes_to_have(free=1)


def test_a_dead_worker_without_isolation_is_a_lost_job(session: MakeSession) -> None:
    s = session(n_jobs=2, isolation="none")
    job = s.submit(lambda _: os._exit(1))
    assert s.wait(job)[0].state is JobState.LOST
    assert s.wait(s.submit(square, {"x": 3}))[0].state is JobState.SUCCEEDED


def test_a_claim_excludes_a_second_start(session: MakeSession, tmp_path: Path) -> None:
    s = session(n_jobs=1)
    request = s.request(shell(f"touch {tmp_path}/ran"))
    assert jobfolder.try_claim(request.folder, "somebody else")
    (job,) = s.submit_requests([request])
    assert s.wait(job)[0].state is JobState.LOST
    assert not (tmp_path / "ran").exists()


def test_a_handle_of_an_earlier_driver(session: MakeSession, tmp_path: Path) -> None:
    s = session(n_jobs=1)
    finished = s.submit(square, {"x": 2})
    s.wait(finished)
    never_begun = s.request(shell(f"touch {tmp_path}/ran"))
    handle = JobHandle(never_begun.key, data={"folder": str(never_begun.folder)})
    s.close()
    s.open()
    assert s.status(finished).state is JobState.SUCCEEDED
    assert s.result(finished) == {"loss": 4}
    status = s.status(handle)
    assert status.state is JobState.LOST
    assert "the driver that submitted it has ended" in status.message
    assert not jobfolder.try_claim(never_begun.folder, "it can never run")


# ------------------------------------------------------------------ opening and closing


@pytest.mark.parametrize(
    "options", [{}, {"backend": "multiprocessing"}, {"backend": "threading", "isolation": "spawn"}]
)
def test_close_ends_workers_and_queue_but_no_running_job(
    session: MakeSession, pipe: MakePipe, options: dict[str, Any]
) -> None:
    s, started, gate = session(n_jobs=2, **options), pipe("started"), pipe("gate")
    jobs = [s.submit(passing(started, gate)) for _ in range(3)]
    (pid, _) = map(int, started.read_lines(2))
    s.close(wait=True)
    s.close(wait=True)
    assert workers() == []
    assert psutil.pid_exists(pid)
    s.open()
    assert s.status(jobs[0]).state is JobState.RUNNING
    status = s.status(jobs[2])
    assert status.state is JobState.LOST
    assert "the runner was closed before it ran" in status.message
    gate.let_go(3)
    for job in jobs[:2]:
        assert s.ended(s.supervisor(job).pid)
        assert s.status(job).state is JobState.SUCCEEDED
    assert started.is_empty()
    # Another scheduler uses the runner.
    assert s.wait(s.submit(square, {"x": 1}))[0].state is JobState.SUCCEEDED


def test_close_waits_for_cancelled_jobs(session: MakeSession, pipe: MakePipe) -> None:
    s, started = session(n_jobs=1), pipe("started")
    job = s.submit(shell(f"trap '' TERM; echo $$ > {started.path}; while :; do sleep 9; done"))
    started.read_lines(1)
    s.cancel(job)
    s.close(wait=True)
    s.open()
    assert s.status(job).state is JobState.CANCELLED


def test_the_user_s_own_parallel_works_all_the_time(session: MakeSession, pipe: MakePipe) -> None:
    def parallel(backend: str) -> list[int]:
        found: list[int] = joblib.Parallel(n_jobs=2, backend=backend)(
            joblib.delayed(abs)(-i) for i in range(10)
        )
        return found

    expected = list(range(10))
    assert parallel("loky") == expected
    users = workers()
    s, started, gate = session(n_jobs=2), pipe("started"), pipe("gate")
    jobs = [s.submit(passing(started, gate)) for _ in range(2)]
    started.read_lines(2)
    assert parallel("loky") == expected
    assert parallel("threading") == expected
    for worker in workers():
        if worker not in users:
            with contextlib.suppress(psutil.NoSuchProcess):  # its siblings end with the first
                worker.kill()
    gate.let_go(2)
    s.wait(*jobs)
    assert parallel("loky") == expected
    s.close()
    assert parallel("loky") == expected
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


# ------------------------------------------------------------------ looking at jobs


def test_logs_and_progress_while_the_job_runs(session: MakeSession, pipe: MakePipe) -> None:
    s, started, gate = session(n_jobs=1), pipe("started"), pipe("gate")
    go = shlex.quote(gate.path)
    job = s.submit(
        shell(
            'printf "12345\\n"; printf "err" >&2; '
            'printf \'{"a": 1}\\n{"torn\' > "$AXSCHED_PROGRESS_FILE"; '
            f"echo > {started.path}; read l < {go}"
        )
    )
    started.read_lines(1)
    runner = s.runner
    assert runner.axsched_read_log(job, "stdout", 0, 100) == b"12345\n"
    assert runner.axsched_read_log(job, "stdout", 2, 2) == b"34"
    assert runner.axsched_read_log(job, "stderr", 0, 100) == b"err"
    jobs, start = [job, JobHandle("unknown")], {job.key: 0, "unknown": 0}
    assert runner.axsched_read_progress(jobs, start) == {job.key: b'{"a": 1}\n'}
    assert runner.axsched_read_progress([job], {job.key: 9}) == {job.key: b""}
    assert isinstance(runner.axsched_fetch_results([job])[job.key], NotReady)
    with pytest.raises(InvalidInput, match="stdout and stderr"):
        runner.axsched_read_log(job, "stdin", 0, 1)
    gate.let_go()
    s.wait(job)


def test_preview_shows_and_runs_nothing(session: MakeSession) -> None:
    s = session(n_jobs=2)
    function, script = s.request(square, {"x": 1}), s.request(shell("echo 'a b'", env={"A": "1 2"}))
    before = sorted(os.listdir(function.folder))
    shown = s.runner.axsched_preview([function, script])
    assert shown[function.key].startswith("square(parameters)\n")
    assert "isolation fork" in shown[function.key] or not sys.platform.startswith("linux")
    assert """A="$A" /bin/sh -c 'echo '"'"'a b'"'"''""" in shown[script.key]
    assert sorted(os.listdir(function.folder)) == before


def test_a_pool_is_closed_right_after_a_job_was_given_to_it(tmp_path: Path) -> None:
    settings = resolve(JobLibOptions(2), capture_parallel_config())

    def use() -> None:
        for _ in range(12):  # loky's own thread would raise in every third
            pool = LokyPool(settings)
            for _ in range(2):
                pool.submit(warm.Task(str(tmp_path / "missing"), "fork", {}), lambda answer: None)
            pool.close()

    with ThreadPoolExecutor(1) as of_its_own:
        of_its_own.submit(use).result()


def odd_ones_hang(x: float) -> float:
    from axsched_core import report

    report(step=1, loss=0.75)
    while int(os.environ["AXSCHED_TRIAL_INDEX"]) % 2:
        time.sleep(0.05)
    return 0.5


def test_jobs_that_report_are_stopped_early(tmp_path: Path) -> None:
    config = {"job_output_dir": tmp_path, "monitoring_interval": 0.5, "progress": False}
    with AxScheduler(early.StopsOdd(), "joblib", config, {"n_jobs": 2}) as scheduler:
        scheduler.set_objective_function(odd_ones_hang)
        early.check(scheduler)
