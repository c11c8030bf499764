"""Labelled points in a driver's life at which it can be told to kill itself.

A point is a call of one function: the driver dies right before or right after the n-th one. The
functions are wrapped in the driver's own process; the product's code does not know about this.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from attrs import frozen

from axsched_core import jobfolder
from axsched_core.folders import Folder
from axsched_core.journal import lines, replay
from axsched_core.journal.lines import Journal
from axsched_core.journal.lock import RunLock
from axsched_core.journal.writer import Writer
from axsched_core.run import resume
from axsched_core.run.recorder import Recorder
from axsched_core.run.settling import Settler
from axsched_core.runners.session import RunnerSession
from support.toy import ToyOptimizer


@frozen
class Point:
    """The ``nth`` call of ``owner.name`` for which ``counts`` is true."""

    owner: Any
    name: str
    counts: Callable[..., bool] = lambda *_, **__: True
    nth: int = 1
    torn: bool = False
    """Right before it, half of the data is written."""


def _writes(kind: str) -> Callable[..., bool]:
    """True if lines of this kind wait for a flush."""
    start = b'{"k":"%s"' % kind.encode()
    return lambda lines: any(line.startswith(start) for line in lines._waiting)


def _is_function(_: Any, target: Any, **more: Any) -> bool:
    return Path(target).name.startswith("function-")


def _has_something(_: Any, things: Any) -> bool:
    return bool(things)


def _is_of_the_journal(_: int, data: Any) -> bool:
    return bytes(data).startswith(b'{"k":')


FIRST = {
    "lock taken": Point(RunLock, "acquire"),
    "journal opened": Point(Journal, "__init__"),
    "function renamed": Point(os, "replace", _is_function),
    "snapshot written": Point(ToyOptimizer, "save"),
    "snapshot flushed": Point(Journal, "flush", _writes("snapshot")),
    "call flushed": Point(Journal, "flush", _writes("call")),
    "candidate made": Point(ToyOptimizer, "ask", nth=2),
    "candidate taken": Point(Recorder, "trial_made", nth=3),
    "folder filled": Point(Folder, "copy_in", nth=3),
    "folder made": Point(jobfolder, "prepare", nth=2),
    "key taken": Point(Recorder, "job_prepared", nth=2),
    "key flushed": Point(Journal, "flush", _writes("key"), nth=2),
    "line written": Point(os, "write", _is_of_the_journal, nth=3, torn=True),
    "line synced": Point(os, "fdatasync", nth=3),
    "submitted": Point(RunnerSession, "submit", nth=2),
    "handle taken": Point(Recorder, "job_accepted", nth=2),
    "handle flushed": Point(Journal, "flush", _writes("handle"), nth=2),
    "polled": Point(RunnerSession, "poll", nth=2),
    "fetched": Point(RunnerSession, "fetch_results", nth=2),
    "outcome taken": Point(Recorder, "trial_decided", nth=2),
    "outcome flushed": Point(Journal, "flush", _writes("outcome"), nth=2),
    "told": Point(ToyOptimizer, "tell", _has_something, nth=2),
    "annotated": Point(ToyOptimizer, "annotate", _has_something, nth=2),
    "retired": Point(Settler, "retire", nth=2),
    "end flushed": Point(Journal, "flush", _writes("ended")),
    "closed": Point(Writer, "close"),
    "lock given back": Point(RunLock, "release"),
}
"""Of the first driver, in the order of its life."""

INTERRUPTED = {
    "cancelled": Point(RunnerSession, "cancel"),
    "trial opened": Point(Recorder, "trial_reopened"),
    "open flushed": Point(Journal, "flush", _writes("open")),
    "experiment saved": Point(ToyOptimizer, "save", nth=2),
}
"""Of a driver at which Ctrl-C is pressed."""

RESUMED = {
    "lock taken over": Point(RunLock, "acquire"),
    "journal read": Point(replay, "read"),
    "journal cut": Point(lines, "repair"),
    "snapshot loaded": Point(ToyOptimizer, "load"),
    "trial made again": Point(ToyOptimizer, "restore", nth=2),
    "told again": Point(ToyOptimizer, "tell", _has_something),
    "remembered": Point(resume, "remembered", nth=2),
    "claim taken": Point(jobfolder, "try_claim"),
    "found again": Point(RunnerSession, "reattach"),
    "submitted again": Point(RunnerSession, "submit"),
    "told the rest": Point(ToyOptimizer, "tell", _has_something, nth=2),
}
"""Of a driver that continues the run of a killed one."""

ALL = {**FIRST, **INTERRUPTED, **RESUMED}


def die() -> NoReturn:
    """Do the same as kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("dead")


def die_at(label: str, *, after: bool) -> None:
    """Kill this process when it reaches the point."""
    point = ALL[label]
    real = getattr(point.owner, point.name)
    calls = itertools.count(1)

    def called(*args: Any, **more: Any) -> Any:
        here = point.counts(*args, **more) and next(calls) == point.nth
        if here and not after:
            if point.torn:
                real(args[0], args[1][: len(args[1]) // 2])
            die()
        answer = real(*args, **more)
        if here:
            die()
        return answer

    setattr(point.owner, point.name, called)
