"""Images of this machine's own files, as tar archives: the tests have no registry."""

from __future__ import annotations

import functools
import io
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

BUSYBOX = "axsched-test/busybox:1"
PYTHON = "axsched-test/python:1"
FOLDERS = ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr/bin", "usr/local/bin")
LEFT_OUT = re.compile(
    r"(^|/)(test|tests|site-packages|dist-packages|idlelib|ensurepip|tkinter|lib2to3|turtledemo)/"
    r"|^config-|\.opt-[12]\.pyc$"
)


@functools.cache
def busybox_image() -> bytes:
    """A shell and the usual commands, 2 MB; Debian's ``busybox-static``."""
    return image({})


@functools.cache
def python_image() -> bytes:
    """The Python that runs this, its standard library, and busybox; no other package."""
    binary = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    files = {
        str(path): path
        for path in library.rglob("*")
        if path.is_file() and not LEFT_OUT.search(str(path.relative_to(library)))
    }
    extensions = [path for path in files.values() if path.suffix == ".so"]
    files |= programs([binary, *extensions])
    links = {name: str(binary) for name in ("/usr/bin/python3", "/usr/bin/python")}
    return image(files, links)


def programs(binaries: Iterable[Path]) -> dict[str, Path]:
    """Programs of this machine with the shared libraries that they need: path -> file."""
    found = {str(path): path for path in binaries}
    ldd = subprocess.run(
        ["ldd", *found], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    for place in sorted(set(re.findall(r"(/\S+\.so\S*) \(0x", ldd.stdout))):
        found[place] = Path(place).resolve()
    return found


def image(files: Mapping[str, Path], links: Mapping[str, str] | None = None) -> bytes:
    """An image of these files (path in the image -> file) and busybox."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        folders = {folder for name in files for folder in Path(name).parents}
        for folder in sorted({*(Path("/", name) for name in FOLDERS), *folders}):
            tar.addfile(
                _entry(str(folder), tarfile.DIRTYPE, 0o1777 if folder.name == "tmp" else 0o755)
            )
        for name, source in files.items():
            _add(tar, name, source.read_bytes(), source.stat().st_mode & 0o777, source)
        busybox = shutil.which("busybox")
        assert busybox is not None, "apt-get install busybox-static"
        _add(tar, "/bin/busybox", Path(busybox).read_bytes(), 0o755)
        taken = {Path(name).name for name in (*files, *(links or {}))}
        applets = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True)
        for applet in set(applets.stdout.split()) - taken - {"busybox"}:
            tar.addfile(_entry(f"/bin/{applet}", tarfile.SYMTYPE, target="busybox"))
        for name, target in (links or {}).items():
            tar.addfile(_entry(name, tarfile.SYMTYPE, target=target))
        users = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
        _add(tar, "/etc/passwd", users)
        _add(tar, "/etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    return packed.getvalue()


def _entry(name: str, kind: bytes, mode: int = 0o777, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name.lstrip("/") or ".")
    info.type, info.mode, info.linkname = kind, mode, target
    return info


def _add(
    tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644, like: Path | None = None
) -> None:
    info = _entry(name, tarfile.REGTYPE, mode)
    info.size = len(data)
    info.mtime = int(like.stat().st_mtime) if like else 0  # of .py files: else .pyc are no use
    tar.addfile(info, io.BytesIO(data))
