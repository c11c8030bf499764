"""Asks Slurm for the states of all jobs, with one command for all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import attrs
from attrs import frozen

from axsched_slurm.commands import Commands

SQUEUE = (
    "squeue",
    "--me",
    "--array",
    "--noheader",
    "--states=all",
    # Not --format, which has no exit codes. The name may contain anything, so it comes last.
    "--Format=JobArrayID:|,State:|,Reason:|,exit_code:|,RestartCnt:|,StartTime:|,EndTime:|,"
    "NodeList:|,Name:|",
)
SACCT_FIELDS = "JobID,State,ExitCode,Start,End,NodeList,JobName"
IDS_AT_ONCE = 1000
"""Maximum number of job ids in one command line."""

_ID = re.compile(r"(\d+)(?:_(\d+))?")


@frozen
class Row:
    """One job, or one element of an array."""

    job_id: str
    """``12``, or ``12_3`` for an element."""
    name: str
    index: int | None
    """An array element's index."""
    state: str
    """Slurm's own word, without any addition after it."""
    reason: str = ""
    exit_code: int = 0
    signal: int = 0
    restarts: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    nodes: str = ""
    out_of_memory: bool = False
    """One of its steps ran out of memory (only accounting knows)."""

    @property
    def number(self) -> int:
        """The job's id, without the index: later jobs have greater ones."""
        return int(self.job_id.partition("_")[0])


def squeue(commands: Commands) -> list[Row]:
    """All of the user's jobs that the controller knows, including ended ones.

    Raises:
        BackendUnavailable: it does not answer.
    """
    rows = (_squeue_row(line) for line in commands.ask(*SQUEUE).splitlines())
    return [row for row in rows if row is not None]


def _squeue_row(line: str) -> Row | None:
    parts = line.split("|", 8)
    match = _ID.fullmatch(parts[0].strip())
    if len(parts) < 9 or match is None:
        return None  # a heterogeneous job, or part of a name with a line feed
    _, state, reason, status, restarts, start, end, nodes, name = (p.strip() for p in parts)
    wait_status = int(status) if status.isdigit() else 0
    return Row(
        job_id=match[0],
        name=name.removesuffix("|"),
        index=None if match[2] is None else int(match[2]),
        state=_state(state),
        reason="" if reason == "None" else reason,
        exit_code=wait_status >> 8,
        signal=wait_status & 0x7F,
        restarts=int(restarts) if restarts.isdigit() else 0,
        started_at=_moment(start),
        ended_at=_moment(end),
        nodes=nodes,
    )


def sacct(commands: Commands, job_ids: Iterable[str]) -> list[Row]:
    """Accounting's data about these jobs. It is some seconds late.

    Raises:
        BackendUnavailable: it does not answer.
    """
    found: dict[str, Row] = {}
    short_of_memory: set[str] = set()
    ids = sorted(set(job_ids))
    for first in range(0, len(ids), IDS_AT_ONCE):
        chosen = ",".join(ids[first : first + IDS_AT_ONCE])
        # Not --json, which has wrong exit codes.
        text = commands.ask("sacct", "-P", "-n", "-o", SACCT_FIELDS, "-j", chosen)
        for line in text.splitlines():
            parts = line.split("|", 6)
            if len(parts) < 7:
                continue
            job_id, _, step = parts[0].partition(".")
            if step and _state(parts[1]) == "OUT_OF_MEMORY":
                short_of_memory.add(job_id)
            elif not step and (row := _sacct_row(job_id, parts)) is not None:
                found[job_id] = row
    return [
        attrs.evolve(row, out_of_memory=True) if row.job_id in short_of_memory else row
        for row in found.values()
    ]


def _sacct_row(job_id: str, parts: Sequence[str]) -> Row | None:
    match = _ID.fullmatch(job_id)
    if match is None:
        return None  # the remaining elements of an array: 6_[4-9]
    _, state, exit_code, start, end, nodes, name = parts
    code, _, number = exit_code.partition(":")
    return Row(
        job_id=job_id,
        name=name,
        index=None if match[2] is None else int(match[2]),
        state=_state(state),
        exit_code=int(code) if code.isdigit() else 0,
        signal=int(number) if number.isdigit() else 0,
        started_at=_moment(start),
        ended_at=_moment(end),
        nodes=nodes,
    )


def _state(word: str) -> str:
    """``CANCELLED by 1000``, ``CANCELLED+`` are CANCELLED."""
    return (word.split() or [""])[0].rstrip("+")


def _moment(text: str) -> float | None:
    """Seconds since the epoch (``SLURM_TIME_FORMAT=%s``); None for N/A, NONE, Unknown."""
    return float(text) if text.isdigit() else None
