"""The folder of one run: its name, its jobs' folders, its objective."""

from __future__ import annotations

import os
import re
import time
import uuid
from pathlib import Path

from axsched_core.errors import InvalidInput, sentence
from axsched_core.journal.uninterrupted import uninterrupted


class RunDirectory:
    """``<job_output_dir>/<experiment>-<time>-<id>``, made on first use and never shared.

    Args:
        output_dir: the ``job_output_dir``.
        experiment: the experiment's name.
    """

    def __init__(self, output_dir: Path, experiment: str) -> None:
        self.run_id = uuid.uuid4().hex[:10]
        """The first part of every key."""
        self._folder = Path(output_dir).expanduser().absolute()
        self._made = False
        self.name_after(experiment)

    def name_after(self, experiment: str) -> None:
        """Take another experiment's name; an existing folder keeps its name."""
        if not self._made:
            safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", experiment).strip("._-")[:40] or "experiment"
            stamp = time.strftime("%Y%m%d-%H%M%S")
            self.path = self._folder / f"{safe}-{stamp}-{self.run_id}"

    @classmethod
    def existing(cls, path: Path, run_id: str) -> RunDirectory:
        """The folder of a run that another driver began."""
        found = cls(path.parent, "")
        found.path, found.run_id, found._made = path, run_id, True
        return found

    def make(self) -> bool:
        """Make the folder; True if it did not exist yet.

        Raises:
            InvalidInput: it cannot be made or written.
        """
        return not self._made and uninterrupted(self._make)

    def _make(self) -> bool:
        try:
            self.path.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise InvalidInput(
                f"The run directory {self.path} cannot be made: {sentence(error)} "
                "Set config={'job_output_dir': ...} to a folder that you may write to."
            ) from error
        self._made = True
        return True

    def key(self, trial_index: int, attempt: int) -> str:
        """The key of a job of this run."""
        return f"{self.run_id}-{trial_index}-{attempt}"

    def is_taken(self, trial_index: int, attempt: int) -> bool:
        """True if a job of this number exists or existed, though no journal line knows it."""
        folder = self.job_folder(trial_index, attempt)
        return os.path.lexists(folder) or any(self.path.glob(f"jobs.forgotten*/{folder.name}"))

    def job_folder(self, trial_index: int, attempt: int) -> Path:
        """The folder of the job's files."""
        return self.path / "jobs" / f"{trial_index:05d}-{attempt}"
