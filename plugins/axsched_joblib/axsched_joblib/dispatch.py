"""Sends jobs to the pool's workers, at most as many at a time as it has slots.

One thread owns the pool; other threads send it messages. So a callback from inside a dying pool
never makes, uses or closes a pool itself.
"""

from __future__ import annotations

import enum
import logging
import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial

from attrs import define, field, frozen

from axsched_joblib import starting, warm
from axsched_joblib.host import Host, State
from axsched_joblib.modules import Modules
from axsched_joblib.options import Settings
from axsched_joblib.pools import Pool, open_pool, worker_environment

ATTEMPTS = 3
"""How often a job is sent to a worker before it is given up. Once it has begun, it is sent again as
often as workers die, only to wait for its end."""
TICK = 1.0
"""Seconds between two checks for changes without a callback."""
CLOSE_LIMIT = 10.0
"""Seconds that `Dispatcher.close` waits for the pool."""

_log = logging.getLogger("axsched")


class Phase(enum.Enum):
    """The dispatcher's stage of a job."""

    ACTIVE = "active"
    """It waits for a slot, or has one."""
    ELSEWHERE = "elsewhere"
    """It runs at a place where the dispatcher cannot wait for it."""
    ENDED = "ended"
    UNKNOWN = "unknown"
    """It is not ours (it is an earlier driver's)."""


@frozen
class Progress:
    """What `Dispatcher.progress` returns."""

    phase: Phase
    isolation: str | None = None
    words: str = ""
    """Why the job did not reach a worker, the last time that this failed."""
    age: float = 0.0
    """Seconds since the job has left the phase `ACTIVE`."""


@define(eq=False)
class _Job:
    key: str
    folder: str
    isolation: str
    env: Mapping[str, str] = field(repr=False)
    modules: Modules | None = None
    """What it probably imports; None: it is no function."""
    phase: Phase = Phase.ACTIVE
    attempts: int = 0
    words: str = ""
    """Why it could not reach a worker."""
    settled_at: float = 0.0
    """By the monotonic clock, s."""

    def has(self, name: str) -> bool:
        return os.path.exists(os.path.join(self.folder, name))


_open_dispatchers: weakref.WeakSet[Dispatcher] = weakref.WeakSet()
_registered = False


def _close_at_exit(dispatcher: Dispatcher) -> None:
    """Make sure that a driver that forgets to close can end.

    At the end of the interpreter loky waits for the work of its pools. It registers this with
    `threading` when the first pool starts, and the last registered function is called first: so
    call this after a pool got its first job.
    """
    global _registered
    _open_dispatchers.add(dispatcher)
    register = getattr(threading, "_register_atexit", None)  # what loky itself uses
    if register is not None and not _registered:
        _registered = True
        register(_close_all)


def _close_all() -> None:
    for dispatcher in list(_open_dispatchers):
        dispatcher.close()


