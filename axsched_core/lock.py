"""One living driver a run directory.

The lock is a file that names its holder. A holder on this machine that has died (its pid is
gone, belongs to a younger process, or the machine was booted since) has lost it at once; one on
another machine, which shares the folder, when it has not touched the file for a while. Whoever
takes a lock over puts a file of their own in its place, by which the old holder, should it
wake up (a suspended laptop), sees that it must touch nothing more.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from axsched_core.errors import RunLocked
from axsched_core.worker import axsched_worker as worker

NAME = "lock.json"
HEARTBEAT = 15.0
"""Seconds between two touches of the file by its holder."""
STALE = 120.0
"""Seconds without a touch after which a holder on another machine counts as dead."""


class RunLock:
    """The lock of one run directory."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / NAME
        self._token = uuid.uuid4().hex
        self._over = threading.Event()
        self._beating: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the lock, over from a dead holder if need be.

        Raises:
            RunLocked: a living driver holds it; names it.
        """
        mine = {**worker.identity(), "since": time.time(), "token": self._token}
        beside = self._path.with_name(f"{NAME}.{self._token}")
        beside.write_text(json.dumps(mine), encoding="utf-8")
        try:
            while True:
                try:
                    os.link(beside, self._path)  # fails where there is a lock already
                    break
                except FileExistsError:
                    self._remove_dead()
        finally:
            beside.unlink()
        self._beating = threading.Thread(target=self._beat, name="axsched-lock", daemon=True)
        self._beating.start()

    def check(self) -> None:
        """Raise `RunLocked` where somebody else has taken the run over."""
        holder = self._holder()
        if holder is None or holder.get("token") != self._token:
            raise RunLocked(
                f"{self._path.parent} has been taken over by another driver"
                f"{_who(holder) if holder else ''}. This one has stopped and touches nothing more."
            )

    def release(self) -> None:
        """Give the lock back; nothing where it was taken over."""
        self._over.set()
        holder = self._holder()
        if holder is not None and holder.get("token") == self._token:
            self._path.unlink(missing_ok=True)

    def _remove_dead(self) -> None:
        holder = self._holder()
        if holder is None:
            return  # just released
        try:
            silent = time.time() - self._path.stat().st_mtime
        except FileNotFoundError:
            return
        alive = worker.is_alive(holder)
        if alive is None:
            alive = silent < STALE
        if alive:
            raise RunLocked(
                f"{self._path.parent} is in use by another driver{_who(holder)}. Stop that one "
                "first (or wait for it)."
            )
        # Renamed and not removed: of several that come for it, one alone succeeds.
        gone = self._path.with_name(f"{NAME}.dead-{self._token}")
        try:
            os.rename(self._path, gone)
        except FileNotFoundError:
            return
        gone.unlink()

    def _holder(self) -> dict[str, Any] | None:
        try:
            holder = json.loads(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return holder if isinstance(holder, dict) else None

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT):
            holder = self._holder()
            if holder is None or holder.get("token") != self._token:
                return
            os.utime(self._path)


def _who(holder: dict[str, Any]) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.get("since", 0)))
    return f" (host {holder.get('host')}, pid {holder.get('pid')}, since {since})"
