"""A PostgreSQL server of the tests' own: started in a folder, on a free port, with a password."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote_plus

INSTALL = "apt-get install postgresql"
USER = "scientist"
DATABASE = "ax"
PATIENCE = 60.0


def programs() -> Path | None:
    """Where ``initdb`` and ``pg_ctl`` lie; None where PostgreSQL is not installed."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3])
    )
    return versions[-1].parent if versions else None


class PostgresServer:
    """A server in ``folder`` (made here), run by another user where this one is root.

    Args:
        folder: must be one that another user may reach, such as one directly below ``/tmp``.
    """

    def __init__(self, folder: Path) -> None:
        found = programs()
        assert found is not None, INSTALL
        self._bin, self._data = found, folder / "data"
        # What a url must escape, so that what is searched for is found in either spelling.
        self.password = f"p@ss/{secrets.token_hex(8)}:%"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._as: str | None = None
        if os.geteuid() == 0:  # initdb refuses root
            self._as = pwd.getpwnam("postgres").pw_name
        folder.mkdir(mode=0o700)
        (folder / "password").write_text(self.password + "\n")
        if self._as:
            shutil.chown(folder, self._as)
            shutil.chown(folder / "password", self._as)
        self._run(
            "initdb",
            *("-D", self._data, "-U", USER, "-E", "UTF8", "--no-locale", "--no-sync"),
            *("-A", "scram-sha-256", f"--pwfile={folder / 'password'}"),
        )
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(f"port = {self.port}\nlisten_addresses = '127.0.0.1'\n")
            settings.write("unix_socket_directories = ''\nfsync = off\n")
        self.start()
        self._sql(f"CREATE DATABASE {DATABASE}")

    @property
    def url(self) -> str:
        """For SQLAlchemy, with the password."""
        return self.url_with(self.password)

    def url_with(self, password: str, port: int | None = None) -> str:
        """The same with another password, or port."""
        where = f"127.0.0.1:{port or self.port}/{DATABASE}"
        return f"postgresql+psycopg://{USER}:{quote_plus(password)}@{where}"

    def start(self) -> None:
        """Returns when it takes connections."""
        log = self._data.parent / "log"
        self._run("pg_ctl", "-D", self._data, "-l", log, "-w", "-t", str(int(PATIENCE)), "start")

    def stop(self) -> None:
        """Throws all clients out; returns when it is gone."""
        self._run("pg_ctl", "-D", self._data, "-m", "fast", "-w", "stop")

    def remove(self) -> None:
        """Stop it, if it runs, and remove the folder."""
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._data.parent)

    def log(self) -> str:
        return (self._data.parent / "log").read_text()

    def empty(self) -> None:
        """Drop the database's contents, throwing out who is connected."""
        self._sql(f"DROP DATABASE {DATABASE} WITH (FORCE)", f"CREATE DATABASE {DATABASE}")

    def _sql(self, *statements: str) -> None:
        import psycopg

        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                connection = psycopg.connect(
                    host="127.0.0.1",
                    port=self.port,
                    user=USER,
                    password=self.password,
                    dbname="postgres",
                    autocommit=True,
                )
                break
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        with connection:
            for statement in statements:
                connection.execute(statement)

    def _run(self, program: str, *arguments: object) -> None:
        ran = subprocess.run(
            [str(self._bin / program), *map(str, arguments)],
            user=self._as,
            group=self._as,
            extra_groups=[] if self._as else None,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=2 * PATIENCE,
        )
        assert ran.returncode == 0, f"{program}: {ran.stdout}"
