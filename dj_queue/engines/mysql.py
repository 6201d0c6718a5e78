"""MySQL 8.0.11+: locking reads with SKIP LOCKED, then deletes by primary key."""

from __future__ import annotations

from django.db import DatabaseError

from dj_queue.engines.base import ClaimEngine

# ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK, and MariaDB's ER_CHECKREAD (row changed since the read).
TRANSIENT = {1205, 1213, 1020}
NO_SUCH_TABLE = 1146


class MySQLEngine(ClaimEngine):
    """The portable engine; needs READ COMMITTED.

    Under REPEATABLE READ an empty locking read takes gap locks, which block the next enqueue
    until the lock timeout.
    """

    def is_transient(self, error: DatabaseError) -> bool:
        return bool(error.args) and error.args[0] in TRANSIENT

    def is_missing_table(self, error: DatabaseError) -> bool:
        return error.args[:1] == (NO_SUCH_TABLE,)
