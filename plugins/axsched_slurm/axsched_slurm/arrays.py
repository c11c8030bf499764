"""Records which array element is which job, before sbatch is called."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from attrs import frozen

from axsched_core import jobfolder


@frozen
class Place:
    """Where Slurm's lists show a job."""

    name: str
    """The Slurm job's name."""
    index: int | None = None
    """An array element's index."""


@frozen
class Batch:
    """What one call of sbatch submits: one job, or an array of jobs."""

    name: str
    is_array: bool


class BatchBook:
    """The tables of a run's arrays, and their Slurm ids.

    A single job carries its key as its name and needs no table.

    Args:
        folder: contains the tables and ids.
        run_id: the first part of all names.
    """

    def __init__(self, folder: Path, run_id: str) -> None:
        self.folder, self._run_id = folder, run_id
        # A site may put words around a job's name; a run's id is unique.
        self._name = re.compile(rf"{re.escape(run_id)}-(?:b\d+|\d+-\d+)")
        self._places: dict[str, list[Place]] = {}
        self._ids: dict[str, str] = {}
        self._last = 0
        for path in sorted(folder.glob(f"{run_id}-b*.json")):
            table = jobfolder.read_json(path.parent, path.name)
            if isinstance(table, list):  # if not, its driver died while writing: never submitted
                self._enter(path.stem, table)
        for path in folder.glob("*.id"):
            self._ids[path.stem] = path.read_text(encoding="ascii").strip()

    def _enter(self, name: str, keys: Iterable[str]) -> None:
        for index, key in enumerate(keys):
            self._places.setdefault(key, []).append(Place(name, index))
        self._last = max(self._last, int(re.sub(r".*-b", "", name)))

    def places(self, key: str) -> list[Place]:
        """All places where Slurm's lists may show a job."""
        return [Place(key), *self._places.get(key, ())]

    def own_name(self, listed: str) -> str:
        """The name that a job of this run was submitted under; for other jobs, ``listed``.

        Args:
            listed: the job's name in Slurm's lists.
        """
        found = self._name.search(listed)
        return found[0] if found else listed

    def job_id(self, key: str) -> str | None:
        """The id that Slurm gave to a job; None if its answer never arrived."""
        for place in reversed(self.places(key)):
            if number := self._ids.get(place.name):
                return number if place.index is None else f"{number}_{place.index}"
        return None

    def new(self, keys: Sequence[str]) -> Batch:
        """Make a batch; write it to disk before returning it.

        Raises:
            OSError: it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if len(keys) == 1:
            return Batch(keys[0], is_array=False)
        while True:
            name = f"{self._run_id}-b{self._last + 1}"
            try:
                file = (self.folder / f"{name}.json").open("x", encoding="utf-8")
            except FileExistsError:
                self._last += 1
                continue
            with file:
                json.dump(list(keys), file)
                file.flush()
                os.fsync(file.fileno())
            self._enter(name, keys)
            return Batch(name, is_array=True)

    def submitted(self, name: str, number: str) -> None:
        """Store the id that Slurm gave to a batch.

        Raises:
            OSError: it cannot be written.
        """
        if self._ids.get(name) != number:
            self._ids[name] = number
            jobfolder.write_atomically(self.folder / f"{name}.id", number.encode())
