"""Real processes: `manage.py dj_queue` and its kin."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from dj_queue.routers import queue_database
from dj_queue.runtime.dead import find_dead
from tests.processes.proxy import Proxy
from tests.processes.records import Records
from tests.processes.started import Started, arguments, variables
from tests.processes.throwaway import Missing, Throwaway

DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306}
Start = Callable[..., Started]


@pytest.fixture
def proxy(needs_server: None) -> Iterator[Proxy]:
    """Give a proxy before the server of the queue database."""
    server = connections["queue"].settings_dict
    proxy = Proxy(server["HOST"], int(server["PORT"] or DEFAULT_PORTS[connections["queue"].vendor]))
    yield proxy
    proxy.shut()


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """Give what the tasks of the test's processes write down, and the gates they wait at."""
    directory = tmp_path / "records"
    directory.mkdir()
    return Records(directory)


@pytest.fixture
def start(child_environment: dict[str, str], records: Records, tmp_path: Path) -> Iterator[Start]:
    """Give a function that starts a management command as its own process.

    Keywords are options of every backend, for the settings tests.processes.impatient; `queue` says
    where the queue database is reached.
    """
    started: list[Started] = []

    def start(
        *command: str,
        settings: str = "tests.processes.impatient",
        under: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        queue: dict[str, Any] | None = None,
        **options: Any,
    ) -> Started:
        more = {**records.variables, **variables(settings, options), **(environment or {})}
        if queue:
            more["DJ_QUEUE_TEST_QUEUE"] = json.dumps(queue)
        log = tmp_path / f"log{len(started)}"
        line = [*under, *arguments(*command)]
        started.append(Started(line, {**child_environment, **more}, log))
        return started[-1]

    yield start
    for each in started:
        each.clean_up()
    for backend in ("default", "bulk"):  # What a killed process leaves is for the next start.
        for dead in find_dead(queue_database(backend)):
            assert dead.file
            dead.file.remove()
            dead.close()


@pytest.fixture
def server(needs_server: None, vendor_by_alias: dict[str, str]) -> Iterator[Throwaway]:
    """Give a server of the queue's vendor that the test may stop, with the tables of the queue."""
    try:
        server = Throwaway(vendor_by_alias["queue"])
    except Missing as missing:
        pytest.skip(f"needs a server to stop: {missing}")
    connection = connections["queue"]
    before = connection.settings_dict.copy()
    try:
        create_database(connection, server.settings)
        call_command("dj_queue_migrate", backend=["default"], verbosity=0)
        yield server
    finally:
        connection.close()
        connection.settings_dict.update(before)
        server.remove()


def create_database(connection: Any, place: dict[str, Any]) -> None:
    """Point the connection to an empty database of its name on another server."""
    name = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict.update(place)
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {connection.ops.quote_name(name)}")
