"""How another process asks the living driver of a run to cancel: with a file in the run directory.

The driver looks for it while one of its calls runs, and removes it when it has cancelled.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import field, frozen

from axsched_core import jobfolder, plain

log = logging.getLogger("axsched")


@frozen
class CancelRequest:
    """One request."""

    path: Path
    trials: tuple[int, ...] | None
    """Their indices; None: everything."""
    by: str = field(default="", eq=False)
    """Who asks: ``user@host, process 123``."""

    def __str__(self) -> str:
        who = f" (by {self.by})" if self.by else ""
        if self.trials is None:
            return f"cancel everything{who}"
        numbers = ", ".join(map(str, self.trials))
        return f"cancel trial{'s' if len(self.trials) > 1 else ''} {numbers}{who}"

    def done(self) -> None:
        """Remove the file, so that the asking process knows."""
        self.path.unlink(missing_ok=True)


def ask(run_dir: Path, trials: Sequence[int] | None) -> CancelRequest:
    """Write a request.

    Raises:
        OSError: the run directory cannot be written.
    """
    path = run_dir / f"cancel-{uuid.uuid4().hex}.json"
    request = {"trials": trials, "by": _me()}
    jobfolder.write_atomically(path, json.dumps(request).encode())
    return CancelRequest(path, None if trials is None else tuple(trials))


def _me() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"


def found(run_dir: Path) -> Iterator[CancelRequest]:
    """The requests that wait in a run directory."""
    for path in sorted(run_dir.glob("cancel-*.json")):
        try:
            request = json.loads(path.read_bytes())
            trials, by = request["trials"], plain.one_line(str(request.get("by", "")), 200)
            yield CancelRequest(path, None if trials is None else tuple(map(int, trials)), by)
        except (OSError, LookupError, TypeError, ValueError) as error:
            log.error("%s is no request to cancel (%r); it is removed.", path, error)
            path.unlink(missing_ok=True)
