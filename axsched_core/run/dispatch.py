"""The life of jobs: what each of the run's runners does in one turn.

`Dispatch` brings the trials that are on the way to a decision. What is told to the optimizer, and
when, is the engine's business. Everything here runs on the engine's thread.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence

from axsched_core.config import SchedulerConfig
from axsched_core.errors import InvalidInput
from axsched_core.jobs import Cause, RunnerContext
from axsched_core.journal.rundir import RunDirectory
from axsched_core.run.active import Active
from axsched_core.run.attempts import Attempts
from axsched_core.run.cancelling import Canceller
from axsched_core.run.lane import Lane
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Purpose, Record, Stage, handles_of
from axsched_core.run.settling import Settler
from axsched_core.run.submission import Submitter
from axsched_core.run.watching import Watcher
from axsched_core.trials import TrialState

log = logging.getLogger("axsched")


class Dispatch:
    """Brings trials through the run's runners.

    Args:
        lanes: the runners; jobs go to the first that has a free place.
        config: the scheduler's settings.
        rundir: where the jobs' folders are made.
        wake: given to the runners as ``context.wake``.
        recorder: takes what has happened.
        active: the trials that are on the way.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        config: SchedulerConfig,
        rundir: RunDirectory,
        wake: Callable[[str], None],
        recorder: Recorder,
        active: Active,
    ) -> None:
        self.attempts = Attempts(config, rundir, recorder)
        self.settler = Settler(config, rundir, recorder, active)
        self._lanes, self._config, self._rundir, self._wake = lanes, config, rundir, wake
        self._recorder, self._active = recorder, active
        self._submitter = Submitter(config, lanes, recorder, active, self.attempts, self.settler)
        self._watcher = Watcher(config, lanes, recorder, active, self.settler)
        self._canceller = Canceller(
            config.monitoring_interval, lanes, recorder, active, self.settler
        )

    def lane_called(self, name: str | None) -> Lane:
        """The lane that has a job of the journal's; None: it was written when there was one lane.

        Raises:
            InvalidInput: there is none of this name.
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
        """What a result must hold from now on: see `read_result`."""
        self._watcher.expect(objective_names, required_metrics)

    def one_at_a_time(self, synchronous: bool) -> None:
        """Whether the next job waits for the result of the one before."""
        self._submitter.synchronous = synchronous

    def free_slots(self) -> int:
        """How many more jobs may be submitted now."""
        return self._submitter.free_slots()

    # ---- opening and closing -------------------------------------------------------------------

    def open(self) -> None:
        """Make the run directory and open the runners, once something is to be run.

        Raises:
            RunnerError: one cannot be opened.
        """
        if self._rundir.make():
            self._recorder.say(f"Outputs: {self._rundir.path}")
        context = RunnerContext(
            run_id=self._rundir.run_id,
            run_dir=self._rundir.path,
            wake=self._wake,
            monitoring_interval=self._config.monitoring_interval,
            max_result_bytes=self._config.max_result_bytes,
        )
        for lane in self._lanes:
            lane.open(context)

    def close(self, wait: bool) -> None:
        """Let the runners go."""
        with contextlib.ExitStack() as stack:
            for lane in self._lanes:
                stack.callback(lane.close, wait)

    def abandon(self) -> None:
        """Nobody waits any more: ask the backends to stop what runs, and let the runners go."""
        running = self._active.at(Stage.SUBMITTED) if self._config.on_exit == "cancel" else []
        try:
            if running:
                self._canceller.about_to_stop(running)
                self._recorder.writer.flush_before_stopping()  # who was taken over cancels nothing
        except Exception:
            log.exception("Jobs may run on.")
            running = []
        for lane in self._lanes:
            lane.abandon(handles_of(r for r in running if r.job.lane is lane))

    # ---- a turn --------------------------------------------------------------------------------

    def woken(self, key: str) -> None:
        """A runner says that there is something to see."""
        self._watcher.woken(key)

    def due(self, now: float) -> float | None:
        """The moment when something is to be done without a message; None: never."""
        if not self._active:
            return None
        next_look = self._watcher.next_look(now)
        moments = [next_look]
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
        """The moments from which on something may be done for a trial that waits."""
        hook = "axsched_reattach" if record.orphaned else "axsched_submit"
        own = [record.job.lane] if record.in_doubt or record.refusals else self._lanes
        return [record.not_before, *(lane.calls.ready_at(hook, now) for lane in own)]

    def advance(self, now: float, *, asking: bool = False) -> None:
        """Do whatever can be done now.

        ``asking``: `free_slots` is wanted after it, also where nothing is to be submitted.

        Raises:
            InvalidInput: the run directory cannot be written; nothing new was started.
            RunnerError: a runner is broken.
        """
        self._submitter.reattach(now)
        self._canceller.advance(now)
        if asking or self._submitter.anything_new(now):
            self._submitter.refresh_capacity()
        self._submitter.advance(now)
        self._watcher.poll(now)
        self._watcher.fetch(now)
        if self._active.halted is not None:
            self.start_nothing_more(self._active.halted)  # some may have come back meanwhile

    # ---- stopping ------------------------------------------------------------------------------

    def begin(self) -> None:
        """A new call: nothing is halted, and jobs that could not be stopped count again."""
        self._active.halted = None
        self._active.wait_for_all()
        for record in self._active.undecided():
            job = record.latest
            if job is not None and job.purpose is Purpose.REOPEN:
                job.purpose, job.cancel_sent, job.cancel_since = None, False, None

    def halt(self, purpose: Purpose) -> None:
        """Start nothing more, and cancel what runs."""
        self.start_nothing_more(purpose)
        for record in self._active.undecided():
            self._canceller.stop(record, self._active.halted or purpose)

    def start_nothing_more(self, purpose: Purpose) -> None:
        """Settle the trials whose jobs were not submitted yet; what runs goes on."""
        if self._active.halted is None:
            self._active.halted = purpose
        for record in self._active.undecided():
            if record.unsent:
                self.settler.stopped_before_start(record)

    def leave(self) -> None:
        """Do not wait for what runs any longer.

        Nothing is written down: the journal knows these jobs, so whoever goes on looks for them,
        and no second job stands beside one that may still run.
        """
        self._active.leave(self._active.undecided())

    def cancel(self, records: Iterable[Record], purpose: Purpose = Purpose.ABANDON) -> None:
        """Have these trials given up, and their jobs, where they have any, cancelled."""
        for record in records:
            if record.state.ended or record.stage is Stage.TELLING:
                continue
            self._active.add(record)  # one without a job too: the optimizer is to hear it
            if record.stage is Stage.IDLE or record.unsent:
                self.settler.decide(record, TrialState.CANCELLED, Cause.CANCELLED, purpose.value)
            else:
                self._canceller.stop(record, purpose)
