"""Faults in settings that need a driver, a file or another application to be planted."""

import sqlite3
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.faults.project import Project
from tests.faults.test_static_faults import ROUTES, SILENCE, backends

needs_psycopg = pytest.mark.skipif(
    not (find_spec("psycopg") and find_spec("psycopg_pool")), reason="needs psycopg and its pool"
)
needs_mysqlclient = pytest.mark.skipif(not find_spec("MySQLdb"), reason="needs mysqlclient")

CHECK = "check --fail-level WARNING"
IMMEDIATE = {"transaction_mode": "IMMEDIATE"}
MEMORY = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
WAL = {"init_command": "PRAGMA journal_mode=WAL"}


def test_relations_to_queue_models_are_named_whatever_their_kind(project: Project):
    project.write({"INSTALLED_APPS": [*project.apps, "ledger"]})

    checked, mapped = project.run("check", ROUTES)

    assert (checked.status, mapped.status) == (1, 1)
    for field, target in (
        ("ledger.Entry.job", "dj_queue.Job"),
        ("ledger.Receipt.failure", "dj_queue.FailedExecution"),
        ("ledger.Batch.jobs", "dj_queue.Job"),
    ):
        expected = f"expected {field} to stay within its own database, got a relation to {target},"
        assert f"(dj_queue.E008) {expected}" in checked.text
        assert expected in mapped.text
    assert checked.text.count("(dj_queue.E008)") == 3
    assert "E008" in mapped.ids


def test_two_aliases_for_one_database_are_named(project: Project):
    project.write({"DATABASES.again": project.databases["queue"]})

    checked, mapped = project.run(CHECK, ROUTES)

    assert (checked.status, mapped.status) == (1, 1)
    assert "(dj_queue.W001) expected each alias to be a database of its own, got 'queue' and" in (
        checked.text
    )
    assert "W001" in mapped.ids


def test_two_aliases_for_one_database_without_queues_are_no_ones_business(project: Project):
    project.write({"DATABASES.again": project.databases["default"]})

    (checked,) = project.run(CHECK)

    assert checked.text == SILENCE


def mysql(port: int, **options: str | None) -> dict[str, object]:
    """Give a MySQL database that nobody can reach."""
    place = {"HOST": "127.0.0.1", "PORT": port, "NAME": "x"}
    return {"ENGINE": "django.db.backends.mysql", "OPTIONS": options, **place}


@needs_mysqlclient
@pytest.mark.parametrize("level", ["repeatable read", "SERIALIZABLE", None])
def test_another_isolation_level_of_mysql_is_named(
    project: Project, closed_port: int, level: str | None
):
    project.write({"DATABASES.bulk": mysql(closed_port, isolation_level=level)})

    # Not `check`: Django 6.1 asks a MySQL server for its version there.
    (mapped,) = project.run(ROUTES)

    expected = "expected DATABASES['bulk']['OPTIONS']['isolation_level'] to be 'read committed',"
    assert (mapped.status, "W002" in mapped.ids) == (1, True)
    assert f"{expected} got {level!r}" in mapped.text


@needs_mysqlclient
@pytest.mark.parametrize("options", [{}, {"isolation_level": "READ COMMITTED"}], ids=str)
def test_read_committed_is_well_whoever_says_it(
    project: Project, closed_port: int, options: dict[str, str]
):
    project.write({"DATABASES.bulk": mysql(closed_port, **options)})

    (mapped,) = project.run(ROUTES)

    assert "W002" not in mapped.ids


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (WAL, "['transaction_mode'] to be 'IMMEDIATE', got None"),
        ({**WAL, "transaction_mode": "DEFERRED"}, "['transaction_mode'] to be 'IMMEDIATE', got 'D"),
        ({**WAL, **IMMEDIATE, "timeout": 4}, "['timeout'] to be 5 seconds or more, got 4"),
        (IMMEDIATE, "['init_command'] to set journal_mode=WAL, got None"),
    ],
    ids=["no IMMEDIATE", "DEFERRED", "small timeout", "no WAL"],
)
def test_what_sqlite_lacks_is_named(project: Project, options: dict[str, object], says: str):
    project.write({"DATABASES.bulk": sqlite(project, options)})

    checked, mapped = project.run(CHECK, ROUTES)

    assert (checked.status, mapped.status) == (1, 1)
    assert f"(dj_queue.W003) expected DATABASES['bulk']['OPTIONS']{says}" in checked.text
    assert checked.text.count("W003)") == 1
    assert "W003" in mapped.ids


