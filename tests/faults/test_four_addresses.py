"""The map of four vendors' worth of databases: three that live and one that is dead."""

import os
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests import databases
from tests.faults.conftest import NAME, create, drop
from tests.faults.project import OURS, Project

VENDORS = "default=sqlite,queue=postgresql,bulk=mysql"


@pytest.fixture
def mixed(tmp_path: Path, driver: Popen[str], django_db_blocker: Any) -> Iterator[Project]:
    """Give a project with its queues on SQLite, PostgreSQL and MySQL, all of them ready."""
    for module in ("psycopg", "MySQLdb"):
        pytest.importorskip(module, reason=f"needs {module}")
    try:
        given = databases.databases({**os.environ, "DJ_QUEUE_TEST_DATABASES": VENDORS})
    except ImproperlyConfigured as error:
        pytest.skip(f"needs a PostgreSQL and a MySQL server: {error}")
    given["default"]["NAME"] = str(tmp_path / "default.sqlite3")
    for alias in ("queue", "bulk"):
        given[alias]["NAME"] = f"{NAME}_mixed_{alias}"
    for config in given.values():
        config.pop("TEST", None)
    with django_db_blocker.unblock():
        for config in given.values():
            create(config)
        yield Project(tmp_path, given, driver)
        for config in given.values():
            drop(config)


def test_three_live_databases_and_a_dead_one_are_mapped_within_5_seconds(
    mixed: Project, silent_port: int
):
    near = {"TASKS.near": {"BACKEND": OURS, "OPTIONS": {"database_alias": "default"}}}
    dead = {**mixed.databases["queue"], "HOST": "127.0.0.1", "PORT": silent_port}
    mixed.write(near)
    migrated, healthy = mixed.run("dj_queue_migrate", "dj_queue_routes --json")
    gone = {"BACKEND": OURS, "OPTIONS": {"database_alias": "gone"}}
    mixed.write({**near, "DATABASES.gone": dead, "TASKS.gone": gone})

    (mapped,) = mixed.run("dj_queue_routes --json --timeout 3")

    assert (migrated.status, healthy.status, mapped.status) == (0, 0, 1), migrated.text
    assert {each["alias"]: each["is_reachable"] for each in mapped.json["databases"]} == {
        "queue": True,
        "bulk": True,
        "default": True,
        "gone": False,
    }
    names = [(each["server"] or "").partition(" ")[0] for each in mapped.json["databases"]]
    assert names == ["PostgreSQL", "MySQL", "SQLite", ""]
    assert mapped.ids == ["E100"]
    assert mapped.seconds < 30
