"""A job's files, into the container and out of it.

In the container `ROOT` holds what the job only reads, and `JOB` is the job's folder:

    /axsched/axsched_worker.py, function.pkl, cloudpickle.zip, <the script>
    /axsched/job/params.json, job.json, and links to the two that the worker looks for there

So that what comes back is what the job has made, and not its inputs. `ROOT` is a volume of the
container's own, so that nothing that the image may have there is taken for the job's. With
``files="mount"`` the same tree lies in the job's folder on the host, as `BOX`, and is mounted
read-only, the job's folder in it alone is not.
"""

from __future__ import annotations

import errno
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from axsched_core import jobfolder
from axsched_core.folders import DISK_FULL, Folder, copy_file, stays_inside
from axsched_docker.converters import ROOT

JOB = f"{ROOT}/job"
BOX = "box"
INCOMING = "incoming"
LINKED = (jobfolder.FUNCTION, jobfolder.CLOUDPICKLE)
NOT_OUTPUT = frozenset(
    {
        *LINKED,
        jobfolder.PARAMS,
        jobfolder.JOB,
        jobfolder.WORKER,
        jobfolder.CLAIM,
        jobfolder.CANCEL,
        jobfolder.PID,
        jobfolder.EXIT,
        jobfolder.STOPPED,
        BOX,
        INCOMING,
    }
)
"""What stays behind: the job's inputs, and what is true in the container alone."""


DISK_TROUBLE = (
    *DISK_FULL,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.EACCES,
    errno.EMFILE,
    errno.ENFILE,
)
"""What this machine's user may put right: tried again for as long as it takes."""
PROTOCOL = (jobfolder.RESULT, jobfolder.PROGRESS, jobfolder.STDOUT, jobfolder.STDERR)
"""What a job has made that counts: see `least`."""


class Tree:
    """What is to lie below `ROOT`.

    Args:
        folder: the job's.
        job_file: its ``job.json``, as it is to be in the container.
        script: the user's script, where it is to be brought along.
    """

    def __init__(self, folder: Path, job_file: bytes, script: Path | None) -> None:
        self._folder, self._script = folder, script
        with Folder(folder) as place:
            self._links = [name for name in LINKED if place.has(name)]
            self._texts = {
                jobfolder.JOB: job_file,
                jobfolder.PARAMS: place.read(jobfolder.PARAMS, place.size(jobfolder.PARAMS)),
            }
            self._ours = (*self._links, jobfolder.WORKER)
            self.size = sum(place.size(name) for name in self._ours)
        self.size += sum(map(len, self._texts.values()))
        """Bytes of all files."""
        if script is not None:
            self.size += script.stat().st_size

    def _read_only(self) -> Iterator[tuple[str, IO[bytes]]]:
        """The files that lie beside the job's folder, each open."""
        with Folder(self._folder) as place:
            for name in self._ours:
                with place.open(name) as file:
                    yield name, file
        if self._script is not None:
            with self._script.open("rb") as file:
                yield self._script.name, file

    def write_tar(self, target: IO[bytes]) -> None:
        """Write it as an archive to be unpacked at `ROOT`.

        Whoever the image's user is may write into the job's folder.
        """
        with tarfile.open(fileobj=target, mode="w") as tar:
            self._write(tar)
            end = target.tell() + 2 * tarfile.BLOCKSIZE
        # Podman reads no further than the two blocks that end an archive, and calls it an error
        # when more is written; tarfile pads to 10 kB.
        target.truncate(end)

    def _write(self, tar: tarfile.TarFile) -> None:
        tar.addfile(_entry("job", tarfile.DIRTYPE, 0o777))
        for name, file in self._read_only():
            info = _entry(name, tarfile.REGTYPE, 0o755)
            info.size = os.fstat(file.fileno()).st_size
            tar.addfile(info, file)
        for name, data in self._texts.items():
            info = _entry(f"job/{name}", tarfile.REGTYPE, 0o644)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name in self._links:
            info = _entry(f"job/{name}", tarfile.SYMTYPE, 0o777)
            info.linkname = f"../{name}"
            tar.addfile(info)

    def write_box(self) -> None:
        """Write it into the job's folder, as `BOX`; once, whole or not at all."""
        half = f"{BOX}.tmp"
        with Folder(self._folder) as place:
            if place.has(BOX):
                return
            place.remove(half)
            place.make_folder(half)
            place.set_mode(half, 0o755)
            with place.sub(half) as box:
                for name, file in self._read_only():
                    with box.new_file(name) as copy:
                        copy_file(file, copy)
                    box.set_mode(name, 0o755)
                box.make_folder("job")
                box.set_mode("job", 0o777)
                with box.sub("job") as job:
                    for name, data in self._texts.items():
                        job.create(name, data)
                        job.set_mode(name, 0o644)
                    for name in self._links:
                        job.make_link(name, f"../{name}")
            place.rename(half, BOX)


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, mode
    return info


