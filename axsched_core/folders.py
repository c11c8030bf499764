"""Folders that somebody else can write into, such as a job's: nothing in them is trusted.

Everything that this project opens, lists, moves or removes in a job's folder goes through here.
All of it happens relative to a handle of the folder, and one name at a time, so no symbolic link is
followed, whatever is put in the way and whenever. Only regular files with one name are read, never
a FIFO or a device, and never more than a limit. What is written gets a name that nobody can
foresee until it is whole.
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
"""Error numbers of a file that does not fit."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_PIECE = 1 << 20
_ZEROS = bytes(_PIECE)


class Folder:
    """A handle of a folder; a context manager that closes it.

    Args:
        path: the folder.
        follow: True: the folder may be a symbolic link, made by the user. What lies in it is
            opened without following links in any case. False: where this user's rights to their
            own folder were taken away (by a job), they are given back.

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
        """Let the handle go."""
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    # ---- looking -------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The names of what lies in it, in order."""
        return sorted(os.listdir(self._fd))

    def stat(self, name: str) -> os.stat_result | None:
        """What ``lstat`` says of a name; None where there is nothing."""
        try:
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def has(self, name: str) -> bool:
        """True where there is anything of this name, whatever it is."""
        return self.stat(name) is not None

    def sub(self, name: str) -> Folder:
        """Open a folder that lies in it.

        Raises:
            FileNotFoundError: there is none.
            NotADirectoryError: something else has this name, such as a link.
            OSError: it cannot be opened.
        """
        return Folder._of(_open_folder(name, self._fd), self.path / name)

    def read(self, name: str, limit: int, offset: int = 0) -> bytes:
        """Up to ``limit`` bytes of a file from byte ``offset`` on.

        Raises:
            FileNotFoundError: there is none.
            NotAFile: it is no regular file, or has a second name; the message says which.
            OSError: it cannot be read.
        """
        return read_file(name, limit, offset, dir_fd=self._fd)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a regular file to read it: see `read` for what is raised."""
        check_regular(os.stat(name, dir_fd=self._fd, follow_symlinks=False), name)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW
        with os.fdopen(os.open(name, flags, dir_fd=self._fd), "rb") as file:
            check_regular(os.fstat(file.fileno()), name)
            yield file

    def size(self, name: str) -> int:
        """Bytes of a regular file.

        Raises:
            FileNotFoundError: there is none.
            NotAFile: it is no regular file, or has a second name.
        """
        found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        check_regular(found, name)
        return found.st_size

    # ---- writing -------------------------------------------------------------------------

    def create(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """Make a file that was not there.

        Raises:
            FileExistsError: anything has this name.
            OSError: it cannot be written; nothing of it stays.
        """
        with self.new_file(name, mode) as file:
            file.write(data)

    @contextlib.contextmanager
    def new_file(self, name: str, mode: int = 0o600) -> Iterator[IO[bytes]]:
        """Make a file and write to it; where the block raises, nothing of it stays."""
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
        """Write a file whole, in the place of whatever has its name (a folder is set aside).

        Args:
            name: the file.
            data: what it is to hold.
            sync: True: it is on disk before it gets its name.

        Raises:
            OSError: it cannot be written; what was there stays.
        """
        replace_file(name, data, dir_fd=self._fd, sync=sync)

    def make_folder(self, name: str, mode: int = 0o700) -> None:
        """Make a folder that was not there."""
        os.mkdir(name, mode, dir_fd=self._fd)

    def make_link(self, name: str, to: str) -> None:
        """Make a symbolic link that was not there."""
        os.symlink(to, name, dir_fd=self._fd)

    def make_second_name(self, name: str, first: str) -> None:
        """Make a hard link to a file of this folder."""
        os.link(first, name, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)

    def rename(self, name: str, new: str) -> None:
        """Give what has this name another one; a file of the new name is replaced."""
        os.replace(name, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def separate(self, name: str) -> None:
        """Make a regular file one of its own, where it has other names too (hard links)."""
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
        """Have a regular file on disk."""
        with self.open(name) as file:
            os.fsync(file.fileno())

    def copy_in(self, source: Path, name: str, mode: int = 0o600) -> None:
        """Make a copy of a file of ours; a reflink where the file system can."""
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
        """Move what has this name into another folder, in the place of whatever is there."""
        try:
            os.replace(name, name, src_dir_fd=self._fd, dst_dir_fd=target._fd)
        except OSError as error:
            # A folder does not replace a file, nor the other way round.
            if error.errno not in (errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST):
                raise
            target.remove(name)
            os.replace(name, name, src_dir_fd=self._fd, dst_dir_fd=target._fd)

    def clear(self) -> None:
        """Remove all that lies in it."""
        for name in self.names():
            self.remove(name)

    def remove(self, name: str) -> None:
        """Remove whatever has this name, a folder with all that lies in it; or nothing.

        However deep: the folders below are moved up before they are emptied, so that two handles
        are enough.

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
                # To be moved, a folder must be one that we may write into.
                with contextlib.suppress(OSError):
                    _set_mode(name, 0o700, self._fd)
                new = f".{secrets.token_hex(8)}"
                os.rename(name, new, src_dir_fd=self._fd, dst_dir_fd=top._fd)
                waiting.append(new)

    # ---- taking over what somebody else has made --------------------------------------------

    def sanitize(self) -> list[str]:
        """Make a tree that a stranger has made safe to keep; what cannot be kept is removed.

        Links that lead out of the folder that they lie in, FIFOs, sockets, devices and what lies
        deeper than `DEEPEST` go. Set-user-id, set-group-id and sticky bits go. The owner may read
        and write everything.

        Returns:
            What was removed: one description each.

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
    """True where a symbolic link cannot leave the folder that it lies in, whatever lies there."""
    return not link.startswith("/") and ".." not in link.split("/")


def remove_tree(path: Path) -> None:
    """Remove a folder of ours with all that a stranger has put there; it may be gone already.

    Raises:
        OSError: something cannot be removed.
    """
    try:
        with Folder(path.parent, follow=True) as parent:
            parent.remove(path.name)
    except FileNotFoundError:
        return


def copy_file(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy a stream to a new file; long runs of zeros take no room on the disk."""
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
        _set_mode(name, 0o700, dir_fd)  # ours, and its mode was taken away
        return os.open(name, _FOLDER, dir_fd=dir_fd)
    found = os.fstat(descriptor)
    if found.st_uid == os.geteuid() and found.st_mode & 0o700 != 0o700:
        with contextlib.suppress(OSError):  # it can be read at least
            os.fchmod(descriptor, 0o700 | stat.S_IMODE(found.st_mode))
    return descriptor


def _set_mode(name: Path | str, mode: int, dir_fd: int | None) -> None:
    if not sys.platform.startswith("linux"):
        os.chmod(name, mode, dir_fd=dir_fd, follow_symlinks=False)
        return
    # Linux has no such call. A handle that opens nothing stands in, by its name in /proc.
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
            os.chmod(f"/proc/self/fd/{descriptor}", mode)
    finally:
        os.close(descriptor)
