"""Attempts to evaluate trials, before they are submitted: numbers, keys, folders, objective."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from axsched_core import jobfolder
from axsched_core.config import SchedulerConfig
from axsched_core.errors import InvalidInput, sentence
from axsched_core.folders import remove_tree
from axsched_core.jobs import Capability, JobRequest, Resources
from axsched_core.journal.rundir import RunDirectory
from axsched_core.objectives.spec import ObjectiveSpec
from axsched_core.run import retry, time_limit
from axsched_core.run.lane import Lane
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Attempt, Record, Submission


class Attempts:
    """Makes the requests of one run.

    Args:
        config: the scheduler's settings.
        rundir: where the jobs' folders are made.
        recorder: records the keys, and the objective of each key.
    """

    def __init__(self, config: SchedulerConfig, rundir: RunDirectory, recorder: Recorder) -> None:
        self._config, self._rundir, self._recorder = config, rundir, recorder
        self._chosen: ObjectiveSpec | None = None
        self._function_written = False
        self._numbers: dict[int, int] = {}
        """The number of each trial's last attempt, for the names of keys and folders; never
        reset."""

    def set_objective(self, chosen: ObjectiveSpec) -> None:
        """Set what jobs evaluate from now on."""
        self.take_objective(chosen)
        if self._recorder.writer.opened:  # otherwise when there is a run directory
            self.write_function()
        self._recorder.objective(chosen)

    def take_objective(self, chosen: ObjectiveSpec, *, written: bool = False) -> None:
        """The same without a line in the journal, which has it already."""
        self._chosen, self._function_written = chosen, written

    @property
    def needs(self) -> Capability:
        """What a runner must be able to do for the next job."""
        return self._chosen.objective.capability if self._chosen else Capability.PARAMETERS

    def write_function(self) -> None:
        """Write the function into the run directory, before the journal mentions it.

        Raises:
            InvalidInput: it cannot be written.
        """
        path = self._function_file
        if path is None or self._function_written:
            return
        assert self._chosen is not None
        try:
            jobfolder.write_atomically(path, self._chosen.pickled or b"")
        except OSError as error:
            raise unwritable(self._rundir, error) from error
        self._function_written = True

    @property
    def _function_file(self) -> Path | None:
        name = self._chosen.function_name if self._chosen is not None else None
        return self._rundir.path / name if name else None

    def remember(self, numbers: Mapping[int, int]) -> None:
        """Take the last attempts of an earlier driver, by trial: their names must not be used
        again."""
        self._numbers |= numbers

    def next(self, record: Record, lane: Lane) -> JobRequest:
        """Make the next attempt of a trial, for this lane, with its folder and its key in the
        journal.

        Returns the same attempt again if its submission has an unknown outcome, or was refused for
        now.

        Raises:
            InvalidInput: the run directory cannot be written.
            TypeError, ValueError: JSON cannot hold its parameters.
        """
        if record.in_doubt or record.refusals:
            return record.job.request
        if self._chosen is not None:
            self._chosen.check_complete()
        self.write_function()
        last = record.latest
        if last is not None and not last.over and last.submission is Submission.UNSENT:
            # Prepared, but never sent: the objective may have changed since.
            with contextlib.suppress(OSError):
                remove_tree(last.request.folder)
            record.attempts -= 1
            self._numbers[record.index] -= 1
        number = self._numbers.get(record.index, 0) + 1
        while self._rundir.is_taken(record.index, number):
            number += 1  # a killed driver made it, or salvage has moved it away
        request = self.request(record.index, number, record.parameters, record.grown, record.avoid)
        try:
            jobfolder.prepare(
                request,
                function_file=self._function_file,
                max_result_bytes=self._config.max_result_bytes,
            )
        except OSError as error:
            raise unwritable(self._rundir, error) from error
        self._numbers[record.index] = number
        record.attempts, record.latest = record.attempts + 1, Attempt(request, lane)
        self._recorder.job_prepared(record)
        return request

    def request(
        self,
        index: int,
        attempt: int,
        parameters: Mapping[str, Any],
        grown: Resources | None = None,
        avoid: Sequence[str] = (),
    ) -> JobRequest:
        """What would be submitted for this attempt; changes nothing.

        ``grown``: the least that it gets. ``avoid``: hosts that it should not get.
        """
        objective = self._chosen.objective if self._chosen is not None else None
        objective = time_limit.extended(objective, grown)
        limit = time_limit.of(objective, self._config.max_trial_monitoring_time)
        needs: Resources = getattr(objective, "resources", Resources())
        return JobRequest(
            key=self._rundir.key(index, attempt),
            trial_index=index,
            attempt=attempt,
            parameters=dict(parameters),
            folder=self._rundir.job_folder(index, attempt),
            objective=objective,
            resources=retry.at_least(attrs.evolve(needs, time_limit=limit), grown),
            avoid=tuple(avoid),
        )


def unwritable(rundir: RunDirectory, error: OSError) -> InvalidInput:
    """The error for a run directory that cannot be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "Free some space" if full else "Put the folder right"
    return InvalidInput(
        f"The run directory {rundir.path} cannot be written: {sentence(error)} {remedy}, or "
        "choose another job_output_dir, then run again; what was told to the optimizer is kept."
    )
