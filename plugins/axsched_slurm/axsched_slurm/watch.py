"""Finds the status of each job from its own files first, then from Slurm's lists; never guesses.

A job has ended when its files or Slurm say so. A job that is missing from a list may still run. It
counts as lost only if it was missing from every list for as long as ``patience``, and Slurm
answered all that time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import attrs

from axsched_core import jobfolder
from axsched_core.errors import BackendUnavailable
from axsched_core.jobs import Cause, JobState, JobStatus, SubmitError
from axsched_core.worker.axsched_worker import NOT_MINE, OWNER_GONE
from axsched_slurm import script, states
from axsched_slurm.arrays import BatchBook, Place
from axsched_slurm.cluster import Cluster
from axsched_slurm.commands import CommandFailed, Commands
from axsched_slurm.nodes import Nodes
from axsched_slurm.query import Row, sacct, squeue

CANCELLED_BY = "cancelled before it ran"
ENDED_BY = "Slurm has ended it before it ran"

NEVER_SENT = "its driver has ended before Slurm had room for it"
CLOCKS = 5.0
"""The clocks of a node and the controller may differ by this many seconds."""

_log = logging.getLogger("axsched")


class Watch:
    """Looks at jobs.

    Args:
        commands: Slurm's.
        book: knows the names of jobs in Slurm.
        patience: seconds, see `SlurmOptions.patience`.
        interval: minimum seconds between two queries.
        cluster: its first call asks the cluster for its configuration.
        nodes: gets the nodes on which jobs begin, and those on which they fail before that.
    """

    def __init__(
        self,
        commands: Commands,
        book: BatchBook,
        patience: float,
        interval: float,
        cluster: Callable[[], Cluster],
        nodes: Nodes,
    ) -> None:
        self._commands, self._book = commands, book
        self._patience, self._interval, self._cluster = patience, interval, cluster
        self._lists: dict[Place, list[Row]] = {}
        self._listed: set[str] = set()
        self._asked: float | None = None
        self._trouble: BackendUnavailable | None = None
        self._looks = 0
        self._settled: dict[str, JobStatus] = {}
        self._missing: dict[str, float] = {}
        self._unseen: set[str] = set()
        self._nodes = nodes
        self._due: dict[str, float] = {}
        self._unsent: set[str] = set()
        self._submitted: dict[str, int] = {}
        self._cancelled: dict[str, int] = {}

    # ---- Slurm's lists -----------------------------------------------------------------------

    def look(self, keys: Iterable[str], *, now: bool = False) -> bool:
        """Ask Slurm for all jobs, unless this was done a moment ago. True: Slurm was asked.

        Args:
            keys: the jobs of interest; accounting is asked for those that squeue has forgotten.
            now: ask in any case.

        Raises:
            BackendUnavailable: it does not answer, or did not a moment ago.
        """
        begin = time.monotonic()
        # A little less than the interval: the core's own timing may differ a little.
        early = self._asked is not None and begin - self._asked < 0.95 * self._interval
        if early and not now:
            if self._trouble is not None:
                raise BackendUnavailable(str(self._trouble))
            return False
        self._asked, self._trouble = begin, None
        try:
            rows = squeue(self._commands)
            lists: dict[Place, list[Row]] = {}
            for row in rows:
                lists.setdefault(self._place(row), []).append(row)
            listed = {place.name for place in lists}
            self._add_past(lists, keys)
        except BackendUnavailable as trouble:
            self._trouble = trouble
            self._missing.clear()  # without an answer, no job counts as missing
            raise
        self._lists, self._listed = lists, listed
        self._looks += 1
        return True

    def _add_past(self, lists: dict[Place, list[Row]], keys: Iterable[str]) -> None:
        """Add accounting's data about ended jobs that squeue has forgotten."""
        gone = {
            key: job_id
            for key in keys
            if key not in self._settled
            and not any(place in lists for place in self._book.places(key))
            and (job_id := self._book.job_id(key)) is not None
        }
        unseen, self._unseen = self._unseen, set()
        if not gone or not self._cluster().accounting:
            return
        try:
            past = sacct(self._commands, gone.values())
        except BackendUnavailable as trouble:
            # The others are listed, and go on; the state of these is unknown.
            self._unseen = set(gone)
            for key in gone:
                self._missing.pop(key, None)
            if not unseen:
                _log.warning("accounting does not answer: %s", trouble)
            return
        for row in past:
            # A job that has not ended here is out of date: squeue would list it. Slurm may give
            # an id twice; the name tells which job it is.
            if not states.alive(row):
                lists.setdefault(self._place(row), []).append(row)

    def _place(self, row: Row) -> Place:
        return Place(self._book.own_name(row.name), row.index)

    def row(self, key: str) -> Row | None:
        """The job's row in the last query; None: it was not listed."""
        rows = [row for place in self._book.places(key) for row in self._lists.get(place, ())]
        # A job may be listed twice, if Slurm took it and its answer was lost.
        return max(rows, key=lambda row: (states.alive(row), row.number), default=None)

    def all_rows(self) -> list[Row]:
        """All rows of the last query."""
        return [row for rows in self._lists.values() for row in rows]

    def left_behind(self, folders: Mapping[str, Path]) -> list[Row]:
        """Jobs that have ended by their own files but that Slurm would start again."""
        found = []
        for key, folder in folders.items():
            row = self.row(key)
            again = row is not None and row.state in states.QUEUED and row.restarts > 0
            if again and key not in self._cancelled and self.settled(key, folder) is not None:
                assert row is not None
                found.append(row)
                self.cancelled(key)
        return found

    def submitted(self, key: str) -> None:
        """Slurm has taken a job: only a later query can show its state."""
        self._submitted[key] = self._looks

    def never_sent(self, key: str) -> None:
        """A driver that is gone held this job: unless Slurm has it, it will never get it."""
        self._unsent.add(key)

    def refused(self, key: str, folder: Path, error: SubmitError) -> None:
        """Slurm has refused, for good, a job that waited here."""
        jobfolder.keep_from_running(folder, error.message)
        cause = Cause.CONFIGURATION if error.every_job else Cause.SUBMIT_REFUSED
        self._settled[key] = JobStatus(JobState.FAILED, cause, error.message)

    def cancelled(self, key: str) -> None:
        """Slurm has accepted a job's cancellation."""
        self._cancelled[key] = self._looks

    def learn(self, folders: Mapping[str, Path]) -> None:
        """Find out on which nodes jobs have begun; folders by key."""
        for key, folder in folders.items():
            row = self.row(key)
            if row is None or not row.nodes or self._nodes.is_good(row.nodes):
                continue
            if jobfolder.has(folder, jobfolder.PID):
                self._nodes.began(row.nodes)

    def waiting(self) -> set[int]:
        """The ids of the run's jobs and arrays that wait in Slurm, by the last query."""
        rows = (self.row(key) for key in self._submitted)
        return {row.number for row in rows if row is not None and row.state in states.QUEUED}

    # ---- one job -----------------------------------------------------------------------------

    def settled(self, key: str, folder: Path) -> JobStatus | None:
        """How a job has ended, if that is known without Slurm."""
        if key not in self._settled:
            status = _from_files(folder)
            if status is None:
                return None
            row = self.row(key)
            if row is not None and row.state in states.ENDED:
                status = attrs.evolve(status, backend_state=row.state)
            self._settled[key] = status
        return self._settled[key]

    def status(self, key: str, folder: Path) -> JobStatus | None:
        """A job's status, by its files and the last query; None: unknown now."""
        row = self.row(key)
        if self._waits(key, row):
            assert row is not None
            return states.status(row)
        if (settled := self.settled(key, folder)) is not None:
            return settled
        if row is None:
            found = self._of_missing(key, folder)
        elif not states.known(row):
            _log.warning("Slurm says %s of job %s, which means nothing here", row.state, row.job_id)
            return None
        elif row.state in states.QUEUED and row.reason in states.NEVER:
            found = self._of_stuck(row, folder)
        elif states.alive(row):
            self._missing.pop(key, None)
            if row.ended_at is not None:  # while it runs: when its time limit is reached
                self._due[key] = row.ended_at
            found = states.status(row)
        else:
            found = self._of_ended(key, row, folder)
        if found is not None and found.state.ended:
            self._settled[key] = found
        return found

    def _waits(self, key: str, row: Row | None) -> bool:
        """True for a job that has never begun: thousands may wait, and their files say nothing."""
        if row is None or row.state not in states.QUEUED or row.restarts:
            return False
        self._missing.pop(key, None)
        known = key in self._settled or key in self._cancelled
        return not known and row.reason not in states.NEVER

    def _waited(self, key: str) -> bool:
        """True if this has been asked about the job for ``patience`` or longer."""
        now = time.monotonic()
        return now - self._missing.setdefault(key, now) >= self._patience

    def _of_missing(self, key: str, folder: Path) -> JobStatus | None:
        if self._looks <= self._submitted.get(key, -1):
            return JobStatus(JobState.QUEUED, backend_state="SUBMITTED")
        if key in self._unsent and jobfolder.keep_from_running(folder, NEVER_SENT):
            return JobStatus(JobState.LOST, Cause.LOST, f"it has never begun: {NEVER_SENT}")
        if key in self._cancelled and self._looks > self._cancelled[key]:
            # Waiting array elements vanish when they are cancelled.
            return _refreshed(folder) or _cancelled("cancelled; Slurm does not know it any more")
        if key in self._unseen:
            return None
        if self._vanished(key, folder):
            return _cancelled("somebody has cancelled it in Slurm before it ran")
        if (stopped := self._of_stopped(key, folder)) is not None:
            return stopped
        if not self._waited(key):
            return None
        if (late := _refreshed(folder)) is not None:
            return late
        words = f"Slurm has not known this job for {self._patience:g} s"
        if jobfolder.keep_from_running(folder, "given up: Slurm does not know it any more"):
            return JobStatus(JobState.LOST, Cause.LOST, f"{words}; it has never begun")
        return JobStatus(JobState.LOST, Cause.LOST, f"{words}, and it has left no exit.json")

    def _vanished(self, key: str, folder: Path) -> bool:
        """True for an element that was cancelled from outside while it waited.

        Slurm forgets it at once, but still lists the rest of the array. An element that its node
        has begun, and that has ended since, has left a claim or a log.
        """
        place = self._book.places(key)[-1]
        if place.index is None or place.name not in self._listed:
            return False
        begun = jobfolder.has(folder, script.LOG)
        return not begun and jobfolder.keep_from_running(folder, CANCELLED_BY)

    def _of_stopped(self, key: str, folder: Path) -> JobStatus | None:
        """How a job has ended, if Slurm stopped and forgot it between two queries.

        None: Slurm would still list it, so its controller must have lost it; or accounting may
        still say more; or the job was not told to stop.
        """
        stopped = jobfolder.read_exit(folder, jobfolder.STOPPED)
        age = jobfolder.age(folder, jobfolder.STOPPED)
        if stopped is None or age is None:
            return None
        cluster = self._cluster()
        if age < cluster.min_job_age or (cluster.accounting and not self._waited(key)):
            return None
        words = "Slurm has told it to stop (SIGTERM), and has forgotten it since"
        due = self._due.get(key)
        if due is None:
            job = jobfolder.read_json(folder, jobfolder.JOB)
            asked = job.get(script.TIME_ASKED) if isinstance(job, Mapping) else None
            if isinstance(asked, int | float) and stopped.started_at is not None:
                due = stopped.started_at + asked
        if due is not None and stopped.ended_at is not None and stopped.ended_at >= due - CLOCKS:
            words += "; its time limit was reached"
            state, cause = JobState.FAILED, Cause.TIME_LIMIT
        elif cluster.preempts:
            words += "; it was preempted, or somebody has cancelled it"
            state, cause = JobState.FAILED, Cause.PREEMPTED
        else:
            words += "; somebody has cancelled it"
            state, cause = JobState.CANCELLED, Cause.CANCELLED
        return attrs.evolve(stopped, state=state, cause=cause, message=words)

    def _of_stuck(self, row: Row, folder: Path) -> JobStatus | None:
        if not jobfolder.keep_from_running(folder, ENDED_BY):
            return states.status(row)  # it had begun before, so Slurm has requeued it
        with contextlib.suppress(BackendUnavailable, CommandFailed):
            self._commands.run("scancel", row.job_id)
        return JobStatus(
            JobState.FAILED,
            Cause.SUBMIT_REFUSED,
            f"Slurm would never start it: {row.reason}",
            backend_state=row.state,
        )

    def _of_ended(self, key: str, row: Row, folder: Path) -> JobStatus | None:
        if (late := _refreshed(folder)) is not None:
            return attrs.evolve(late, backend_state=row.state)
        if row.state not in ("COMPLETED", "FAILED"):
            jobfolder.keep_from_running(folder, ENDED_BY)  # in case Slurm starts it again
            return states.status(row)
        if jobfolder.read_exit(folder, jobfolder.STOPPED) is not None:
            words = "it was told to stop (SIGTERM), and Slurm does not say why"
            return JobStatus(JobState.LOST, Cause.LOST, words, backend_state=row.state)
        if jobfolder.keep_from_running(folder, ENDED_BY):
            return self._never_begun(row, folder)
        if row.exit_code == NOT_MINE and not _overdue(folder, self._patience):
            words = "Slurm does not know of the start that has its claim"
            return JobStatus(JobState.RUNNING, message=words, backend_state=row.state)
        if not self._waited(key):
            return None  # its exit.json may still appear
        if row.exit_code in (NOT_MINE, OWNER_GONE):
            words = "the start that had its claim is gone, and has left no exit.json"
            return JobStatus(JobState.LOST, Cause.LOST, words, backend_state=row.state)
        status = _with_log(states.status(row), folder)
        if row.state == "FAILED":
            # An objective's exit code is in exit.json; this is the worker's or Slurm's.
            own = status.cause is Cause.EXIT_CODE
            return attrs.evolve(status, cause=Cause.NODE_FAIL) if own else status
        words = f"{status.message}, but its exit.json has not shown here in {self._patience:g} s"
        return attrs.evolve(
            status, state=JobState.FAILED, cause=Cause.RESULT_INVALID, message=words
        )

    def _never_begun(self, row: Row, folder: Path) -> JobStatus:
        """Slurm has ended a job before its worker began."""
        status = _with_log(states.status(row), folder)
        node = f"node {row.nodes}" if row.nodes else "the node"
        if row.exit_code == script.NO_FOLDER:
            words = f"{node} cannot enter {folder}: is it on a file system that all nodes share?"
        elif row.exit_code == script.NO_WRITE:
            words = f"{node} cannot write into {folder}: is it mounted read-only there, or full?"
        elif row.signal or row.reason == "JobLaunchFailure":
            words = status.message
        else:
            words = f"{status.message}: the job's set-up failed before its worker began"
        # A signal may come from anywhere: it does not make the node a bad one.
        blamed = bool(row.signal) or self._nodes.failed(row.nodes, words)
        cause = Cause.NODE_FAIL if blamed else Cause.LOAD_ERROR
        return attrs.evolve(status, state=JobState.FAILED, cause=cause, message=words)


