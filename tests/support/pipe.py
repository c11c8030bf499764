"""Named pipes between a test and its jobs: things to wait for, instead of sleeping."""

from __future__ import annotations

import os
import select
from pathlib import Path


class Pipe:
    """A named pipe; the fixture ``pipe`` makes them.

    Args:
        path: where it is made.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        # Open for both: then neither side ever waits for the other to open it.
        self._descriptor = os.open(path, os.O_RDWR)

    def read(self, timeout: float = 20.0) -> str:
        """What jobs have written; waits until there is something."""
        assert not self.is_empty(timeout), f"nothing came through {self.path}"
        return os.read(self._descriptor, 4096).decode()

    def read_lines(self, count: int, timeout: float = 60.0) -> list[str]:
        """Wait for so many lines from jobs (each one a single write)."""
        lines: list[str] = []
        while len(lines) < count:
            assert not self.is_empty(timeout), f"only {lines} came"
            lines += os.read(self._descriptor, 4096).decode().splitlines()
        return lines

    def is_empty(self, within: float = 0.0) -> bool:
        """True: nothing has come, nor does in so many seconds."""
        return not select.select([self._descriptor], [], [], within)[0]

    def write(self, text: str = "x") -> None:
        """Write to a job."""
        os.write(self._descriptor, text.encode())

    def let_go(self, count: int = 1) -> None:
        """Let so many jobs pass that read a line."""
        self.write("\n" * count)

    def close(self) -> None:
        """Close this end."""
        os.close(self._descriptor)
