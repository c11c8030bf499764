"""What the processes of a race for locks do; in a module that they can import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from axsched_core.errors import RunLocked
from axsched_core.journal.lock import RunLock


def take_locks(folder: str, rounds: int, barrier: Any, results: Any) -> None:
    """Try to take the lock of each folder, at the same moment as all others."""
    for number in range(rounds):
        mine = RunLock(Path(folder) / str(number))
        barrier.wait(60)
        try:
            mine.acquire()
            mine.check()
            results.put((number, mine._token))
        except RunLocked:
            results.put((number, None))
        except BaseException as error:  # noqa: BLE001 - the test shows it
            results.put((number, repr(error)))
        barrier.wait(60)