def _from_files(folder: Path) -> JobStatus | None:
    status = jobfolder.read_exit(folder)
    if status is not None:
        return status
    by = jobfolder.taken_back_by(folder)
    if by is None:
        return None
    if by == CANCELLED_BY:
        return _cancelled(CANCELLED_BY)
    return JobStatus(JobState.LOST, Cause.LOST, f"it has never begun: {by}")


def _refreshed(folder: Path) -> JobStatus | None:
    """Read a job's files again; listing its folder makes NFS look for new ones."""
    with contextlib.suppress(OSError):
        os.listdir(folder)
    return _from_files(folder)


def _overdue(folder: Path, patience: float) -> bool:
    """True if a worker that claimed the job must have ended it by now, by its own time limit."""
    job = jobfolder.read_json(folder, jobfolder.JOB)
    limit = job.get("time_limit") if isinstance(job, Mapping) else None
    age = jobfolder.age(folder, jobfolder.CLAIM)
    # The job may have written anything there by now.
    return age is None or (isinstance(limit, int | float) and age - patience > limit)


def _cancelled(words: str) -> JobStatus:
    return JobStatus(JobState.CANCELLED, Cause.CANCELLED, words)


def _with_log(status: JobStatus, folder: Path) -> JobStatus:
    """Add the last line that the batch script printed."""
    try:
        text = jobfolder.read_end(folder, script.LOG, 2000).decode(errors="replace")
    except OSError:
        return status
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return attrs.evolve(status, message=f"{status.message}; {lines[-1]}") if lines else status
