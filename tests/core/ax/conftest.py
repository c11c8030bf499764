from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.missing_backends import need
from support.sql_driver import disconnect


@pytest.fixture
def one_connection() -> Iterator[None]:
    """Ax keeps one connection to a database in a process: the next test has its own."""
    absent = [name for name in ("sqlalchemy", "tabulate") if not importlib.util.find_spec(name)]
    need("Ax's SQL storage", [], "pip install 'axsched-core[sql]'" if absent else "")
    yield
    disconnect()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of a database of this test's own."""
    return f"sqlite:///{tmp_path}/ax.db"
