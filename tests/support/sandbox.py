"""Tests that attack run in a sandbox: what they could damage through an error of ours is read-only.

As root this process gets its own mount namespace, in which only folders for temporary files and the
kernel's own are writable. For other users the system's own permissions are enough.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
WRITABLE = ("tmp", "run", "dev", "proc", "sys")


@contextlib.contextmanager
def sandboxed() -> Iterator[None]:
    """A context in which this process, and all that it starts, can write to few places."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    here, temporary = Path.cwd(), Path(tempfile.gettempdir()).resolve()
    outside = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    _check(libc.unshare(CLONE_NEWNS))
    try:
        _mount("--make-rprivate", "/")
        for place in sorted(Path("/").iterdir()):
            if place.is_dir() and not place.is_symlink() and place.name not in WRITABLE:
                _mount("--bind", str(place), str(place))
                _mount("-o", "remount,bind,ro", str(place))
        if temporary.parts[1] not in WRITABLE:
            _mount("--bind", str(temporary), str(temporary))
            _mount("-o", "remount,bind,rw", str(temporary))
        os.chdir(here)  # by its way through the new mounts
        yield
    finally:
        _check(libc.unshare(CLONE_FS))  # otherwise the namespace cannot be changed
        _check(libc.setns(outside, CLONE_NEWNS))
        os.close(outside)
        os.chdir(here)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