class Dispatcher:
    """The waiting queue, the pool, and the thread between them.

    Args:
        settings: which pool.
        wake: called with a job's key when there is news about it, from the dispatcher's thread.

    Raises:
        RunnerError: the backend cannot be used.
    """

    def __init__(self, settings: Settings, wake: Callable[[str], None]) -> None:
        self._settings = settings
        self._wake = wake
        self._jobs: dict[str, _Job] = {}
        self._waiting: deque[_Job] = deque()
        self._in_flight: dict[str, tuple[_Job, int]] = {}
        self._active = 0
        self._lock = threading.Lock()  # for _active and the jobs' phases
        self._messages: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._pool: Pool | None = None
        env = {**os.environ, **worker_environment(settings.threads)}
        self._host = Host(env, lambda: self._messages.put(lambda: None))
        self._closing = False
        self._failure: BaseException | None = None
        self._next_look = time.monotonic() + TICK
        self.slots = 0
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="axsched-joblib", daemon=True
        )
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            raise self._failure

    # ------------------------------------------------------------ for other threads

    def add(
        self,
        key: str,
        folder: str,
        isolation: str,
        env: Mapping[str, str],
        modules: Modules | None = None,
    ) -> None:
        """Take a job. ``modules``: what it probably imports, if it is a function."""
        job = _Job(key, folder, isolation, env, modules)
        self._jobs[key] = job
        with self._lock:
            self._active += 1
        self._messages.put(partial(self._waiting.append, job))

    def forget(self, key: str) -> None:
        """A job was cancelled before it began: release it as soon as possible."""
        job = self._jobs.get(key)
        if job is not None:
            self._messages.put(partial(self._drop, job))

    def ended(self, key: str) -> None:
        """The job's folder says that it has ended, maybe before its worker says so."""
        job = self._jobs.get(key)
        if job is not None:
            self._leave(job, Phase.ENDED)

    def progress(self, key: str) -> Progress:
        """The dispatcher's stage of a job."""
        job = self._jobs.get(key)
        if job is None:
            return Progress(Phase.UNKNOWN)
        with self._lock:
            return Progress(job.phase, job.isolation, job.words, time.monotonic() - job.settled_at)

    def free_slots(self) -> int:
        """How many more jobs could start now."""
        with self._lock:
            return max(0, self.slots - self._active)

    def close(self) -> None:
        """Close the pool. Supervised jobs continue; others never start."""
        self._messages.put(self._stop)
        self._thread.join(CLOSE_LIMIT)
        if self._thread.is_alive():
            _log.warning("the joblib backend has not let go of its workers in %g s", CLOSE_LIMIT)

    # ------------------------------------------------------------ the thread

    def _run(self, ready: threading.Event) -> None:
        try:
            self._pool = open_pool(self._settings)
            starting.check(self._pool, self._settings)
            self.slots = self._pool.size
        except BaseException as error:  # noqa: BLE001 - raised in the opening thread
            self._failure = error
            if self._pool is not None:
                self._pool.close()
            return
        finally:
            ready.set()
        while not self._closing:
            self._take_message()
            self._fill_slots()
        self._host.close()
        self._pool.close()

    def _take_message(self) -> None:
        try:
            self._messages.get(timeout=max(0.0, self._next_look - time.monotonic()))()
        except queue.Empty:
            self._look_around()
            self._next_look = time.monotonic() + TICK

    def _fill_slots(self) -> None:
        while self._waiting and len(self._in_flight) < self.slots and not self._closing:
            if self._waits_for_imports(self._waiting[0]):
                return
            job = self._waiting.popleft()
            if job.phase is Phase.ACTIVE:
                self._dispatch(job)

    def _waits_for_imports(self, job: _Job) -> bool:
        """True while the job's modules are being imported: it would import them as slowly."""
        if job.modules is None or not job.modules.file:
            return False
        self._host.start(job.modules.file, job.folder)
        return self._host.state is State.STARTING

    def _dispatch(self, job: _Job) -> None:
        assert self._pool is not None
        job.attempts += 1
        attempt = job.attempts
        self._in_flight[job.key] = (job, attempt)

        def done(answer: str) -> None:
            self._messages.put(partial(self._done, job, attempt, answer))

        try:
            socket = self._host.path if job.modules is not None else ""
            task = warm.Task(warm.run_job, job.folder, job.isolation, job.env, socket)
            self._pool.submit(task, done)
        except Exception as error:  # noqa: BLE001 - the pool is broken, in whatever way
            self._done(job, attempt, f"{type(error).__name__}: {error}")
        _close_at_exit(self)

    def _done(self, job: _Job, attempt: int, answer: str) -> None:
        if self._in_flight.get(job.key) != (job, attempt):
            return  # told twice
        del self._in_flight[job.key]
        if answer == warm.ENDED or job.has("exit.json"):
            self._settle(job, Phase.ENDED)
        elif answer == warm.ELSEWHERE:
            self._settle(job, Phase.ELSEWHERE)
        else:
            self._try_again(job, answer)

    def _try_again(self, job: _Job, words: str) -> None:
        _log.warning("job %s was not brought to a worker: %s", job.key, words)
        job.words = words
        if job.attempts >= ATTEMPTS and not job.has("claim"):
            self._settle(job, Phase.ENDED)
        else:
            # First in the queue, because it may already run and take its slot. The claim prevents
            # it from running twice: a worker that finds it claimed waits for its end.
            self._waiting.appendleft(job)

    def _drop(self, job: _Job) -> None:
        if job.key not in self._in_flight:
            self._settle(job, Phase.ENDED)

    def _settle(self, job: _Job, phase: Phase) -> None:
        self._leave(job, phase)
        self._wake(job.key)

    def _leave(self, job: _Job, phase: Phase) -> None:
        with self._lock:
            if job.phase is Phase.ACTIVE:
                self._active -= 1
            if job.phase is not Phase.ENDED:
                job.phase = phase
                job.settled_at = time.monotonic()

    def _look_around(self) -> None:
        """Once in each tick: check for changes without a callback."""
        for job, attempt in list(self._in_flight.values()):
            if job.has("exit.json"):
                self._done(job, attempt, warm.ENDED)

    def _stop(self) -> None:
        self._closing = True
