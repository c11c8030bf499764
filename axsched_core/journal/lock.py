"""One living driver a run directory.

The lock is a file, ``lock.json``, that names its holder. A holder on this machine that has died
(its pid is gone, belongs to a younger process, or the machine was booted since) has lost it at
once; one on another machine, which shares the folder, or in another container, when it has not
touched the file for a while.

A holder is followed by whoever makes the file ``lock.json.after-<its token>``. A file can be made
once only, so of several that come for a dead holder's lock one alone succeeds, on every file
system and whenever one of them dies. The follower then puts its own ``lock.json`` in place of the
old one. The old holder, should it wake up (a suspended laptop), sees that it was followed, and
must touch nothing more.
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
from axsched_core.worker import axsched_worker as worker

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
    """"" where the lock file cannot be read."""
    pid: int | None
    """By the numbers of its own host or container."""
    since: float | None
    """Seconds since the epoch."""
    seen: bool
    """True: its process is there. False: it cannot be seen from here, and has touched the lock in
    the last two minutes."""


def holder(run_dir: Path) -> Holder | None:
    """The living driver of a run directory; None where there is none. Takes and writes nothing.

    Of a driver on another machine, or of a copy of the folder, the file's time is compared with
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
        """Take the lock, over from a dead holder if need be.

        Raises:
            RunLocked: a living driver holds it; names it.
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
        """Raise `RunLocked` where somebody else has taken the run over.

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
        """Give the lock back; nothing where it was taken over."""
        self._over.set()
        if self._pid != os.getpid():
            return  # never taken, or by the process that this one was forked from
        self._pid = None
        chain = self._chain()
        if chain and chain[-1]["token"] == self._token:
            self._path.unlink(missing_ok=True)

    def _follow(self, beside: Path) -> bool:
        """Become the last of the chain of holders; False: it has changed meanwhile."""
        chain = self._chain()
        if chain and chain[-1]["token"] == self._token:
            return True  # a network file system may say no although it was done
        if chain:
            self._refuse_living(chain[-1], beside)
        target = self._after(chain[-1]["token"]) if chain else self._path
        try:
            _link(beside, target)
        except FileExistsError:
            return False
        now = self._chain()
        if not now or now[-1]["token"] != self._token:
            # The one that it follows was followed before, and has been cleared away.
            target.unlink(missing_ok=True)
            return False
        if target != self._path:
            os.replace(beside, self._path)
            for holder in chain:
                self._after(holder["token"]).unlink(missing_ok=True)
        return True

    def _chain(self) -> list[dict[str, Any]]:
        """The holder that ``lock.json`` names, and those that have followed it."""
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
            os.utime(beside)  # so that both times are of one clock, the file system's
            silent = beside.stat().st_mtime - holder["touched"]
            if silent >= STALE:
                log.warning(
                    "%s: taken over from a driver%s that has given no sign of life for %.0f s.",
                    where,
                    _who(holder),
                    silent,
                )
                return
            if "pid" not in holder:
                raise RunLocked(
                    f"{where} is locked, and its {NAME} cannot be read. Where no driver is at it, "
                    f"wait {STALE - silent:.0f} s, or remove that file."
                )
        elsewhere = (
            ""
            if alive
            else " From here nobody can see whether it lives: it counts as dead after "
            f"{STALE:.0f} s without a sign of life, or when you remove {self._path}."
        )
        raise RunLocked(
            f"{where} is in use by another driver{_who(holder)}. Stop that one "
            f"first (or wait for it).{elsewhere}"
        )

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT):
            # A file system that does not answer now may do so at the next beat.
            with contextlib.suppress(OSError):
                if (_read(self._path) or {}).get("token") != self._token:
                    return
                os.utime(self._path)


def _link(source: Path, target: Path) -> None:
    """Make ``target``, whole at once where the file system can; it must not be there yet."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with target.open("xb") as file:
            file.write(source.read_bytes())


def _read(path: Path) -> dict[str, Any] | None:
    """What a lock file says; one that is torn names nobody, but is there. None: it is not."""
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
    return {
        **worker.identity(),
        "pid_namespace": _pid_namespace(),
        "since": time.time(),
        "token": token,
    }


def _pid_namespace() -> str | None:
    """Tells containers of one host from another, whose processes do not see each other."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _is_alive(holder: dict[str, Any]) -> bool | None:
    """As `axsched_worker.is_alive`; None also where its process cannot be seen from here."""
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
