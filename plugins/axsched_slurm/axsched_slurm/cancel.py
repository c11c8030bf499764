"""Cancels jobs: claims those that have not begun, writes a file for the worker, calls scancel."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from axsched_core import jobfolder
from axsched_core.errors import BackendUnavailable
from axsched_core.jobs import CancelOutcome
from axsched_slurm import states
from axsched_slurm.commands import CommandFailed, Commands
from axsched_slurm.query import Row
from axsched_slurm.watch import CANCELLED_BY, Watch

_log = logging.getLogger(__name__)

IDS_AT_ONCE = 200
"""Maximum number of ids in one command line of scancel."""


def cancel(
    folders: Mapping[str, Path], reason: str, watch: Watch, commands: Commands
) -> dict[str, CancelOutcome]:
    """Cancel jobs, given as folders by key.

    Raises:
        BackendUnavailable: Slurm does not answer. Jobs that have not begun will never begin.
    """
    outcomes = {key: _tell(folder, reason) for key, folder in folders.items()}
    keys = [key for key, outcome in outcomes.items() if outcome is CancelOutcome.REQUESTED]
    if not keys:
        return outcomes
    # Use the ids that Slurm lists now: an old id may belong to another job by now.
    watch.look(keys, now=True)
    rows = [row for key in keys if (row := watch.row(key)) is not None and states.alive(row)]
    scancel(commands, rows, watch.all_rows())
    for key in keys:
        watch.cancelled(key)
    return outcomes


def _tell(folder: Path, reason: str) -> CancelOutcome:
    if not folder.is_dir():
        return CancelOutcome.UNKNOWN_JOB
    if jobfolder.read_exit(folder) is not None:
        return CancelOutcome.ALREADY_ENDED
    if not jobfolder.try_claim(folder, CANCELLED_BY):
        by = jobfolder.taken_back_by(folder)
        if by is None:
            try:
                jobfolder.request_cancel(folder, reason)
            except OSError as error:  # scancel ends it anyway
                _log.warning("%s: why it is cancelled cannot be written: %s", folder, error)
        elif by != CANCELLED_BY:
            return CancelOutcome.ALREADY_ENDED
    return CancelOutcome.REQUESTED


def scancel(commands: Commands, rows: Sequence[Row], everything: Iterable[Row]) -> None:
    """Call scancel for these jobs.

    Raises:
        BackendUnavailable: Slurm does not answer.
    """
    words = _ids(rows, everything)
    for first in range(0, len(words), IDS_AT_ONCE):
        try:
            commands.run("scancel", *words[first : first + IDS_AT_ONCE])
        except CommandFailed as failure:
            # If a job has ended by now, scancel says that its id is invalid.
            if "nvalid job id" not in str(failure) and "already complet" not in str(failure):
                raise BackendUnavailable(f"scancel: {failure}") from failure


def _ids(rows: Iterable[Row], everything: Iterable[Row]) -> list[str]:
    """Ids in scancel's form: ``7``, ``8`` for a whole array, ``9_[0,3]`` for a part of one."""
    wanted: dict[int, set[int | None]] = {}
    for row in rows:
        wanted.setdefault(row.number, set()).add(row.index)
    alive: dict[int, set[int | None]] = {}
    for row in everything:
        if row.number in wanted and states.alive(row):
            alive.setdefault(row.number, set()).add(row.index)
    return [
        str(number)
        if indices >= alive.get(number, set())
        else f"{number}_[{','.join(map(str, sorted(i for i in indices if i is not None)))}]"
        for number, indices in sorted(wanted.items())
    ]
