"""docs/architecture.md names files and names that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "axsched_core"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PLUGINS = sorted((ROOT / "plugins").glob("axsched_*"))
PLACES = (CORE, ROOT, *PLUGINS, *(plugin / plugin.name for plugin in PLUGINS))
PATHS = sorted(set(re.findall(r"`([a-z_/]+\.py)`", PAGE)))
MEMBERS = sorted(set(re.findall(r"`([A-Z]\w+)\.(\w+)`", PAGE)))
SOURCE = [path.read_text() for path in CORE.rglob("*.py")]


def bodies(name: str) -> list[str]:
    """What stands in each of the core's classes of this name."""
    pattern = re.compile(rf"^class {name}\b.*?(?=^\S|\Z)", re.M | re.S)
    return [found for text in SOURCE for found in pattern.findall(text)]


@pytest.mark.parametrize("path", PATHS)
def test_each_file_is_there(path: str):
    assert any((place / path).is_file() for place in PLACES), path


@pytest.mark.parametrize(("cls", "member"), MEMBERS, ids=".".join)
def test_each_member_is_there(cls: str, member: str):
    assert any(re.search(rf"\b{member}\b", body) for body in bodies(cls)), f"{cls}.{member}"


def test_each_private_module_has_a_row():
    """A module that no row names cannot be found by who asks the page."""
    rooms = ("run", "journal", "runners", "objectives", "observers")
    known = {
        str(path.relative_to(CORE))
        for room in rooms
        for path in (CORE / room).glob("*.py")
        if path.name != "__init__.py"
    }
    assert known - set(PATHS) <= {"run/threads.py"}  # what its name says
