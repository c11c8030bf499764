"""Folders that others can write into, such as a job's: nothing in them is trusted.

All code of this project that opens, lists, moves or removes something in a job's folder uses this
module. Each operation is relative to a handle of the folder and takes one name at a time, so no
symbolic link is ever followed, even if it appears during the operation. Only regular files with one
name are read, never a FIFO or a device, and never more than a limit. A file that is being written
has an unpredictable name until it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from axsched_core.worker.axsched_worker import NotAFile, check_regular, read_file, replace_file

__all__ = ["DEEPEST", "DISK_FULL", "Folder", "NotAFile", "copy_file", "remove_tree", "stays_inside"]

DEEPEST = 64
"""Levels of folders that `Folder.sanitize` keeps; each costs a file descriptor."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers that mean: no space for the file."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_PIECE = 1 << 20
_ZEROS = bytes(_PIECE)


class Folder:
    """A handle of a folder; a context manager that closes it.

    Args:
        path: the folder.
        follow: True: the folder may be a symbolic link, made by the user. Links inside it are never
            followed. False: if a job took away this user's rights to their own folder, they are
            restored.

    Raises:
        FileNotFoundError: there is none.
        NotADirectoryError: something else has its name, such as a link.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path | str, *, follow: bool = False) -> None:
        self.path = Path(path)
        self._fd = os.open(path, _FOLDER & ~os.O_NOFOLLOW) if follow else _open_folder(path)

    @classmethod
    def _of(cls, descriptor: int, path: Path) -> Folder:
        folder = cls.__new__(cls)
        folder.path, folder._fd = path, descriptor
        return folder

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the handle."""
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    # ---- looking -------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The names of its entries, sorted."""
        return sorted(os.listdir(self._fd))

    def stat(self, name: str) -> os.stat_result | None:
        """The ``lstat`` of a name; None if nothing has this name."""
        try:
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def has(self, name: str) -> bool:
        """True if anything has this name, of any type."""
        return self.stat(name) is not None

    def sub(self, name: str) -> Folder:
        """Open a subfolder.

        Raises:
            FileNotFoundError: there is none.
            NotADirectoryError: something else has this name, such as a link.
            OSError: it cannot be opened.
        """
        return Folder._of(_open_folder(name, self._fd), self.path / name)

    def read(self, name: str, limit: int, offset: int = 0) -> bytes:
        """Up to ``limit`` bytes of a file, from byte ``offset``.

        Raises:
            FileNotFoundError: there is none.
            NotAFile: it is not a regular file, or has a second name; the message says which.
            OSError: it cannot be read.
        """
        return read_file(name, limit, offset, dir_fd=self._fd)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a regular file to read it. Raises the same errors as `read`."""
        check_regular(os.stat(name, dir_fd=self._fd, follow_symlinks=False), name)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW
        with os.fdopen(os.open(name, flags, dir_fd=self._fd), "rb") as file:
            check_regular(os.fstat(file.fileno()), name)
            yield file

    def size(self, name: str) -> int:
        """Bytes of a regular file.

        Raises:
            FileNotFoundError: there is none.
            NotAFile: it is not a regular file, or has a second name.
        """
        found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        check_regular(found, name)
        return found.st_size

    # ---- writing -------------------------------------------------------------------------

    def create(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """Make a new file.

        Raises:
            FileExistsError: anything has this name.
            OSError: it cannot be written; no part of it stays.
        """
        with self.new_file(name, mode) as file:
            file.write(data)

    @contextlib.contextmanager
    def new_file(self, name: str, mode: int = 0o600) -> Iterator[IO[bytes]]:
        """Make a file and write to it; if the block raises, no part of it stays."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(name, flags, mode, dir_fd=self._fd)
        try:
            with open(descriptor, "wb") as file:
                yield file
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._fd)
            raise

    def replace(self, name: str, data: bytes, *, sync: bool = False) -> None:
        """Write a complete file; it replaces anything of the same name (a folder is moved away).

        Args:
            name: the file.
            data: its new content.
            sync: True: it is on disk before it gets its name.

        Raises:
            OSError: it cannot be written; the old content stays.
        """
        replace_file(name, data, dir_fd=self._fd, sync=sync)

    def make_folder(self, name: str, mode: int = 0o700) -> None:
        """Make a new folder."""
        os.mkdir(name, mode, dir_fd=self._fd)

    def make_link(self, name: str, to: str) -> None:
        """Make a new symbolic link."""
        os.symlink(to, name, dir_fd=self._fd)

    def make_second_name(self, name: str, first: str) -> None:
        """Make a hard link to a file of this folder."""
        os.link(first, name, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)

    def rename(self, name: str, new: str) -> None:
        """Rename an entry; it replaces a file of the new name."""
        os.replace(name, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def separate(self, name: str) -> None:
        """If a regular file has other names too (hard links), replace it with a copy."""
        found = self.stat(name)
        if found is None or not stat.S_ISREG(found.st_mode) or found.st_nlink == 1:
            return
        new = f"{name}.{secrets.token_hex(8)}.tmp"
        source = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=self._fd)
        with os.fdopen(source, "rb") as file, self.new_file(new) as copy:
            copy_file(file, copy)
        self.rename(new, name)

    def set_mode(self, name: str, mode: int) -> None:
        """Set the permissions of a file or folder; those of a link's target are never touched."""
        _set_mode(name, mode, self._fd)

    def sync(self, name: str) -> None:
        """Make sure that a regular file is on disk."""
        with self.open(name) as file:
            os.fsync(file.fileno())

    def copy_in(self, source: Path, name: str, mode: int = 0o600) -> None:
        """Copy one of our files; as a reflink if the file system supports it."""
        with source.open("rb") as file, self.new_file(name, mode) as copy:
            try:
                while os.copy_file_range(file.fileno(), copy.fileno(), 1 << 30):
                    pass
            except (OSError, AttributeError):  # not on this file system, or system
                file.seek(0)
                copy.seek(0)
                copy_file(file, copy)

    # ---- moving and removing -------------------------------------------------------------

    def move(self, name: str, target: Folder) -> None:
        """Move an entry into another folder; it replaces anything of the same name."""
        try:
            os.replace(name, name, src_dir_fd=self._fd, dst_dir_fd=target._fd)
        except OSError as error:
            # A folder cannot replace a file, and a file cannot replace a folder.
            if error.errno not in (errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST):
                raise
            target.remove(name)
            os.replace(name, name, src_dir_fd=self._fd, dst_dir_fd=target._fd)

    def clear(self) -> None:
        """Remove all its entries."""
        for name in self.names():
            self.remove(name)

    def remove(self, name: str) -> None:
        """Remove the entry of this name, if there is one; a folder with all its content.

        The depth does not matter: subfolders are moved up before they are emptied, so that two
        handles are enough.

        Raises:
            OSError: something cannot be removed.
        """
        found = self.stat(name)
        if found is None:
            return
        if not stat.S_ISDIR(found.st_mode):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._fd)
            return
        with self.sub(name) as top:
            waiting = [""]
            while waiting:
                current = waiting.pop()
                if current == "":
                    top._empty_into(top, waiting)
                    continue
                with top.sub(current) as below:
                    below._empty_into(top, waiting)
                os.rmdir(current, dir_fd=top._fd)
        os.rmdir(name, dir_fd=self._fd)

    def _empty_into(self, top: Folder, waiting: list[str]) -> None:
        """Remove the files, and move the folders to ``top``, under names that go to ``waiting``."""
        with contextlib.suppress(OSError):
            os.fchmod(self._fd, 0o700)
        for name in os.listdir(self._fd):
            found = self.stat(name)
            if found is None:
                continue
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(name, dir_fd=self._fd)
            elif self is top:
                waiting.append(name)
            else:
                # We can only move a folder that we may write into.
                with contextlib.suppress(OSError):
                    _set_mode(name, 0o700, self._fd)
                new = f".{secrets.token_hex(8)}"
                os.rename(name, new, src_dir_fd=self._fd, dst_dir_fd=top._fd)
                waiting.append(new)

    # ---- taking over untrusted content ----------------------------------------------------

    def sanitize(self) -> list[str]:
        """Make an untrusted tree safe to keep; remove what cannot be kept.

        Links that lead out of their folder, FIFOs, sockets, devices and everything deeper than
        `DEEPEST` are removed. Set-user-id, set-group-id and sticky bits are removed. The owner may
        read and write everything.

        Returns:
            A description of each removed entry.

        Raises:
            PermissionError: something belongs to another user.
        """
        removed: list[str] = []
        self._sanitize(DEEPEST, removed)
        return removed

    def _sanitize(self, levels: int, removed: list[str]) -> None:
        us = os.geteuid()
        for name in self.names():
            found = self.stat(name)
            if found is None:
                continue
            if us not in (0, found.st_uid):
                raise PermissionError(errno.EPERM, "it belongs to another user", name)
            kind = stat.S_IFMT(found.st_mode)
            if kind == stat.S_IFLNK:
                if not stays_inside(os.readlink(name, dir_fd=self._fd)):
                    self._drop(name, "a link that leads elsewhere", removed)
            elif kind == stat.S_IFREG:
                if found.st_mode & 0o7000 or found.st_mode & 0o600 != 0o600:
                    _set_mode(name, 0o600 | found.st_mode & 0o777, self._fd)
            elif kind != stat.S_IFDIR:
                self._drop(name, "a FIFO, socket or device", removed)
            elif levels == 0:
                self._drop(name, f"folders deeper than {DEEPEST} levels", removed)
            else:
                if found.st_mode & 0o7000 or found.st_mode & 0o700 != 0o700:
                    _set_mode(name, 0o700 | found.st_mode & 0o777, self._fd)
                with self.sub(name) as below:
                    below._sanitize(levels - 1, removed)

    def _drop(self, name: str, what: str, removed: list[str]) -> None:
        self.remove(name)
        removed.append(f"{name!a}: {what}")


