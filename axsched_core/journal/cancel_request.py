"""How another process asks the living driver of a run to cancel: with a file in the run directory.

The driver looks for it while one of its calls runs, and removes it when it has cancelled.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from axsched_core import jobfolder

log = logging.getLogger("axsched")


@frozen
class CancelRequest:
    """One request."""

    path: Path
    trials: tuple[int, ...] | None
    """Their indices; None: everything."""

    def __str__(self) -> str:
        if self.trials is None:
            return "cancel everything"
        return (
            f"cancel trial{'s' if len(self.trials) > 1 else ''} {', '.join(map(str, self.trials))}"
        )

    def done(self) -> None:
        """Remove the file, so that the asking process knows."""
        self.path.unlink(missing_ok=True)


def ask(run_dir: Path, trials: Sequence[int] | None) -> CancelRequest:
    """Write a request.

    Raises:
        OSError: the run directory cannot be written.
    """
    path = run_dir / f"cancel-{uuid.uuid4().hex}.json"
    jobfolder.write_atomically(path, json.dumps({"trials": trials}).encode())
    return CancelRequest(path, None if trials is None else tuple(trials))


def found(run_dir: Path) -> Iterator[CancelRequest]:
    """The requests that wait in a run directory."""
    for path in sorted(run_dir.glob("cancel-*.json")):
        try:
            trials = json.loads(path.read_bytes())["trials"]
            yield CancelRequest(path, None if trials is None else tuple(map(int, trials)))
        except (OSError, LookupError, TypeError, ValueError) as error:
            log.error("%s is no request to cancel (%r); it is removed.", path, error)
            path.unlink(missing_ok=True)
