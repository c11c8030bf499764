"""What jobs print: read while they run, and saved when they have ended."""

from __future__ import annotations

import contextlib
import stat
import tarfile
from collections.abc import Iterable, Iterator
from functools import partial
from typing import IO

from axsched_core import jobfolder
from axsched_core.folders import DISK_FULL, Folder
from axsched_docker import archive
from axsched_docker.engine import Engine, EngineError

STREAMS = ("stdout", "stderr")
OWN = "{}.own"
"""The name of a job's own file, if the container has also printed something to be called so."""
LAST_WORDS = 2000
"""Bytes of what a container has printed that are looked at for why it failed."""
PIECE = 1 << 20
"""Bytes of a running container's file that are in memory at a time."""


def save(engine: Engine, name: str, target: Folder) -> bool:
    """Save what the container's first process has printed; False if the disk has no room.

    A job may have made files of these names itself. They stay if the container has printed nothing,
    else they get another name: see `OWN`.

    Raises:
        BackendUnavailable: the answer was cut; nothing is saved.
        EngineError: the engine does not give it.
    """
    try:
        with contextlib.ExitStack() as stack:
            files: dict[str, IO[bytes]] = {}
            for stream in STREAMS:
                target.remove(_printed(stream))  # of an earlier try
                files[stream] = stack.enter_context(target.new_file(_printed(stream)))
            for stream, piece in engine.log(name, *STREAMS):
                files[stream].write(piece)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        return False
    for stream in STREAMS:
        _put_in_place(target, _printed(stream), jobfolder.log_name(stream))
    return True


def _printed(stream: str) -> str:
    return f"{stream}.printed"


def _put_in_place(target: Folder, printed: str, name: str) -> None:
    found = target.stat(name)
    if found is not None and stat.S_ISREG(found.st_mode):
        if not target.size(printed):
            target.remove(printed)
            return
        if not target.has(OWN.format(name)):
            target.rename(name, OWN.format(name))
    target.remove(name)
    target.rename(printed, name)


def last_line(engine: Engine, name: str, saved: Folder) -> str:
    """The last line that the container's first process has printed to stderr."""
    text = b""
    if saved.has(jobfolder.STDERR):
        size = saved.size(jobfolder.STDERR)
        text = saved.read(jobfolder.STDERR, LAST_WORDS, max(0, size - LAST_WORDS))
    else:  # a worker's own, which is in no file
        for _, piece in engine.log(name, "stderr"):
            text = (text + piece)[-LAST_WORDS:]
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def read_running(engine: Engine, name: str, path: str, offset: int, limit: int) -> bytes:
    """A part of a file of a running container; empty where there is none yet."""
    data = b""
    try:
        with engine.get(name, path) as pieces:
            for tar, member in archive.members(pieces):
                source = tar.extractfile(member) if member.isreg() else None
                if source is not None:
                    data = part(iter(partial(source.read, PIECE), b""), offset, limit)
    except tarfile.TarError:
        return b""  # Podman's answer where it is not there yet, or just grows
    except EngineError as error:
        # Podman cannot look into a container in the moment in which it ends.
        if not error.not_found and engine.runs(name):
            raise
        return b""
    return data


def part(pieces: Iterable[bytes], offset: int, limit: int) -> bytes:
    """``limit`` bytes from ``offset`` on; never more than that in memory, beside one piece."""
    found, passed = b"", 0
    for piece in pieces:
        begin = max(0, offset - passed)
        passed += len(piece)
        found += piece[begin : begin + limit - len(found)]
        if len(found) >= limit:
            break
    return found


def printed_so_far(engine: Engine, name: str, stream: str) -> Iterator[bytes]:
    """What a container's first process has printed; nothing where it is gone."""
    try:
        for _, piece in engine.log(name, stream):
            yield piece
    except EngineError as error:
        if not error.not_found:
            raise
