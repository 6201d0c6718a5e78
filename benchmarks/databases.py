"""Throwaway databases: made on the servers that the command line names, dropped at the end."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

PREFIX = "dj_queue_bench"
EXPECTED = "postgresql://user:password@host:port, mysql://user:password@host:port or sqlite"


class Refused(Exception):
    """The command line cannot be followed; the message says what was expected."""


@dataclass(frozen=True)
class Server:
    """A database server, or a directory of SQLite files; `name` and `version` as it says itself."""

    scheme: str
    host: str = ""
    port: int | None = None
    user: str = ""
    password: str = ""
    name: str = "SQLite"
    version: str = sqlite3.sqlite_version

    @property
    def vendor(self) -> str:
        """One of postgresql, mariadb, mysql, sqlite."""
        return self.name.lower()

    def execute(self, statement: str, database: str = "") -> Any:
        """Run one statement outside a transaction; give the first column of the first row."""
        if self.scheme == "postgresql":
            return self._postgresql(statement, database or "postgres")
        return self._mysql(statement)

    def _postgresql(self, statement: str, database: str) -> Any:
        import psycopg

        with psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password or None,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None

    def _mysql(self, statement: str) -> Any:
        import MySQLdb

        connection = MySQLdb.connect(
            host=self.host,
            port=self.port or 3306,
            user=self.user,
            passwd=self.password,
            connect_timeout=5,
        )
        try:
            cursor = connection.cursor()
            cursor.execute(statement)
            row = cursor.fetchone()
            return row[0] if row else None
        finally:
            connection.close()


def server(argument: str, address: str) -> Server:
    """Read an address and ask the server who it is. Raises Refused, naming the argument."""
    if address == "sqlite":
        return Server("sqlite")
    refusal = Refused(f"expected {argument} to be {EXPECTED}, got {address!r}")
    try:
        url = urlsplit(address)
        port = url.port
    except ValueError:
        raise refusal from None
    if url.scheme not in {"postgresql", "mysql"} or not url.hostname or not url.username:
        raise refusal
    password = unquote(url.password or "")
    found = Server(url.scheme, url.hostname, port, unquote(url.username), password)
    try:
        said = found.execute(
            "SHOW server_version" if url.scheme == "postgresql" else "SELECT version()"
        )
    except Exception as error:  # A driver that is missing, or any error of its own.
        raise Refused(
            f"expected a server to answer at {argument} {address}, got {type(error).__name__}: "
            f"{str(error).strip()}"
        ) from error
    others = "MariaDB" if "mariadb" in said.lower() else "MySQL"
    name = "PostgreSQL" if url.scheme == "postgresql" else others
    version = said.split()[0].split("-")[0]
    return Server(url.scheme, url.hostname, port, found.user, password, name, version)


class Databases:
    """Makes databases inside a `with` block and drops them all when it ends, however it ends."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}_"))
        self._made: list[tuple[Server, str]] = []
        self._numbers = count()

    def __enter__(self) -> Databases:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each, name in list(self._made):
            self.drop(each, name)
        shutil.rmtree(self.directory, ignore_errors=True)

    def create(self, on: Server) -> dict[str, Any]:
        """Make an empty database; give Django's settings of it."""
        name = f"{PREFIX}_{os.getpid()}_{next(self._numbers)}"
        self._made.append((on, name))
        shared = {"NAME": name, "CONN_MAX_AGE": None}
        if on.scheme == "sqlite":
            return _sqlite(shared | {"NAME": str(self.directory / f"{name}.sqlite3")})
        places = {"HOST": on.host, "PORT": on.port or "", "USER": on.user, "PASSWORD": on.password}
        if on.scheme == "postgresql":
            on.execute(f"CREATE DATABASE {name}")
            return shared | places | {"ENGINE": "django.db.backends.postgresql"}
        on.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        options = {"charset": "utf8mb4", "isolation_level": "read committed"}
        return shared | places | {"ENGINE": "django.db.backends.mysql", "OPTIONS": options}

    def drop(self, on: Server, name: str) -> None:
        """Drop a database that was made here; a server that is gone took it along."""
        if (on, name) not in self._made:
            return
        self._made.remove((on, name))
        if on.scheme == "sqlite":
            for path in self.directory.glob(f"{Path(name).stem}.sqlite3*"):
                path.unlink()
            return
        force = " WITH (FORCE)" if on.scheme == "postgresql" else ""
        try:
            on.execute(f"DROP DATABASE IF EXISTS {name}{force}")
        except Exception as error:
            print(f"could not drop {name} on {on.name}: {error}")


def _sqlite(shared: dict[str, Any]) -> dict[str, Any]:
    options = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    return shared | {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": options}
