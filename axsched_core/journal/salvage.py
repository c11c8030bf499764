"""Keep the lines of a damaged journal before the damage."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from attrs import frozen

from axsched_core import jobfolder
from axsched_core.errors import InvalidInput, JournalDamaged
from axsched_core.journal.lines import sync_names
from axsched_core.journal.replay import read


@frozen
class Salvaged:
    """What `salvage` did."""

    kept: int
    """Lines."""
    lost: int
    """Lines, including the damaged one; they remain in ``damaged``."""
    damaged: Path
    """The journal as it was."""
    forgotten: Path | None = None
    """The new place of the folders of jobs that only the lost lines knew; None: there were none.
    """


def salvage(path: Path) -> Salvaged:
    """Keep the lines before the first damaged one; the damaged journal stays next to it.

    Jobs that only the lost lines knew are not found again. Their folders are moved away, so that
    their trials, which are made again, do not get their results. Jobs that have not begun will
    never begin. The caller holds the run's lock.

    Raises:
        InvalidInput: the journal is not damaged, or no line can be kept.
        OSError: the run directory cannot be written; the journal is unchanged.
    """
    try:
        read(path)
    except JournalDamaged as error:
        damage = error.line
    else:
        raise InvalidInput(f"{path} is not damaged; resume goes on from it.")
    all_lines = path.read_bytes().split(b"\n")
    kept = all_lines[: damage - 1]
    if not kept:
        raise InvalidInput(
            f"{path} is damaged in its first line, which says what run it is: nothing can be kept."
        )
    aside = _free_name(path, "damaged")
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(b"".join(line + b"\n" for line in kept))
            file.flush()
            os.fsync(file.fileno())
        _link_or_copy(path, aside)
        forgotten = _put_aside(path.parent / "jobs", kept)
        os.replace(beside, path)  # last: until then everything can be repeated
    finally:
        beside.unlink(missing_ok=True)
    sync_names(path.parent)
    lost = len(all_lines) - len(kept) - (not all_lines[-1])
    return Salvaged(len(kept), lost, aside, forgotten)


def _put_aside(jobs: Path, kept: list[bytes]) -> Path | None:
    events = [json.loads(line) for line in kept]
    known = {f"{e['i']:05d}-{e['n']}" for e in events if e["k"] == "key"}
    unknown = [folder for folder in jobs.glob("*") if folder.name not in known]
    if not unknown:
        return None
    aside = _free_name(jobs, "forgotten")
    aside.mkdir(mode=0o700)
    for folder in unknown:
        jobfolder.keep_from_running(folder, "driver: forgotten by salvage")
        os.rename(folder, aside / folder.name)
    return aside


def _free_name(path: Path, word: str) -> Path:
    """``<path>.<word>``, or the first of ``<path>.<word>-2``, ... that is free."""
    number, free = 2, path.with_name(f"{path.name}.{word}")
    while free.exists():
        number, free = number + 1, path.with_name(f"{path.name}.{word}-{number}")
    return free


def _link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source`` if the file system can, otherwise a copy."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)