@pytest.mark.parametrize(
    "changes",
    [
        {"DATABASES.bulk.OPTIONS": {**WAL, **IMMEDIATE}},
        {"DATABASES.bulk.OPTIONS": {**WAL, "transaction_mode": "exclusive", "timeout": 5}},
        # Nobody else opens a database in memory, and it has no journal.
        {"DATABASES.bulk": {**MEMORY, "OPTIONS": IMMEDIATE}},
        {"DATABASES.bulk.OPTIONS": {}, **backends("queue")},
    ],
    ids=["the least", "more than needed", "in memory", "without queues"],
)
def test_a_patient_sqlite_is_well(project: Project, changes: dict[str, object]):
    project.write({"DATABASES.bulk": sqlite(project, {}), **changes})

    (checked,) = project.run(CHECK)

    assert checked.text == SILENCE


def test_wal_is_recognised_in_the_file_where_settings_say_nothing(project: Project):
    config = sqlite(project, IMMEDIATE)
    file = sqlite3.connect(config["NAME"])
    file.execute("PRAGMA journal_mode=WAL")
    file.close()
    project.write({"DATABASES.bulk": config})

    (checked,) = project.run(CHECK)

    assert checked.text == SILENCE


def sqlite(project: Project, options: dict[str, object]) -> dict[str, object]:
    """Give a SQLite database on a file that does not exist."""
    path = str(Path(project.directory) / "apart.sqlite3")
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": options}


def pooled(port: int, pool: object) -> dict[str, object]:
    """Give a PostgreSQL database with a pool, which nobody can reach."""
    place = {"HOST": "127.0.0.1", "PORT": port, "NAME": "x"}
    return {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": pool}, **place}


@needs_psycopg
@pytest.mark.parametrize(
    ("pool", "size"),
    [(True, 4), ({"max_size": 5}, 5), ({"min_size": 3, "max_size": None}, 3), ({"min_size": 2}, 2)],
    ids=str,
)
def test_a_pool_smaller_than_the_threads_is_named(
    project: Project, closed_port: int, pool: object, size: int
):
    project.write({"DATABASES.bulk": pooled(closed_port, pool)})

    (checked,) = project.run(CHECK)

    expected = "expected DATABASES['bulk']['OPTIONS']['pool'] to have a max_size of 6 or more, got"
    assert checked.status == 1
    assert f"(dj_queue.W005) {expected} {size}:" in checked.text


@needs_psycopg
@pytest.mark.parametrize(
    "changes",
    [
        {"DATABASES.bulk.OPTIONS.pool": {"max_size": 6}},
        {"DATABASES.bulk.OPTIONS.pool": {"min_size": 6, "max_size": None}},
        {"DATABASES.bulk.OPTIONS.pool": False},
        {"TASKS.bulk.OPTIONS.workers": [{"threads": 1}]},
    ],
    ids=str,
)
def test_a_pool_as_big_as_the_threads_is_well(
    project: Project, closed_port: int, changes: dict[str, object]
):
    project.write({"DATABASES.bulk": pooled(closed_port, True), **changes})

    (checked,) = project.run(CHECK)

    assert checked.text == SILENCE


def test_a_silenced_fault_is_silent_on_the_map_too(migrated: Project):
    fault = {"DATABASES.bulk.ATOMIC_REQUESTS": True}

    migrated.write(fault)
    (loud,) = migrated.run(ROUTES)
    migrated.write({**fault, "SILENCED_SYSTEM_CHECKS": ["dj_queue.W004"]})
    (quiet,) = migrated.run(ROUTES)

    assert (loud.status, loud.ids) == (1, ["W004"])
    assert (quiet.status, quiet.ids) == (0, [])
