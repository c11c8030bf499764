"""Pools: each sends a job's folder to a warm worker of some joblib backend.

A pool belongs to one thread, the runner's dispatcher: only it makes, uses and closes it.
``done`` may be called from any thread, more than once, with `warm.ENDED`, `warm.ELSEWHERE`
or a text that says why the job could not reach a worker.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from axsched_core.errors import RunnerError
from axsched_core.worker.axsched_worker import THREAD_VARIABLES
from axsched_joblib import starting, warm
from axsched_joblib.options import PROCESSES, Settings

Done = Callable[[str], None]

TAKE_LIMIT = 1.0
"""Seconds in which loky's thread must have taken a job."""


class Pool(Protocol):
    """What the dispatcher needs from a pool."""

    size: int
    """How many jobs run at a time."""

    def submit(self, task: warm.Task, done: Done) -> None:
        """Start the job as soon as a worker is free. Any exception: it will not start."""

    def close(self) -> None:
        """Release the workers at once. Supervised jobs continue."""


def open_pool(settings: Settings) -> Pool:
    """Make the pool that the settings ask for.

    Raises:
        RunnerError: the backend cannot be used; the message has the backend's text.
    """
    if settings.backend in PROCESSES:
        return LokyPool(settings)
    from joblib.parallel import SequentialBackend

    backend, workers = _initialize_backend(settings)
    if isinstance(backend, SequentialBackend):  # which most backends turn into for n_jobs=1
        return ThreadPool()
    return BackendPool(backend, workers)


def worker_environment(threads: int) -> dict[str, str]:
    """The variables that our processes have beside the driver's."""
    # NumPy is imported by joblib itself, and its BLAS reads these while it is loaded.
    return {name: os.environ.get(name, str(threads)) for name in THREAD_VARIABLES}


class LokyPool:
    """Our own processes, for the backends loky and multiprocessing.

    Use it on a separate thread: that thread ignores Ctrl-C, with all processes that it starts.

    It is a private executor, because joblib's reusable one belongs to the user. multiprocessing's
    own pool does not work: it forks the driver, where torch may have run. Also, with every start
    method, a worker that is killed while it waits keeps the queue's lock forever.
    """

    def __init__(self, settings: Settings) -> None:
        self.size = settings.n_jobs
        self._settings = settings
        self._last: Any = None
        self._executor = self._make()

    def submit(self, task: warm.Task, done: Done) -> None:
        from joblib.externals.loky import BrokenProcessPool

        try:
            future = self._executor.submit(task.function, *task.arguments)
        except BrokenProcessPool:
            # If one worker dies, all its siblings end too; their supervised jobs continue.
            self._executor = self._make()
            future = self._executor.submit(task.function, *task.arguments)
        self._last = future
        future.add_done_callback(functools.partial(_tell_future, done))

    def close(self) -> None:
        # Its thread raises KeyError if it is shut down before it has taken the last submitted task.
        # It takes it at once, so wait for that.
        deadline = time.monotonic() + TAKE_LIMIT
        while self._last is not None and not (self._last.running() or self._last.done()):
            if time.monotonic() > deadline:
                break
            time.sleep(0.001)
        self._executor.shutdown(wait=True, kill_workers=True)

    def _make(self) -> Any:
        from multiprocessing import resource_tracker

        from joblib.externals.loky import ProcessPoolExecutor
        from joblib.externals.loky.backend import resource_tracker as loky_resource_tracker

        # A worker needs half a second until `warm.initialize` makes it ignore Ctrl-C; until then it
        # inherits this. The trackers first: starting one unblocks SIGINT again.
        safe_path = os.environ.get(starting.SAFE_PATH)
        with starting.fit_to_start():
            resource_tracker.ensure_running()
            loky_resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            executor = ProcessPoolExecutor(
                max_workers=self.size,
                timeout=None,
                initializer=warm.initialize,
                initargs=(os.getpid(), safe_path),
                env=worker_environment(self._settings.threads),
            )
            self._last = executor.submit(os.getpid)  # this starts its processes here and not later
        return executor


class BackendPool:
    """Any other joblib backend, used like `joblib.Parallel` uses it."""

    def __init__(self, backend: Any, size: int) -> None:
        self.size = size
        self._backend = backend
        # Newer joblib has submit, older joblib has it under another name.
        self._submit = getattr(self._backend, "submit", None) or self._backend.apply_async

    def submit(self, task: warm.Task, done: Done) -> None:
        tell = functools.partial(_tell_backend, self._backend, done)
        future = self._submit(task, tell)
        # dask calls back only if all went well, but returns a future that tells everything.
        if hasattr(future, "add_done_callback"):
            future.add_done_callback(functools.partial(_tell_future, done))

    def close(self) -> None:
        # The driver has claimed the jobs that are queued on a cluster, so they will not start.
        if hasattr(self._backend, "stop_call"):
            self._backend.stop_call()
        self._backend.terminate()


class ThreadPool:
    """One slot, a thread for each job: joblib has no workers for n_jobs=1."""

    size = 1

    def submit(self, task: warm.Task, done: Done) -> None:
        def work() -> None:
            done(task.function(*task.arguments))

        # A daemon: an in-process function that never returns must not keep the driver alive.
        threading.Thread(target=work, name="axsched-joblib-job", daemon=True).start()

    def close(self) -> None:
        return


def _initialize_backend(settings: Settings) -> tuple[Any, int]:
    """Return a ready joblib backend and the number of its workers."""
    from joblib import Parallel, parallel_config

    try:
        # Only parallel_config knows the backends of other packages (dask).
        backend = settings.backend_object or settings.backend
        with parallel_config(backend=backend, **settings.backend_options):
            parallel = Parallel(n_jobs=settings.n_jobs)
            workers = parallel._initialize_backend()
    except Exception as error:
        raise RunnerError(
            f"joblib's backend {settings.backend!r} cannot be used: {error}"
        ) from error
    backend = parallel._backend
    if hasattr(backend, "start_call"):
        backend.start_call()
    # A cluster may ignore n_jobs and report all its cores.
    return backend, max(1, min(workers, settings.n_jobs))


def _tell_future(done: Done, future: Any) -> None:
    """Pass on a future's content: the result of `warm.run_job`, or the pool's error."""
    error = future.exception()
    done(_words(error) if error is not None else _answer(future.result()))


def _tell_backend(backend: Any, done: Done, out: Any) -> None:
    """The same for the argument of a joblib backend's callback."""
    try:
        answer = _answer(backend.retrieve_result_callback(out))
    except Exception as error:  # noqa: BLE001 - the worker's error, whatever it is
        answer = _words(error)
    done(answer)


def _answer(result: Any) -> str:
    return str(result[0] if isinstance(result, list) else result)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
