"""Planted projects on the vendors of this run, in databases of their own."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any
from uuid import uuid4

import pytest
from django.db import ConnectionHandler

from tests import databases
from tests.faults.project import Project, start_driver

NAME = f"test_dj_queue_fault_{uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def servers(django_db_blocker: Any) -> Iterator[dict[str, dict[str, Any]]]:
    """Give the DATABASES of a planted project; those on servers exist and are empty."""
    given = databases.databases(os.environ)
    for alias, config in given.items():
        config["NAME"] = f"{NAME}_{alias}"
        config.pop("TEST", None)
    with django_db_blocker.unblock():
        for config in given.values():
            create(config)
        yield given
        for config in given.values():
            drop(config)


@pytest.fixture(scope="session")
def driver() -> Iterator[Popen[str]]:
    """Give the process that runs commands for all projects."""
    with start_driver() as started:
        yield started
        assert started.stdin is not None
        started.stdin.close()


@pytest.fixture
def project(tmp_path: Path, servers: dict[str, dict[str, Any]], driver: Popen[str]) -> Project:
    """Give a healthy project whose databases nobody may have migrated."""
    placed = {
        alias: {**config, "NAME": str(tmp_path / f"{alias}.sqlite3")}
        if is_sqlite(config)
        else dict(config)
        for alias, config in servers.items()
    }
    return Project(tmp_path, placed, driver)


@pytest.fixture
def empty(project: Project) -> Project:
    """Give a healthy project whose databases are empty."""
    for config in project.databases.values():
        drop(config)
        create(config)
    return project


@pytest.fixture
def migrated(empty: Project) -> Project:
    """Give a healthy project whose queue databases are ready."""
    (done,) = empty.run("dj_queue_migrate")
    assert done.status == 0, done.text
    return empty


@pytest.fixture
def closed_port() -> int:
    """Give a port of this host where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Give a port that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def create(config: dict[str, Any]) -> None:
    """Create a database on its server, empty; a SQLite file creates itself."""
    charset = " CHARACTER SET utf8mb4" if "mysql" in config["ENGINE"] else ""
    on_server(config, f"CREATE DATABASE {config['NAME']}{charset}")


def drop(config: dict[str, Any]) -> None:
    """Drop a database from its server, whoever is still connected."""
    force = " WITH (FORCE)" if "postgresql" in config["ENGINE"] else ""
    on_server(config, f"DROP DATABASE IF EXISTS {config['NAME']}{force}")


def on_server(config: dict[str, Any], sql: str) -> None:
    """Run one statement that is about a database, outside of it."""
    if is_sqlite(config):
        return
    connection = ConnectionHandler({"default": dict(config)})["default"]
    with connection._nodb_cursor() as cursor:
        cursor.execute(sql)


def is_sqlite(config: dict[str, Any]) -> bool:
    """Tell whether DATABASES describes a SQLite file."""
    return "sqlite3" in config["ENGINE"]
