"""One living driver per run directory.

The lock is a file, ``lock.json``, that names its holder. A holder on this machine that has died
(its pid is gone, belongs to a newer process, or the machine was booted since) loses the lock at
once. A holder on another machine, which shares the folder, or in another container loses it when
it has not touched the file for some time.

The process that makes the file ``lock.json.after-<its token>`` follows a holder. A file can be made
only once, so if several processes want a dead holder's lock, exactly one succeeds, on every file
system and even if some of them die. The follower then replaces the old ``lock.json`` by its own.
If the old holder wakes up (a suspended laptop), it sees that it was followed, and must not touch
anything.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from attrs import frozen

from axsched_core.errors import RunLocked

log = logging.getLogger("axsched")

NAME = "lock.json"
HEARTBEAT = 15.0
"""Seconds between two touches of the file by its holder."""
STALE = 120.0
"""Seconds without a touch after which a holder on another machine counts as dead."""

_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)


@frozen
class Holder:
    """The driver that holds a run directory's lock."""

    host: str
    """"" if the lock file cannot be read."""
    pid: int | None
    """The process id in its own host or container."""
    since: float | None
    """Seconds since the epoch."""
    seen: bool
    """True: its process exists. False: it is not visible from here, and has touched the lock in
    the last two minutes."""


def holder(run_dir: Path) -> Holder | None:
    """The living driver of a run directory; None if there is none. Takes and writes nothing.

    For a driver on another machine, or a copy of the folder, the file's time is compared with
    this machine's clock.

    Raises:
        OSError: the lock cannot be read.
    """
    chain = RunLock(run_dir)._chain()
    if not chain:
        return None
    alive, last = _is_alive(chain[-1]), chain[-1]
    if alive is False or (alive is None and time.time() - last["touched"] >= STALE):
        return None
    pid, since = last.get("pid"), last.get("since")
    return Holder(str(last.get("host", "")), pid, since, alive is True)


