"""One PostgreSQL server for all tests, and an empty database for each."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from support import postgres_server
from support.missing_backends import need
from support.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def running_postgres() -> Iterator[PostgresServer]:
    need("PostgreSQL", postgres_server.missing())
    needed = ("sqlalchemy", "tabulate", "psycopg")
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    need("Ax's SQL storage", [], "pip install 'axsched-core[sql]'" if absent else "")
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres(running_postgres: PostgresServer) -> Iterator[PostgresServer]:
    running_postgres.empty()
    yield running_postgres
    from ax.storage.sqa_store import db

    if db.SESSION_FACTORY is not None:
        db.get_engine().dispose()
        db.SESSION_FACTORY = None