class _Pieces(io.RawIOBase):
    """A stream of pieces as a file."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self._rest = iter(pieces), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def members(pieces: Iterable[bytes]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of an archive that comes in pieces, each to be read before the next."""
    with tarfile.open(fileobj=io.BufferedReader(_Pieces(pieces), 1 << 20), mode="r|") as tar:
        for member in tar:
            yield tar, member


def unpack(pieces: Iterable[bytes], target: Folder) -> list[str]:
    """Unpack the archive of a job's folder into an empty folder.

    A container is not trusted: nothing is written outside ``target``, and no link leads out of it.
    Devices and the like are left out, and so is what this machine's file system cannot name.

    Returns:
        What was left out: one description each.

    Raises:
        OSError: the disk takes no more.
    """
    left_out: list[str] = []
    links: dict[str, str] = {}
    for tar, member in members(pieces):
        parts = PurePosixPath(member.name).parts[1:]  # the first is the folder's own name
        if not parts or parts[0] in LINKED:
            continue
        name = "/".join(parts)
        try:
            first = PurePosixPath(member.linkname).parts if member.islnk() else ()
            if ".." in (*parts, *first) or member.isdev():
                left_out.append(f"{name!a}: a FIFO, a device, or no proper name")
            elif member.issym():
                links[name] = member.linkname
            elif member.isdir():
                target.make_folder(name, 0o700 | member.mode & 0o777)
            elif member.isreg():
                _unpack_file(tar, member, target, name)
            elif member.islnk():
                _unpack_second_name(target, name, "/".join(first[1:]), links)
        except OSError as error:
            if error.errno in DISK_TROUBLE:
                raise
            left_out.append(f"{name!a}: {error.strerror}")
    for name, to in links.items():  # last, so that nothing is written through one
        try:
            if stays_inside(to):
                target.make_link(name, to)
            else:
                left_out.append(f"{name!a}: a link that leads elsewhere")
        except OSError as error:
            left_out.append(f"{name!a}: {error.strerror}")
    return left_out


def _unpack_file(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Folder, name: str) -> None:
    source = tar.extractfile(member)
    assert source is not None
    with source, target.new_file(name) as file:
        copy_file(source, file)
    target.set_mode(name, 0o600 | member.mode & 0o777)


def _unpack_second_name(target: Folder, name: str, first: str, links: dict[str, str]) -> None:
    """A hard link: a second name of what came before."""
    if first in links:
        links[name] = links[first]
    elif {name, first} & set(PROTOCOL):
        with target.open(first) as file, target.new_file(name) as copy:
            copy_file(file, copy)
    else:
        target.make_second_name(name, first)


def empty_files(names: Iterable[str]) -> IO[bytes]:
    """An archive of empty files of this user's, for the engine to put in the place of anything."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in names:
            info = _entry(name, tarfile.REGTYPE, 0o600)
            info.uid, info.gid = os.getuid(), os.getgid()
            tar.addfile(info)
    packed.seek(0)
    return packed


def least(pieces: Iterable[bytes], target: Folder, name: str, limit: int) -> None:
    """Unpack one file of a job's folder, if it is a regular one of at most ``limit`` bytes."""
    for tar, member in members(pieces):
        if member.isreg() and member.size <= limit:
            target.remove(name)
            _unpack_file(tar, member, target, name)


def move_in(source: Folder, folder: Folder) -> None:
    """Move what a job has made from ``source`` into its folder."""
    for name in source.names():
        if name not in NOT_OUTPUT:
            source.move(name, folder)