class RunLock:
    """The lock of one run directory."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / NAME
        self._token = uuid.uuid4().hex
        self._over = threading.Event()
        self._pid: int | None = None

    def acquire(self) -> None:
        """Take the lock, if necessary from a dead holder.

        Raises:
            RunLocked: a living driver holds it; the error names it.
            OSError: the folder cannot be written.
        """
        beside = self._path.with_name(f"{NAME}.{self._token}")
        try:
            with beside.open("x", encoding="utf-8") as file:
                json.dump(_identity(self._token), file)
                file.flush()
                os.fsync(file.fileno())  # after a power failure it is whole or not there
            while not self._follow(beside):
                pass
        finally:
            beside.unlink(missing_ok=True)
        self._pid = os.getpid()
        threading.Thread(target=self._beat, name="axsched-lock", daemon=True).start()

    def check(self) -> None:
        """Raise `RunLocked` if another driver has taken the run over.

        Raises:
            RunLocked: it has been taken over, or the lock was removed by hand.
            OSError: the lock cannot be read.
        """
        holder = self._chain()[-1:]
        if not holder or holder[0]["token"] != self._token:
            how = (
                f"has been taken over by another driver{_who(holder[0])}"
                if holder
                else (f"is not locked by this driver any more: somebody has removed {NAME}")
            )
            raise RunLocked(
                f"{self._path.parent} {how}. This driver has stopped and touches nothing more."
            )

    def release(self) -> None:
        """Release the lock; do nothing if it was taken over."""
        self._over.set()
        if self._pid != os.getpid():
            return  # never taken, or taken by the process that forked this one
        self._pid = None
        chain = self._chain()
        if chain and chain[-1]["token"] == self._token:
            self._path.unlink(missing_ok=True)

    def _follow(self, beside: Path) -> bool:
        """Become the last in the chain of holders; False: the chain has just changed."""
        chain = self._chain()
        if chain and chain[-1]["token"] == self._token:
            return True  # a network file system may report an error although it was done
        if chain:
            self._refuse_living(chain[-1], beside)
        target = self._after(chain[-1]["token"]) if chain else self._path
        try:
            _link(beside, target)
        except FileExistsError:
            return False
        now = self._chain()
        if not now or now[-1]["token"] != self._token:
            # Another process had followed this holder before, and its file was removed.
            target.unlink(missing_ok=True)
            return False
        if target != self._path:
            os.replace(beside, self._path)
            for holder in chain:
                self._after(holder["token"]).unlink(missing_ok=True)
        return True

    def _chain(self) -> list[dict[str, Any]]:
        """The holder that ``lock.json`` names, and its followers."""
        chain: list[dict[str, Any]] = []
        path = self._path
        while (holder := _read(path)) is not None:
            chain.append(holder)
            path = self._after(holder["token"])
        return chain

    def _after(self, token: str) -> Path:
        return self._path.with_name(f"{NAME}.after-{token}")

    def _refuse_living(self, holder: dict[str, Any], beside: Path) -> None:
        alive = _is_alive(holder)
        if alive is False:
            return
        where = self._path.parent
        if alive is None:
            os.utime(beside)  # so that both times come from one clock, the file system's
            silent = beside.stat().st_mtime - holder["touched"]
            if silent >= STALE:
                log.warning(
                    "%s: taken over from a driver%s that has shown no activity for %.0f s.",
                    where,
                    _who(holder),
                    silent,
                )
                return
            if "pid" not in holder:
                raise RunLocked(
                    f"{where} is locked, and its {NAME} cannot be read. If no driver uses it, "
                    f"wait {STALE - silent:.0f} s, or remove that file."
                )
        elsewhere = (
            ""
            if alive
            else " From here it is not visible whether it lives: it counts as dead after "
            f"{STALE:.0f} s without activity, or when you remove {self._path}."
        )
        raise RunLocked(
            f"{where} is in use by another driver{_who(holder)}. Stop that one "
            f"first (or wait for it).{elsewhere}"
        )

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT):
            # A file system that does not answer now may answer at the next beat.
            with contextlib.suppress(OSError):
                if (_read(self._path) or {}).get("token") != self._token:
                    return
                os.utime(self._path)


def _link(source: Path, target: Path) -> None:
    """Make ``target``, atomically if the file system can; it must not exist yet."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with target.open("xb") as file:
            file.write(source.read_bytes())


def _read(path: Path) -> dict[str, Any] | None:
    """The content of a lock file; a torn one exists but names no holder. None: no file."""
    try:
        with path.open("rb") as file:
            stat, content = os.fstat(file.fileno()), file.read()
    except FileNotFoundError:
        return None
    try:
        holder = json.loads(content)
    except ValueError:
        holder = None
    if not isinstance(holder, dict) or not isinstance(holder.get("token"), str):
        holder = {"token": f"torn-{stat.st_ino}-{stat.st_mtime_ns}"}
    return {**holder, "touched": stat.st_mtime}


def _identity(token: str) -> dict[str, Any]:
    from axsched_core.worker import axsched_worker as worker  # not for readers without a lock

    return {
        **worker.identity(),
        "pid_namespace": _pid_namespace(),
        "since": time.time(),
        "token": token,
    }


def _pid_namespace() -> str | None:
    """Identifies a container of a host: processes of two containers do not see each other."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _is_alive(holder: dict[str, Any]) -> bool | None:
    """As `axsched_worker.is_alive`; None also if its process is not visible from here."""
    from axsched_core.worker import axsched_worker as worker

    mine = worker.identity()
    if holder.get("boot_id") == mine["boot_id"] and holder.get("pid_namespace") != _pid_namespace():
        return None
    try:
        return worker.is_alive(holder)
    except PermissionError:
        return True  # another user's
    except (LookupError, TypeError, ValueError, OverflowError):
        return None


def _who(holder: dict[str, Any]) -> str:
    if "pid" not in holder:
        return ""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.get("since", 0)))
    return f" (host {holder.get('host')}, pid {holder['pid']}, since {since})"
