"""MySQL's and MariaDB's lock by name, held for no longer than a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import Error

from dj_queue.engines.base import LOCK_NAME
from dj_queue.routers import Database

# The name is the server's, not the database's.
NAME = f"LEFT(CONCAT('{LOCK_NAME}:', DATABASE()), 64)"


@contextmanager
def named_lock(db: Database) -> Iterator[bool]:
    """Try to take the lock of migrations for the block; give whether it was free."""
    # In a transaction, so that a pooler keeps one session for the lock until it is released;
    # on a connection of its own, because DDL commits.
    connection = db.connection.copy()
    try:
        with connection.cursor() as cursor:
            cursor.execute("START TRANSACTION")
            cursor.execute(f"SELECT GET_LOCK({NAME}, 0)")
            is_ours = cursor.fetchone()[0] == 1
            try:
                yield is_ours
            finally:
                with suppress(Error):  # Where the session has ended the lock has, too.
                    if is_ours:
                        cursor.execute(f"SELECT RELEASE_LOCK({NAME})")
                        cursor.fetchone()
                    cursor.execute("ROLLBACK")
    finally:
        connection.close()
