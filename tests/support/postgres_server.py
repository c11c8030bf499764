"""A PostgreSQL server of the tests' own: in a folder, on a free port, with a password."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import quote_plus

from support.daemons import Daemons

USER = "scientist"
DATABASE = "ax"
OWNER = "postgres"
"""Who runs it where this process is root, which PostgreSQL refuses; Debian's package makes it."""
PATIENCE = 60.0


def programs() -> Path | None:
    """Where ``initdb`` and ``postgres`` lie; None where PostgreSQL is not installed."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found_versions = sorted(versions, key=lambda path: int(path.parts[-3]))
    return found_versions[-1].parent if found_versions else None


def missing() -> list[str]:
    """The Debian packages that are to be installed."""
    return [] if programs() else ["postgresql"]


class PostgresServer:
    """A server that runs while the context lasts; its database is `DATABASE`, and empty."""

    def __init__(self) -> None:
        found = programs()
        assert found is not None
        self._bin = found
        # What a url must escape, so that what is searched for is found in either spelling.
        self.password = f"p@ss/{secrets.token_hex(8)}:%"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # Below /tmp, where another user may reach it.
        self._folder = Path(tempfile.mkdtemp(prefix="axsched-postgres-", dir="/tmp"))
        self._data = self._folder / "data"

    def __enter__(self) -> PostgresServer:
        self._folder.chmod(0o755)
        self._data.mkdir(mode=0o700)
        password = self._folder / "password"
        password.write_text(self.password + "\n")
        if os.geteuid() == 0:
            shutil.chown(self._data, OWNER)
            shutil.chown(password, OWNER)
        subprocess.run(
            self._command(
                "initdb",
                *("-D", str(self._data), "-U", USER, "-E", "UTF8", "--no-locale", "--no-sync"),
                *("-A", "scram-sha-256", f"--pwfile={password}"),
            ),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(f"port = {self.port}\nlisten_addresses = '127.0.0.1'\n")
            settings.write("unix_socket_directories = ''\nfsync = off\n")
        self._daemons = Daemons(self._folder)
        self.start()
        self.empty()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._daemons.close()
        shutil.rmtree(self._folder)

    @property
    def url(self) -> str:
        """For SQLAlchemy, with the password."""
        return self.url_with(self.password)

    def url_with(self, password: str) -> str:
        where = f"127.0.0.1:{self.port}/{DATABASE}"
        return f"postgresql+psycopg://{USER}:{quote_plus(password)}@{where}"

    def start(self) -> None:
        """Returns when it takes connections."""
        command = self._command("postgres", "-D", str(self._data))
        self._daemons.start("postgres", command, os.environ)
        self._run_sql("select 1")

    def stop(self) -> None:
        """Throws all clients out; returns when it is gone."""
        self._daemons.kill("postgres", signal.SIGINT)

    def empty(self) -> None:
        """Make the database anew, throwing out who is connected."""
        self._run_sql(f"drop database if exists {DATABASE} with (force)")
        self._run_sql(f"create database {DATABASE}")

    def output(self) -> str:
        """What the server itself has said."""
        return self._daemons.output("postgres")

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._bin / program), *arguments]
        if os.geteuid() != 0:
            return command
        return ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups", *command]

    def _run_sql(self, statement: str) -> None:
        import psycopg

        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with psycopg.connect(
                    host="127.0.0.1",
                    port=self.port,
                    user=USER,
                    password=self.password,
                    dbname="postgres",
                    autocommit=True,
                ) as connection:
                    connection.execute(statement)
                return
            except psycopg.OperationalError as error:  # it is still starting
                if time.monotonic() > deadline:
                    raise AssertionError(f"PostgreSQL: {error}\n{self.output()}") from error
                time.sleep(0.05)
