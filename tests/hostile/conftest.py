"""Jobs and folders that attack. All of them are behind a wall: see tests/support/sandbox.py."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hostile_jobs import make_victim
from support.missing_backends import need
from support.sandbox import sandboxed


@pytest.fixture(scope="session", autouse=True)
def _wall() -> Iterator[None]:
    with sandboxed():
        yield


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A tree that nothing may touch."""
    return make_victim(tmp_path / "victim")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    need("A small disk", [], "" if os.geteuid() == 0 else "mounting needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)
