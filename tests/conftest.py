"""Fixtures about the vendors and servers the suite runs on."""

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import connections

from dj_queue import timezone
from dj_queue.engines import clock
from dj_queue.engines.poolers import shares_sessions
from dj_queue.routers import QueueDatabase, queue_database
from tests import databases, durations, selection

pytest_plugins = ["pytester"]

CHOSEN = os.environ.get("DJ_QUEUE_TEST_DATABASES") or "sqlite"
PART = os.environ.get("DJ_QUEUE_TEST_PART", "")
LEFT_TO_OTHERS = set(selection.files_of_other_shares(PART))


def pytest_configure(config: pytest.Config) -> None:
    """Tell where the time goes when slow tests are asked for."""
    if config.getoption("durations") is not None:
        config.pluginmanager.register(durations.Durations())


def pytest_report_header() -> str:
    """Name the vendor of each database, and the part of the suite, at the top of the run."""
    vendors = databases.vendor_by_alias(CHOSEN)
    header = "databases: " + ", ".join(f"{alias} on {vendors[alias]}" for alias in vendors)
    header += "" if databases.use_tz(os.environ) else "; USE_TZ is off"
    return f"{header}; part: {PART}" if PART else header


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave the files of other shares unread."""
    return True if collection_path in LEFT_TO_OTHERS else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that another run has."""
    deselected = [item for item in items if not selection.belongs(item, PART)]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in set(deselected)]


@pytest.fixture(scope="session")
def vendor_by_alias() -> dict[str, str]:
    """Give the vendor of each database alias; MariaDB and MySQL are two vendors."""
    return databases.vendor_by_alias(CHOSEN)


@pytest.fixture
def child_environment(transactional_db: None) -> dict[str, str]:
    """Give the environment of a child process that shall use the databases of this test."""
    for alias in connections:
        name = connections[alias].settings_dict["NAME"]
        assert "test_" in str(name), f"{alias} is not a test database: {name}"
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DJ_QUEUE_TEST_CHILD": "1",
    }


def _queue_backends() -> list[str]:
    """Give one backend per vendor: on mixed vendors both queue databases are tested."""
    vendors = databases.vendor_by_alias(CHOSEN)
    return ["default"] if vendors["queue"] == vendors["bulk"] else ["default", "bulk"]


@pytest.fixture(params=_queue_backends())
def db(request: pytest.FixtureRequest) -> QueueDatabase:
    """Give a queue database; the test asks for django_db itself."""
    return queue_database(request.param)


@pytest.fixture(autouse=True)
def _unread_clocks() -> None:
    """Let no test go by a clock that another has read."""
    clock.forget()


@pytest.fixture
def host_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Give a function that sets this host's clock forward, or back; the databases' stay right."""

    def set_forward(by: timedelta) -> None:
        monkeypatch.setattr(timezone, "now", lambda: datetime.now(UTC) + by)

    return set_forward


@pytest.fixture
def needs_own_session(db: QueueDatabase) -> None:
    """Skip the test where a transaction pooler stands before the queue database's server."""
    if db.vendor == "postgresql":
        db.connection.ensure_connection()
        if shares_sessions(db.connection):
            pytest.skip("needs a session of its own: a pooler gives it to others in between")


@pytest.fixture
def needs_notifications(db: QueueDatabase, needs_own_session: None) -> None:
    """Skip the test where the queue database cannot tell workers of jobs."""
    if db.vendor != "postgresql":
        pytest.skip("needs notifications: this database has none")


@pytest.fixture
def needs_server() -> None:
    """Skip the test where the queue database has no server to be cut off from."""
    if connections["queue"].vendor == "sqlite":
        pytest.skip("needs a server: this database is a file")


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, dict[str, object]]]]:
    """Give a function that returns the events logged so far: name and payload."""
    caplog.set_level(logging.DEBUG, "dj_queue")
    return lambda: [
        (record.event, record.payload) for record in caplog.records if record.name == "dj_queue"
    ]
