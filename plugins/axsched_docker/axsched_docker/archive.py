"""A job's files, into the container and out of it.

In the container `ROOT` holds what the job only reads, and `JOB` is the job's folder:

    /axsched/axsched_worker.py, function.pkl, cloudpickle.zip, <the script>
    /axsched/job/params.json, job.json, and links to the two that the worker looks for there

So that what comes back is what the job has made, and not its inputs. With ``files="mount"`` the
same tree lies in the job's folder on the host, as `BOX`.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from axsched_core import jobfolder

ROOT = "/axsched"
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
        BOX,
        INCOMING,
    }
)
"""What stays behind: the job's inputs, and what is true in the container alone."""


class Tree:
    """What is to lie below `ROOT`."""

    def __init__(self, folder: Path, job_file: bytes, script: Path | None) -> None:
        self.links = [name for name in LINKED if (folder / name).exists()]
        self.read_only = {name: folder / name for name in (*self.links, jobfolder.WORKER)}
        if script is not None:
            self.read_only[script.name] = script
        self.texts = {
            jobfolder.JOB: job_file,
            jobfolder.PARAMS: (folder / jobfolder.PARAMS).read_bytes(),
        }

    def write_tar(self, target: IO[bytes], prefix: str) -> None:
        """Write it as an archive to be unpacked ``prefix`` above `ROOT`.

        Whoever the image's user is may write into the job's folder.
        """
        with tarfile.open(fileobj=target, mode="w") as tar:
            self._write(tar, prefix)
            end = target.tell() + 2 * tarfile.BLOCKSIZE
        # Podman reads no further than the two blocks that end an archive, and calls it an error
        # when more is written; tarfile pads to 10 kB.
        target.truncate(end)

    def _write(self, tar: tarfile.TarFile, prefix: str) -> None:
        if prefix:
            tar.addfile(_entry(prefix, tarfile.DIRTYPE, 0o755))
        tar.addfile(_entry(f"{prefix}job", tarfile.DIRTYPE, 0o777))
        for name, path in self.read_only.items():
            with path.open("rb") as file:
                info = _entry(f"{prefix}{name}", tarfile.REGTYPE, 0o755)
                info.size = os.fstat(file.fileno()).st_size
                tar.addfile(info, file)
        for name, data in self.texts.items():
            info = _entry(f"{prefix}job/{name}", tarfile.REGTYPE, 0o644)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name in self.links:
            info = _entry(f"{prefix}job/{name}", tarfile.SYMTYPE, 0o777)
            info.linkname = f"../{name}"
            tar.addfile(info)

    def write_box(self, box: Path) -> None:
        """Write it into a folder of this machine's; once, whole or not at all."""
        if box.exists():
            return
        half = box.with_name(f"{box.name}.tmp")
        shutil.rmtree(half, ignore_errors=True)
        (half / "job").mkdir(parents=True)
        for folder, mode in ((half, 0o755), (half / "job", 0o777)):
            folder.chmod(mode)
        for name, path in self.read_only.items():
            shutil.copyfile(path, half / name)  # no link: the container may be root's
            (half / name).chmod(0o755)
        for name, data in self.texts.items():
            (half / "job" / name).write_bytes(data)
        for name in self.links:
            (half / "job" / name).symlink_to(f"../{name}")
        half.rename(box)


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


def unpack(pieces: Iterable[bytes], target: Path) -> None:
    """Unpack the archive of a job's folder into ``target``, which is made anew.

    A container is not trusted: nothing is written outside ``target``, and no link leads out of it.
    Devices and the like are left out.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    links: list[tuple[Path, str]] = []
    for tar, member in members(pieces):
        parts = PurePosixPath(member.name).parts[1:]  # the first is the folder's own name
        if not parts or ".." in parts or parts[0] in LINKED:
            continue
        place = target.joinpath(*parts)
        if os.path.lexists(place):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if member.isdir():
            place.mkdir()
        elif member.isreg():
            source = tar.extractfile(member)
            assert source is not None
            with source, place.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            place.chmod(0o600 | member.mode & 0o777)
        elif member.islnk():  # a second name of a file that came before
            first = PurePosixPath(member.linkname).parts[1:]
            if ".." not in first:
                os.link(target.joinpath(*first), place)
        elif member.issym() and stays_inside(member.linkname):
            links.append((place, member.linkname))
    for place, to in links:  # last, so that nothing is written through one
        if not os.path.lexists(place):
            place.symlink_to(to)


def stays_inside(link: str) -> bool:
    """True where a symbolic link cannot leave the folder that it lies in, whatever lies there."""
    path = PurePosixPath(link)
    return not path.is_absolute() and ".." not in path.parts


def move_in(source: Path, folder: Path) -> None:
    """Move what a job has made from ``source`` into its folder; what cannot be moved stays."""
    for place, folders, files in os.walk(source):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink() and not stays_inside(os.readlink(path)):
                path.unlink()
    for path in sorted(source.iterdir()):
        if path.name in NOT_OUTPUT:
            continue
        target = folder / path.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)  # of an earlier try, which was cut off
        # A folder that is root's cannot be moved by another user: it can still be read there.
        with contextlib.suppress(PermissionError):
            os.replace(path, target)
