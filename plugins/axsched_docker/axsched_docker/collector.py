"""Fetches what ended containers have left, and then removes them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from axsched_core.errors import BackendUnavailable
from axsched_core.jobs import Cause
from axsched_docker import lifecycle
from axsched_docker.archive import DISK_TROUBLE
from axsched_docker.endings import Ending
from axsched_docker.engine import Engine, EngineError
from axsched_docker.images import Images
from axsched_docker.job import Job
from axsched_docker.thread_pool import RETRY, ThreadPool

PATIENCE = 600.0
"""Seconds that the engine may fail to give a job's files: they are in its container alone, and the
job would have to run again."""

log = logging.getLogger("axsched")


class Collector:
    """Called by `ThreadPool`; calls them again for what an outage or a full disk has cut short.

    Args:
        engine: where the containers are.
        images: what they were made of.
        pool: for what is tried again.
        keep: the option ``keep_containers``.
        finish: told how a job has ended, and whether that is in its folder already.
        done: told when a container is dealt with, whatever came of it.
    """

    def __init__(
        self,
        engine: Engine,
        images: Images,
        pool: ThreadPool,
        keep: str,
        finish: Callable[[Job, Ending, bool], None],
        done: Callable[[Job], None],
    ) -> None:
        self._engine, self._pool, self._keep = engine, pool, keep
        self._images, self._finish, self._done = images, finish, done

    def fetch(self, job: Job) -> None:
        """Fetch a job's files, say how it ended, and remove its container, in this order."""
        try:
            ending = lifecycle.collect(self._engine, self._images, job)
        except (BackendUnavailable, lifecycle.Restarting) as error:
            job.waits_for = str(error)
            self._pool.do(partial(self.fetch, job), after=RETRY)
        except OSError as error:
            if error.errno in DISK_TROUBLE:  # the container keeps the files until there is room
                level = logging.DEBUG if job.trouble_said else logging.WARNING
                words = "Job %s: its files cannot be written: %s. It is tried again until they can."
                log.log(level, words, job.key, error)
                job.trouble_said = True
                self._pool.do(partial(self.fetch, job), after=10 * RETRY)
            else:
                self._cannot_fetch(job, error)
        except Exception as error:  # noqa: BLE001 - told there
            self._cannot_fetch(job, error)
        else:
            if ending is not None:
                self._finish(job, ending, True)
                if not ending.kept and not self.keeps(ending.cause or ""):
                    self.remove(job.name)
            self._done(job)

    def _cannot_fetch(self, job: Job, error: Exception) -> None:
        pause = job.in_trouble(f"its files cannot be fetched yet: {error}", PATIENCE)
        level = logging.WARNING if job.troubles == 1 else logging.INFO
        log.log(level, "Job %s: its files cannot be fetched: %r", job.key, error)
        if pause is not None:
            self._pool.do(partial(self.fetch, job), after=pause)
            return
        words = f"its files cannot be fetched from {job.name}, which is kept: {error}"
        self._finish(job, Ending(cause=Cause.NODE_FAIL, message=words, kept=True), False)
        self._done(job)

    def keeps(self, cause: str) -> bool:
        """True where a container that has ended so is to stay."""
        failed = cause not in ("", Cause.CANCELLED)
        return self._keep == "all" or (self._keep == "failed" and failed)

    def remove(self, name: str) -> None:
        """Remove a container; where that cannot be done now, a later look does it."""
        try:
            self._engine.remove(name)
        except (BackendUnavailable, EngineError) as error:
            log.info("%s is removed later: %s", name, error)
