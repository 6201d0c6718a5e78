"""Looking at listening connections from outside, and telling them things."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connections

from dj_queue.engines.notifications import CHANNEL, LISTENER_NAME
from dj_queue.routers import QueueDatabase


def notify(db: QueueDatabase, payload: str) -> None:
    """Tell something past the engine, on a connection that is in no transaction."""
    other = connections[db.alias].copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])
    other.close()


@contextmanager
def options_of(settings, backend: str, **options: object) -> Iterator[None]:
    before = settings.TASKS
    own = before[backend]
    settings.TASKS = {**before, backend: {**own, "OPTIONS": {**own["OPTIONS"], **options}}}
    yield
    settings.TASKS = before


def count_listeners(db: QueueDatabase) -> int:
    """Count the listening connections to the database."""
    return len(ask(db, "SELECT pid FROM pg_stat_activity"))


def end_listeners(db: QueueDatabase) -> int:
    """Let the server end the listening connections to the database; return how many."""
    return len(ask(db, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"))


def ask(db: QueueDatabase, select: str) -> list[tuple[object]]:
    with db.cursor() as cursor:
        cursor.execute(
            f"{select} WHERE application_name = %s AND datname = current_database()",
            [LISTENER_NAME],
        )
        return list(cursor.fetchall())


def until_gone(db: QueueDatabase) -> None:
    """Wait until the server has seen the end of the listening connections."""
    with db.cursor() as cursor:
        for _ in range(2000):
            if not count_listeners(db):
                return
            cursor.execute("SELECT pg_sleep(0.01)")
    pytest.fail("a listening connection is still there")
