"""The life of jobs: what each runner of the run does in one turn.

`Dispatch` brings the trials in progress to a decision. The engine decides what the optimizer is
told, and when. Everything here runs on the engine's thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from axsched_core.config import SchedulerConfig
from axsched_core.errors import InvalidInput, RunnerError
from axsched_core.jobs import RunnerContext
from axsched_core.journal.rundir import RunDirectory
from axsched_core.run.active import Active
from axsched_core.run.attempts import Attempts
from axsched_core.run.cancelling import Canceller
from axsched_core.run.intermediate import Intermediate
from axsched_core.run.lane import Lane
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Purpose, Record, Stage, handles_of
from axsched_core.run.settling import Settler
from axsched_core.run.submission import Submitter
from axsched_core.run.watching import Watcher

log = logging.getLogger("axsched")


class Dispatch:
    """Runs trials on the run's runners.

    An outage of one runner does not stop the others. But if one is broken (see `Calls`), the call
    ends, also if others work: what should happen to its jobs then is not decided.

    Args:
        lanes: the runners; jobs go to the first that takes the objective and has a free place.
        config: the scheduler's settings.
        rundir: where the jobs' folders are made.
        wake: the runners get it as ``context.wake``.
        time_left: the runners get it as ``context.time_left``.
        recorder: records what has happened.
        active: the trials in progress.

    Raises:
        InvalidInput: two lanes have the same name.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        config: SchedulerConfig,
        rundir: RunDirectory,
        wake: Callable[[str], None],
        time_left: Callable[[], float | None],
        recorder: Recorder,
        active: Active,
    ) -> None:
        names = [lane.name for lane in lanes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InvalidInput(
                f"Several lanes are called {', '.join(map(repr, twice))}, so the journal cannot "
                "tell their jobs apart: give each lane its own name."
            )
        self.attempts = Attempts(config, rundir, recorder)
        self.settler = Settler(config, rundir, recorder, active)
        self._lanes, self._config, self._rundir = lanes, config, rundir
        self._wake, self._time_left = wake, time_left
        self._recorder, self._active = recorder, active
        self._submitter = Submitter(config, lanes, recorder, active, self.attempts, self.settler)
        self.intermediate = Intermediate(config, lanes, recorder, active)
        self._watcher = Watcher(config, lanes, recorder, active, self.settler, self.intermediate)
        self._canceller = Canceller(
            config.monitoring_interval, lanes, recorder, active, self.settler
        )

    def lane_called(self, name: str | None) -> Lane:
        """The lane of a job in the journal; None: the line is from a version with one lane.

        Raises:
            InvalidInput: there is no lane of this name.
        """
        if name is None:
            return self._lanes[0]
        for lane in self._lanes:
            if lane.name == name:
                return lane
        raise InvalidInput(
            f"{self._rundir.path} has jobs of the runner {name!r}, which is not one of this run's "
            f"({', '.join(lane.name for lane in self._lanes)})."
        )

    def expect(self, objective_names: tuple[str, ...], required_metrics: frozenset[str]) -> None:
        """Set what a result must hold from now on: see `read_result`."""
        self._watcher.expect(objective_names, required_metrics)

    def one_at_a_time(self, synchronous: bool) -> None:
        """Set whether the next job waits for the result of the one before."""
        self._submitter.synchronous = synchronous

    def free_slots(self) -> int:
        """How many more jobs may be submitted now."""
        return self._submitter.free_slots()

    def ask_for_free_slots(self) -> int:
        """The same, after asking the runners anew.

        Raises:
            RunnerError: a runner is broken.
        """
        self.open()
        self._submitter.refresh_capacity(time.monotonic())
        return self.free_slots()

    # ---- opening and closing -------------------------------------------------------------------

    @property
    def opened(self) -> bool:
        """True once all runners are open."""
        return all(lane.opened for lane in self._lanes)

    def open(self) -> None:
        """Make the run directory and open the runners, before the first job.

        Raises:
            RunnerError: a runner cannot be opened.
        """
        if self._rundir.make():
            self._recorder.say(f"Outputs: {self._rundir.path}")
        context = RunnerContext(
            run_id=self._rundir.run_id,
            run_dir=self._rundir.path,
            wake=self._wake,
            time_left=self._time_left,
            monitoring_interval=self._config.monitoring_interval,
            max_result_bytes=self._config.max_result_bytes,
        )
        for lane in self._lanes:
            lane.open(context)

    def close(self, wait: bool) -> None:
        """Close the runners, each also if another cannot be closed.

        Raises:
            RunnerError: runners cannot be closed. If there are several, it has the words of all,
                and their errors as its cause.
        """
        errors: list[Exception] = []
        for lane in self._lanes:
            try:
                lane.close(wait)
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
        if len(errors) > 1:
            words = "\n".join(map(str, errors))
            raise RunnerError(words) from ExceptionGroup("Runners could not be closed", errors)
        if errors:
            raise errors[0]

    def abandon(self) -> None:
        """No call waits any more: ask the backends to stop running jobs, and close the runners."""
        running = self._active.at(Stage.SUBMITTED) if self._config.on_exit == "cancel" else []
        try:
            if running:
                self._canceller.about_to_stop(running)
                self._recorder.writer.flush_before_stopping()  # a replaced driver cancels nothing
        except Exception:
            log.exception("Jobs may still run.")
            running = []
        for lane in self._lanes:
            lane.abandon(handles_of(r for r in running if r.job.lane is lane))

    # ---- a turn --------------------------------------------------------------------------------

    def woken(self, key: str) -> None:
        """A runner reports news about a job."""
        self._watcher.woken(key)

    def due(self, now: float) -> float | None:
        """The next moment with something to do without a message; None: never."""
        if not self._active:
            return None
        next_look = self._watcher.next_look(now)
        moments = [next_look]
        if (reading := self.intermediate.due(now)) is not None:
            moments.append(reading)
        for record in self._active:
            if record.stage is Stage.SUBMITTED:
                moments.append(record.job.lane.calls.ready_at("axsched_poll", next_look))
            elif record.stage is Stage.WAITING:
                moments += [m for m in self._may_be_submitted(record, now) if m > now]
            elif record.stage is Stage.FETCHING:
                ready = record.job.lane.calls.ready_at("axsched_fetch_results", now)
                moments.append(max(record.job.next_fetch, ready))
        return min(moments)

    def _may_be_submitted(self, record: Record, now: float) -> Iterable[float]:
        """The moments from which a waiting trial may be processed."""
        hook = "axsched_reattach" if record.orphaned else "axsched_submit"
        own = [record.job.lane] if record.in_doubt or record.refusals else self._lanes
        return [record.not_before, *(lane.calls.ready_at(hook, now) for lane in own)]

    def advance(self, now: float, *, asking: bool = False) -> None:
        """Do everything that is possible now.

        ``asking``: `free_slots` is needed afterwards, even if there is nothing to submit.

        Raises:
            InvalidInput: the run directory cannot be written; no job was started.
            RunnerError: a runner is broken.
        """
        self._submitter.reattach(now)
        self._canceller.advance(now)
        if asking or self._submitter.anything_new(now):
            self._submitter.refresh_capacity(now)
        self._submitter.advance(now)
        self._watcher.poll(now)
        self.intermediate.read(now)
        self._watcher.fetch(now)
        if self._active.halted is not None:
            self.start_nothing_more(self._active.halted)  # some may have come back since

    # ---- stopping ------------------------------------------------------------------------------

    def begin(self) -> None:
        """A new call: it is not halted, and jobs that could not be stopped count again."""
        self._active.halted = self._active.pause_after = None
        self._active.wait_for_all()
        for record in self._active.undecided():
            job = record.latest
            if job is not None and job.purpose is Purpose.REOPEN:
                job.purpose, job.cancel_sent, job.cancel_since = None, False, None

    def halt(self, purpose: Purpose) -> None:
        """Start no more jobs, and cancel running ones."""
        self.start_nothing_more(purpose)
        for record in self._active.undecided():
            self._canceller.stop(record, self._active.halted or purpose)

    def stop_early(self, record: Record, why: str) -> None:
        """Cancel a running job because its intermediate results promise nothing."""
        if record.stage is Stage.SUBMITTED and record.job.purpose is None:
            record.job.stop_reason = why
            self._canceller.stop(record, Purpose.EARLY)
            self._recorder.say(f"Trial {record.index} is stopped early: {why}")

    def start_nothing_more(self, purpose: Purpose) -> None:
        """Settle the trials with jobs that were not submitted yet; running jobs continue."""
        if self._active.halted in (None, Purpose.REOPEN):  # any other purpose is final
            self._active.halted = purpose
        for record in self._active.undecided():
            if record.unsent:
                self.settler.stopped_before_start(record)

    def leave(self) -> None:
        """Do not wait for running jobs any longer.

        Nothing is written down: the journal has these jobs, so the next driver looks for them, and
        no second job starts while the first may still run.
        """
        self._active.leave(self._active.undecided())

    def cancel(
        self,
        records: Iterable[Record],
        purpose: Purpose = Purpose.ABANDON,
        *,
        whole_run: bool = False,
    ) -> None:
        """Abandon these trials, and cancel their jobs if they have any.

        ``whole_run``: nobody has named them, all are cancelled.
        """
        for record in records:
            if record.state.ended or record.stage is Stage.TELLING:
                continue
            self._active.add(record)  # also without a job: the optimizer must be told
            if record.stage is Stage.IDLE or record.unsent:
                self.settler.give_up(record, purpose, whole_run=whole_run)
            else:
                self._canceller.stop(record, purpose)
