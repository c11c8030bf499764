"""Jobs and folders that attack. All of them are behind a wall: see tests/support/wall.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import make_victim
from wall import walled_off


@pytest.fixture(scope="session", autouse=True)
def _wall() -> Iterator[None]:
    with walled_off():
        yield


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A tree that nothing may touch."""
    return make_victim(tmp_path / "victim")
