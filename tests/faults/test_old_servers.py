"""E102: servers too old for the queue. There is none to run on, so versions are made up."""

import pytest

from dj_queue.checks.live import check_server
from dj_queue.engines import engine_for
from dj_queue.engines.base import ClaimEngine, Server
from dj_queue.engines.mariadb import MariaDBEngine
from dj_queue.engines.mysql import MySQLEngine
from dj_queue.engines.postgresql import PostgreSQLEngine
from dj_queue.engines.sqlite import SQLiteEngine
from dj_queue.observability.route_map import draw_map
from dj_queue.routers import QueueDatabase
from tests.jobs import EVERY

POSTGRESQL, MYSQL = PostgreSQLEngine(), MySQLEngine()
MARIADB, SQLITE = MariaDBEngine(), SQLiteEngine()
SORTS = "expected MariaDB 10.11.5 or later, or 10.6, got MariaDB"


@pytest.mark.parametrize(
    ("engine", "name", "version", "says"),
    [
        (POSTGRESQL, "PostgreSQL", (13, 22), "expected PostgreSQL 14 or later, got PostgreSQL 13"),
        (MYSQL, "MySQL", (8, 0, 10), "expected MySQL 8.0.11 or later, got MySQL 8.0.10"),
        (MYSQL, "MySQL", (5, 7, 44), "expected MySQL 8.0.11 or later, got MySQL 5.7.44"),
        (MARIADB, "MariaDB", (10, 5, 29), "expected MariaDB 10.6 or later, got MariaDB 10.5.29"),
        (MARIADB, "MariaDB", (10, 7, 1), f"{SORTS} 10.7.1: ids sort wrongly"),
        (MARIADB, "MariaDB", (10, 11, 4), f"{SORTS} 10.11.4: ids sort wrongly"),
        (SQLITE, "SQLite", (3, 34, 1), "expected SQLite 3.35 or later, got SQLite 3.34.1"),
    ],
    ids=str,
)
def test_an_old_server_is_named(
    engine: ClaimEngine, name: str, version: tuple[int, ...], says: str
):
    problem = engine.unfit(Server(name, version, ""))

    assert problem is not None
    assert problem.startswith(says)


@pytest.mark.parametrize(
    ("engine", "version"),
    [
        (POSTGRESQL, (14, 0)),
        (POSTGRESQL, (18, 1)),
        (MYSQL, (8, 0, 11)),
        (MYSQL, (9, 5, 0)),
        (MARIADB, (10, 6, 0)),
        (MARIADB, (10, 6, 24)),
        (MARIADB, (10, 11, 5)),
        (MARIADB, (12, 0, 2)),
        (SQLITE, (3, 35, 0)),
        (ClaimEngine(), ()),
    ],
    ids=str,
)
def test_a_server_new_enough_is_well(engine: ClaimEngine, version: tuple[int, ...]):
    assert engine.unfit(Server("any", version, "")) is None


@pytest.mark.django_db(transaction=True, **EVERY)
def test_check_and_map_name_an_old_server(db: QueueDatabase, monkeypatch: pytest.MonkeyPatch):
    engine = engine_for(db)
    before = list(check_server(databases=[db.alias]))
    monkeypatch.setattr(type(engine), "oldest", (999,))

    (found,) = check_server(databases=[db.alias])

    expected = f"expected {engine.server(db).name} 999 or later, got {engine.server(db)}"
    assert before == []
    assert (found.id, found.msg) == ("dj_queue.E102", f"{expected} (database {db.alias!r})")
    assert "dj_queue.E102" in [each.id for each in draw_map(seconds=30).problems]


@pytest.mark.django_db(**EVERY)
def test_the_servers_of_this_run_are_well(db: QueueDatabase):
    assert engine_for(db).unfit(engine_for(db).server(db)) is None