def stays_inside(link: str) -> bool:
    """True if a symbolic link cannot leave its folder, for any content of the folder."""
    return not link.startswith("/") and ".." not in link.split("/")


def remove_tree(path: Path) -> None:
    """Remove one of our folders with all its untrusted content; it may be gone already.

    Raises:
        OSError: something cannot be removed.
    """
    try:
        with Folder(path.parent, follow=True) as parent:
            parent.remove(path.name)
    except FileNotFoundError:
        return


def copy_file(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy a stream to a new file; long runs of zeros take no space on the disk."""
    holes = False
    while piece := source.read(_PIECE):
        if piece == _ZEROS:
            target.seek(_PIECE, os.SEEK_CUR)
            holes = True
        else:
            target.write(piece)
    if holes:
        target.truncate()


def _open_folder(name: Path | str, dir_fd: int | None = None) -> int:
    try:
        descriptor = os.open(name, _FOLDER, dir_fd=dir_fd)
    except PermissionError:
        _set_mode(name, 0o700, dir_fd)  # our own folder, but a job changed its mode
        return os.open(name, _FOLDER, dir_fd=dir_fd)
    found = os.fstat(descriptor)
    if found.st_uid == os.geteuid() and found.st_mode & 0o700 != 0o700:
        with contextlib.suppress(OSError):  # it can at least be read
            os.fchmod(descriptor, 0o700 | stat.S_IMODE(found.st_mode))
    return descriptor


def _set_mode(name: Path | str, mode: int, dir_fd: int | None) -> None:
    if not sys.platform.startswith("linux"):
        os.chmod(name, mode, dir_fd=dir_fd, follow_symlinks=False)
        return
    # Linux has no such call. Use a handle that opens nothing, by its name in /proc.
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
            os.chmod(f"/proc/self/fd/{descriptor}", mode)
    finally:
        os.close(descriptor)
