"""The map: what it says of each backend and database, and how it asks them."""

import threading
from collections.abc import Iterator

import pytest
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from dj_queue.checks import STATIC
from dj_queue.models import FailedExecution, ReadyExecution, state_of
from dj_queue.observability import route_map
from dj_queue.observability.route_map import draw_map
from dj_queue.operations.transitions import in_transaction, move
from dj_queue.routers import queue_database
from tests.jobs import EVERY, NOW, store

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

SECONDS = 30
OURS = "dj_queue.routers.router.DjQueueRouter"


def test_a_healthy_map_has_every_backend_and_each_database_once():
    drawn = draw_map(seconds=SECONDS)

    assert drawn.problems == []
    assert [(each.backend, each.database) for each in drawn.backends] == [
        ("default", "queue"),
        ("alerts", "queue"),
        ("bulk", "bulk"),
    ]
    assert [(each.alias, each.is_reachable) for each in drawn.databases] == [
        ("queue", True),
        ("bulk", True),
    ]
    assert {each.reads_answered_by for each in drawn.backends} == {OURS}
    assert {each.writes_answered_by for each in drawn.backends} == {OURS}


def test_the_server_describes_itself(vendor_by_alias: dict[str, str]):
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB", "mysql": "MySQL"}

    drawn = draw_map(seconds=SECONDS)

    for each in drawn.databases:
        name, _, version = each.server.partition(" ")
        assert name == names[vendor_by_alias[each.alias]]
        assert version.replace(".", "").isdigit()
        assert each.isolation in ("read committed", "serializable (wal)")


def fail(job):
    """Make a ready job a failed one."""
    db = queue_database(job.backend)
    columns = {"failed_at": NOW, "exception_path": "x", "message": "x"}
    in_transaction(
        db,
        lambda: move(
            db, ReadyExecution, [job.id], lambda row: [state_of(FailedExecution, row, **columns)]
        ),
    )


def test_jobs_are_counted_for_their_backend_alone():
    for name, ready_count, failed_count in (("default", 3, 1), ("alerts", 2, 0), ("bulk", 0, 2)):
        jobs = store(queue_database(name), ready_count + failed_count)
        for job in jobs[:failed_count]:
            fail(job)

    drawn = draw_map(seconds=SECONDS)

    assert {each.backend: (each.ready, each.failed) for each in drawn.backends} == {
        "default": (3, 1),
        "alerts": (2, 0),
        "bulk": (0, 2),
    }


def test_the_guarantee_is_atomic_only_on_the_applications_database(settings):
    settings.TASKS = {
        **settings.TASKS,
        "near": {**settings.TASKS["bulk"], "OPTIONS": {"database_alias": "default"}},
    }

    drawn = draw_map(seconds=SECONDS)

    assert {each.backend: each.enqueue for each in drawn.backends} == {
        "default": "immediate",
        "alerts": "immediate",
        "bulk": "immediate",
        "near": "atomic",
    }


def test_databases_are_asked_at_the_same_time(monkeypatch):
    everyone = threading.Barrier(len(list(connections)))
    examine = route_map._examine

    def examine_together(alias):
        everyone.wait(timeout=SECONDS)
        return examine(alias)

    monkeypatch.setattr(route_map, "_examine", examine_together)

    drawn = draw_map(seconds=2 * SECONDS)

    assert not everyone.broken
    assert drawn.problems == []


@pytest.fixture
def late(monkeypatch) -> Iterator[threading.Event]:
    """Let `bulk` answer only when the event is set; wait for its thread afterwards."""
    answering, threads = threading.Event(), []
    examine = route_map._examine

    def examine_late(alias):
        if alias == "bulk":
            threads.append(threading.current_thread())
            answering.wait(SECONDS)
        return examine(alias)

    monkeypatch.setattr(route_map, "_examine", examine_late)
    yield answering
    answering.set()
    for thread in threads:
        thread.join()


def test_a_late_answer_is_not_looked_at_any_more(late):
    store(queue_database("bulk"))

    drawn = draw_map(seconds=3)
    late.set()

    queue, bulk = drawn.databases
    assert (queue.is_reachable, bulk.is_reachable, bulk.server) == (True, False, None)
    assert [each.ready for each in drawn.backends] == [0, 0, None]
    assert [(each.id, each.level) for each in drawn.problems] == [("dj_queue.E100", "error")]
    assert "expected database 'bulk' to answer, got nothing within 3 s" in (
        drawn.problems[0].message
    )


def test_an_error_after_connecting_is_a_finding_too(monkeypatch):
    def refuse(alias):
        if alias == "bulk":
            raise DatabaseError("permission denied")
        return []

    monkeypatch.setattr(route_map, "unapplied_migrations", refuse)

    drawn = draw_map(seconds=SECONDS)

    assert [each.is_reachable for each in drawn.databases] == [True, False]
    assert [(each.id, each.message) for each in drawn.problems] == [
        ("dj_queue.E100", "expected database 'bulk' to answer, got permission denied")
    ]


def test_static_checks_ask_no_database_whatever_they_find(settings, monkeypatch):
    for alias in connections:
        connections[alias].close()
    for name in ("connect", "cursor"):
        monkeypatch.setattr(BaseDatabaseWrapper, name, lambda self: pytest.fail("it was asked"))
    settings.DATABASE_ROUTERS = []

    found = {message.id for check in STATIC for message in check()}

    monkeypatch.undo()
    assert "dj_queue.E003" in found
