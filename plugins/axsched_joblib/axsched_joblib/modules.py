"""Which modules the objective imports: as the user says, or as its first jobs have shown.

They are in a file of the run directory, so that a later driver of the run knows them too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from axsched_core import jobfolder

RECORD = "joblib-modules.json"
"""The file in the run directory: a list of names, in the order of their imports."""

FEW = 30
"""With fewer modules that the pool's workers do not have, a process for them is not worth its
start: some hundred milliseconds."""

_log = logging.getLogger("axsched")


class Modules:
    """The modules of one run.

    Args:
        run_dir: the run directory.
        preload: the option; None: to be learned.
    """

    def __init__(self, run_dir: Path, preload: Sequence[str] | None) -> None:
        self._path = run_dir / RECORD
        self.file = ""
        """Its path; "": they are not known, or not wanted."""
        self.wanted = False
        """The next jobs shall say what they have imported."""
        if preload:
            self._write(list(preload))
        elif preload is None:
            known = _names(jobfolder.read_json(run_dir, RECORD))
            self.file, self.wanted = (str(self._path), False) if known else ("", True)

    def learn(self, folder: Path) -> None:
        """Take what a job has said that it has imported, if it has."""
        if not self.wanted:
            return
        told = jobfolder.read_json(folder, jobfolder.MODULES)
        if not isinstance(told, dict) or not (found := _names(told.get("modules"))):
            return
        self.wanted = False
        new = told.get("new")
        if isinstance(new, int) and new >= FEW:
            self._write(found)

    def _write(self, names: list[str]) -> None:
        try:
            jobfolder.write_atomically(self._path, json.dumps(names).encode())
        except OSError as error:  # each job imports its modules: slower, and not wrong
            _log.info("%s cannot be written: %s", self._path, error)
        else:
            self.file = str(self._path)


def _names(data: Any) -> list[str]:
    """The names in the content of a file that a job may have written."""
    if not isinstance(data, list):
        return []
    return [name for name in data if isinstance(name, str) and name]
