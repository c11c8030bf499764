"""Sees by which paths this process opens, moves and removes files."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EVENTS = ("open", "os.", "shutil.")
"""Beginnings of the names of audit events; see Python's table of them."""

_watched: list[tuple[str, list[str]]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched or not event.startswith(EVENTS):
        return
    for argument in arguments:
        if isinstance(argument, str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(argument))
            for top, seen in _watched:
                # <top>/jobs/<job> is opened, to have a handle of it; nothing below it is.
                if path.startswith(f"{top}/jobs/") and path[len(top) + 6 :].strip("/").count("/"):
                    seen.append(f"{event}: {path}")


_installed = False


@contextlib.contextmanager
def paths_below_jobs(run_dir: Path) -> Iterator[list[str]]:
    """A context whose value is filled with what is done by a path that leads into a job's folder.

    What is done relative to a handle has a name alone, so it is none of these.
    """
    global _installed
    if not _installed:
        sys.addaudithook(_hear)  # for good: Python takes none back
        _installed = True
    seen: list[str] = []
    _watched.append((str(run_dir), seen))
    try:
        yield seen
    finally:
        _watched.remove((str(run_dir), seen))
