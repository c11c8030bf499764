"""All jobs of a run: how far each is, what is to be done about it next, and by whom.

Decisions are taken here, under one lock; what takes time is done by `ThreadPool`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from axsched_core import jobfolder
from axsched_core.errors import BackendUnavailable
from axsched_core.jobs import Cause
from axsched_docker import lifecycle
from axsched_docker.collector import Collector
from axsched_docker.endings import Ending, NotStarted, NotYet
from axsched_docker.engine import KEY_LABEL, Engine, EngineError, seconds
from axsched_docker.images import Images
from axsched_docker.job import Job, Phase
from axsched_docker.options import DockerOptions
from axsched_docker.spec import FOLDER_LABEL, LIMIT_LABEL, Plan, container_name
from axsched_docker.thread_pool import RETRY, ThreadPool

ENDERS = 4
"""Threads beside those that start containers."""
STREAM_LAG = 5.0
"""Seconds that the stream of events may take to tell of an end."""
SETTLING = 10.0
"""Seconds beyond ``stop_grace`` that a closing runner waits for cancelled jobs."""
CANCELLED_BY = "cancelled before it ran"
WITHDRAWN_BY = "withdrawn: the runner was closed before it ran"
ENDED_STATES = ("exited", "dead", "stopped")

log = logging.getLogger("axsched")


class Containers:
    """The jobs of one run, and their containers.

    Args:
        engine: where their containers are.
        run_id: the run's.
        run_dir: the run's.
        options: the runner's.
        places: how many containers may run at a time.
        wake: told of each job that has ended.
    """

    def __init__(
        self,
        engine: Engine,
        run_id: str,
        run_dir: Path,
        options: DockerOptions,
        places: int,
        wake: Callable[[str], None],
    ) -> None:
        self._engine, self._options = engine, options
        self._run_id, self._run_dir = run_id, run_dir
        self._places, self._wake = places, wake
        self._images = Images(engine, run_dir)
        self._pool = ThreadPool(options.start_concurrency + ENDERS)
        self._collector = Collector(
            engine, self._images, self._pool, options.keep_containers, self._finish, self._fetched
        )
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._closing = False
        self._told: set[str] = set()
        self.on_silence: Callable[[], None] = lambda: None
        """Called when the stream of events has not told of an end that a look has found."""

    # ---- for the hooks -------------------------------------------------------------------

    def add(self, key: str, plan: Plan) -> None:
        """Take a job; it is started when there is a place."""
        with self._lock:
            if key in self._jobs:
                return
            job = self._jobs[key] = Job(key, plan.folder, Phase.WAITING, plan)
            self._waiting.append(job)
            self._start_what_can()

    def adopt(self, key: str, folder: Path) -> Job:
        """The job of this key; one of an earlier driver is taken for started."""
        with self._lock:
            if key not in self._jobs:
                ended = jobfolder.read_exit(folder) is not None
                job = Job(key, folder, Phase.ENDED if ended else Phase.STARTED)
                self._jobs[key] = job
                if not ended:  # nobody has watched over it
                    self._pool.do(partial(self._take_over, job))
            return self._jobs[key]

    def free_places(self) -> int:
        """How many more jobs could start now."""
        with self._lock:
            return self._places - len(self._waiting) - self._running()

    def _running(self) -> int:
        """How many places are taken; a container that has ended takes none."""
        phases = (Phase.STARTING, Phase.STARTED)
        return sum(job.phase in phases and not job.collecting for job in self._jobs.values())

    def cancel(self, job: Job, reason: str) -> None:
        """Have a job stopped: it never starts, or its container is told to end, and then killed."""
        with self._lock:
            if job.phase is Phase.ENDED:
                return
            if jobfolder.cancel_reason(job.folder) is None:
                try:
                    jobfolder.request_cancel(job.folder, reason or CANCELLED_BY)
                except OSError as error:  # it is stopped all the same
                    log.warning("Job %s: why it is stopped cannot be written: %s", job.key, error)
            job.hurried = job.collecting  # it had ended; one that is stopped now is fetched whole
            if job.phase is Phase.WAITING:
                self._never_start(job)
            elif job.phase is Phase.STARTED:
                self._stop(job)
            elif job.pausing:
                self._pool.do(partial(self._start_again, job))

    def look(self) -> dict[str, str]:
        """One call for all containers of the run: key -> state. Ended ones are collected.

        Raises:
            BackendUnavailable: the engine does not answer.
        """
        containers = self._engine.containers(self._run_id)
        states = {}
        with self._lock:
            for container in containers:
                key = container["Labels"].get(KEY_LABEL, "")
                states[key] = str(container["State"])
                if states[key] in ENDED_STATES:
                    self._ended_container(key, container["Labels"].get(FOLDER_LABEL, ""))
        return states

    def look_around(self) -> None:
        """The engine is back after an outage, whose events nobody has told: look, in a while."""

        def look() -> None:
            with contextlib.suppress(BackendUnavailable):
                self.look()

        self._pool.do(look)

    def happened(self, key: str, event: str, moment: float) -> None:
        """The stream of events tells something of a container.

        Args:
            key: its job's.
            event: one of `engine.EVENTS`.
            moment: when (seconds, by the engine's clock).
        """
        with self._lock:
            job = self._jobs.get(key)
            if event == "die":
                self._told.add(key)
            if job is None:
                return
            if event == "die":
                self._collect(job)
            elif event == "update":
                self._pool.do(partial(self._take_over, job))
            elif event == "start":
                self._has_begun(job, moment)
            elif event == "pause":
                job.watch.pause()
            elif event == "unpause":
                job.watch.go_on()
                self._keep_limit(job)

    def _has_begun(self, job: Job, moment: float) -> None:
        if job.begun_at is None and job.plan is not None:
            job.begun_at = moment
        elif job.begun_at != moment and not job.restarted and job.phase is not Phase.ENDED:
            self._has_begun_again(job)

    def _has_begun_again(self, job: Job) -> None:
        """Somebody has started a job's container that was started before: no job runs twice."""
        log.warning("Job %s: somebody has started %s again; it is stopped.", job.key, job.name)
        job.restarted = True
        self._pool.do(partial(self._kill_again, job))

    def _kill_again(self, job: Job) -> None:
        try:
            self._engine.kill(job.name, "SIGKILL")
        except (BackendUnavailable, EngineError) as error:
            log.info("Job %s cannot be killed: %s", job.key, error)
            self._pool.do(partial(self._kill_again, job), after=RETRY)
        else:
            self._pool.do(partial(self._collect, job), after=RETRY)

    def _take_over(self, job: Job) -> None:
        """Look at a container of which others have decided something, or an earlier driver."""
        try:
            found = self._engine.inspect(job.name)
            self._forbid_restarts(job, found)
        except BackendUnavailable:
            self._pool.do(partial(self._take_over, job), after=RETRY)
            return
        except EngineError as error:
            log.debug("%s cannot be looked at: %s", job.name, error)
            return
        with self._lock:
            if found.get("RestartCount") and not job.restarted:
                self._has_begun_again(job)
            limit, state = found["Config"]["Labels"].get(LIMIT_LABEL), found["State"]
            if job.plan is None and limit is not None and state["Running"]:
                job.watch.limit = float(limit)
                job.watch.start(ago=self._engine.now() - seconds(state["StartedAt"]))
                if state.get("Paused"):
                    job.watch.pause()
                self._keep_limit(job)

    def _forbid_restarts(self, job: Job, found: Mapping[str, Any]) -> None:
        """Take away a restart policy, with which the engine would run a job again and again."""
        policy = (found["HostConfig"].get("RestartPolicy") or {}).get("Name")
        if policy not in (None, "", "no"):
            words = "Job %s: the restart policy %r of %s is taken away: a job runs once."
            log.warning(words, job.key, policy, job.name)
            self._engine.forbid_restarts(job.name)

    def _keep_limit(self, job: Job) -> None:
        """Stop a job when its own time is over."""
        with self._lock:
            left = job.watch.left()
            if left is None or job.stopping or job.collecting or job.phase is not Phase.STARTED:
                return
            if left > 0:
                self._pool.do(partial(self._keep_limit, job), after=left)
            else:
                job.over_limit = True
                self._stop(job)

    def lost(self, job: Job) -> None:
        """Its container is gone, and it has left nothing."""
        with self._lock:
            self._come(job, Phase.ENDED)
            job.collecting = job.stopping = False
            self._start_what_can()

    def discard(self, job: Job) -> None:
        """A driver has died between making this job's container and starting it."""
        self._pool.do(partial(self._collector.remove, job.name))
        self.lost(job)

    def close(self, wait: bool, then: Callable[[], None]) -> None:
        """Start nothing more; when those that are asked to stop have ended, do ``then``."""
        with self._lock:
            self._closing = True
            for job in (*self._waiting, *(job for job in self._jobs.values() if job.pausing)):
                self._withdraw(job)
            self._waiting.clear()
        if wait:
            self._settle(then)
        else:
            threading.Thread(target=self._settle, args=(then,), daemon=True).start()

    def _withdraw(self, job: Job) -> None:
        job.pausing = False
        self._come(job, Phase.WAITING)
        jobfolder.keep_from_running(job.folder, WITHDRAWN_BY)

    def _settle(self, then: Callable[[], None]) -> None:
        deadline = time.monotonic() + self._options.stop_grace + SETTLING
        with self._lock:
            while any(map(self._is_settling, self._jobs.values())):
                left = deadline - time.monotonic()
                if left <= 0:
                    log.warning("The Docker engine has not ended all containers in time.")
                    break
                self._changed.wait(left)
        self._pool.close()
        then()

    @staticmethod
    def _is_settling(job: Job) -> bool:
        return job.phase is Phase.STARTING or job.collecting or job.stopping

    # ---- starting ------------------------------------------------------------------------

    def _start_what_can(self) -> None:
        """Called with the lock."""
        starting = sum(job.phase is Phase.STARTING for job in self._jobs.values())
        active = self._running()
        while (
            self._waiting
            and not self._closing
            and starting < self._options.start_concurrency
            and active < self._places
        ):
            job = self._waiting.popleft()
            self._come(job, Phase.STARTING)
            self._pool.do(partial(self._start, job))
            starting, active = starting + 1, active + 1

    def _start(self, job: Job) -> None:
        assert job.plan is not None
        try:
            if jobfolder.cancel_reason(job.folder) is not None:
                self._collector.remove(job.name)
                self._never_start(job)
                return
            lifecycle.start(self._engine, self._images, job.plan)
        except BackendUnavailable as error:
            log.info("Job %s waits for the engine: %s", job.key, error)
            job.waits_for = str(error)
            if self._closing:  # nobody knows; the next driver finds out
                self._come(job, Phase.STARTED)
                return
            self._start_later(job, RETRY)
        except NotYet as error:
            self._try_later(job, error)
        except lifecycle.Withdrawn as error:
            self._finish(job, Ending(cause=Cause.CANCELLED, message=str(error)))
        except NotStarted as error:
            self._finish(job, error.ending)
        except Exception as error:
            log.exception("Job %s could not be started.", job.key)
            self._collector.remove(job.name)
            self._finish(job, Ending(cause=Cause.NODE_FAIL, message=f"not started: {error!r}"))
        else:
            with self._lock:
                job.out_of_trouble()
                self._come(job, Phase.STARTED)
                job.watch.limit = job.plan.limit
                job.watch.start()
                self._keep_limit(job)
                if job.heard:
                    self._collect(job)
                elif jobfolder.cancel_reason(job.folder) is not None:
                    self._stop(job)
                self._start_what_can()

    def _try_later(self, job: Job, error: NotYet) -> None:
        pause = job.in_trouble(error, error.patience)
        level = logging.WARNING if job.troubles == 1 else logging.INFO
        log.log(level, "Job %s is not started yet: %s", job.key, error)
        if pause is None:
            self._collector.remove(job.name)
            self._finish(job, error.ending)
        else:
            self._start_later(job, pause)

    def _start_later(self, job: Job, pause: float) -> None:
        with self._lock:
            if self._closing:
                self._withdraw(job)
                return
            job.pausing = True
            if jobfolder.cancel_reason(job.folder) is not None:
                pause = 0.0
            self._pool.do(partial(self._start_again, job), after=pause)

    def _start_again(self, job: Job) -> None:
        with self._lock:
            begins, job.pausing = job.pausing, False
        if begins:  # else a cancel or the runner's end came first
            self._start(job)

    def _never_start(self, job: Job) -> None:
        with self._lock:
            if job in self._waiting:
                self._waiting.remove(job)
        jobfolder.keep_from_running(job.folder, CANCELLED_BY)
        self._finish(job, Ending(cause=Cause.CANCELLED, message=CANCELLED_BY))

    # ---- stopping ------------------------------------------------------------------------

    def _stop(self, job: Job) -> None:
        if not job.stopping:
            job.stopping = True
            self._pool.do(partial(self._ask_to_stop, job))

    def _ask_to_stop(self, job: Job) -> None:
        try:
            wanted = self._engine.inspect(job.name)["Config"].get("StopSignal") or "SIGTERM"
            self._engine.kill(job.name, wanted)
        except BackendUnavailable:
            self._pool.do(partial(self._ask_to_stop, job), after=RETRY)
        except EngineError as error:
            log.info("Job %s: it cannot be asked to stop: %s", job.key, error)
            if error.not_found:
                job.stopping = False
                self._collect(job)
            else:
                self._pool.do(partial(self._ask_to_stop, job), after=RETRY)
        else:
            self._pool.do(partial(self._kill, job), after=self._options.stop_grace)

    def _kill(self, job: Job) -> None:
        if job.phase is Phase.ENDED or job.collecting:
            return
        try:
            self._engine.kill(job.name, "SIGKILL")
        except (BackendUnavailable, EngineError) as error:
            log.info("Job %s cannot be killed: %s", job.key, error)
            self._pool.do(partial(self._kill, job), after=RETRY)
        else:  # should the stream of events be silent
            self._pool.do(partial(self._collect, job), after=RETRY)

    # ---- ending --------------------------------------------------------------------------

    def _ended_container(self, key: str, label: str) -> None:
        """A container has ended: fetch its files, or, where that was done, be rid of it."""
        job = self._jobs.get(key)
        if job is not None and job.phase is not Phase.ENDED:
            if not job.collecting and key not in self._told:
                self._pool.do(partial(self._expect_told, key), after=STREAM_LAG)
            self._collect(job)
            return
        folder = jobfolder.located(label, self._run_dir)
        status = jobfolder.read_exit(folder)
        told = jobfolder.read_json(folder, jobfolder.EXIT)
        if status is None or not isinstance(told, dict) or told.get("kept"):
            return  # the container may have files that are not here
        if not self._collector.keeps(str(status.cause or "")):
            self._pool.do(partial(self._collector.remove, container_name(key)))

    def _collect(self, job: Job) -> None:
        with self._lock:
            if job.collecting or job.phase in (Phase.ENDED, Phase.WAITING):
                return
            if job.phase is Phase.STARTING:
                job.heard = True
                return
            job.collecting = True
            self._start_what_can()
        self._pool.do(partial(self._collector.fetch, job))

    def _expect_told(self, key: str) -> None:
        if key not in self._told and not self._closing:
            self.on_silence()

    def _fetched(self, job: Job) -> None:
        with self._lock:
            job.collecting = False
            self._changed.notify_all()

    def _finish(self, job: Job, ending: Ending, written: bool = False) -> None:
        """A job is over: say so in its folder, make room for the next, tell the core."""
        try:
            if not written:
                lifecycle.write_exit(job.folder, ending)
        except FileNotFoundError:
            log.info("Job %s: its folder was removed.", job.key)
        except OSError as error:
            log.warning("Job %s: its end cannot be written: %s; trying again.", job.key, error)
            self._pool.do(partial(self._finish, job, ending), after=10 * RETRY)
            return
        with self._lock:
            job.stopping = False
            self._come(job, Phase.ENDED)
            self._start_what_can()
        self._wake(job.key)

    def _come(self, job: Job, phase: Phase) -> None:
        with self._lock:
            job.phase = phase
            self._changed.notify_all()
