"""MySQL 8.0.11+: locking reads with SKIP LOCKED, then deletes by primary key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import DatabaseError, OperationalError, models

from dj_queue.engines.base import LOCK_NAME, LOCK_SECONDS, ClaimEngine, Server, State
from dj_queue.engines.sql import columns, prepared, row_of, table
from dj_queue.models import Execution, Pause, ReadyExecution
from dj_queue.routers import QueueDatabase

# ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK, and MariaDB's ER_CHECKREAD (row changed since the read).
TRANSIENT = {1205, 1213, 1020}
NO_SUCH_TABLE = 1146

# Not `backend = %s`: the optimizer might find the rows by an index that begins with the backend,
# and wait for rows of it that it does not want.
OWN = "CONCAT(backend, '') = %s"
# Without an order and a limit an IN list of a third of the table or more is found by a scan of it
# all (8.0 to 9, MariaDB 10.11), which waits for every row that another claim has locked.
BY_PRIMARY_KEY = "ORDER BY job_id LIMIT %s"
# A statement must fit into max_allowed_packet: 16 MB where MariaDB is not told otherwise.
SLICE_LENGTH = 4_000_000


# The index is forced: for a small table the optimizer sorts instead, and locks every row it sorts,
# so that a second claim finds nothing to take.
CLAIMABLE = f"""
    SELECT {columns(ReadyExecution)} FROM {table(ReadyExecution)} FORCE INDEX ({{index}})
    WHERE backend = %s AND {{matching}}
    AND queue_name NOT IN (SELECT queue_name FROM {table(Pause)})
    ORDER BY priority DESC, job_id LIMIT %s FOR UPDATE {{skip}}
"""


class MySQLEngine(ClaimEngine):
    """The portable engine; needs READ COMMITTED.

    Under REPEATABLE READ an empty locking read takes gap locks, which block the next enqueue
    until the lock timeout.
    """

    name = "MySQL"
    isolation_variable = "transaction_isolation"
    oldest: tuple[int, ...] = (8, 0, 11)

    def server(self, db: QueueDatabase) -> Server:
        version = db.connection.mysql_version  # type: ignore[attr-defined]
        with db.cursor() as cursor:
            cursor.execute(f"SELECT @@{self.isolation_variable}")
            isolation = cursor.fetchone()[0].replace("-", " ").lower()
        return Server(self.name, version, isolation)

    @contextmanager
    def locked(self, db: QueueDatabase) -> Iterator[None]:
        # The name is the server's, not the database's.
        name = f"{LOCK_NAME}:{db.connection.settings_dict['NAME']}"[:64]
        with db.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK(%s, %s)", [name, LOCK_SECONDS])
            if cursor.fetchone()[0] != 1:
                raise OperationalError(f"another migration held {name!r} for {LOCK_SECONDS} s")
            try:
                yield
            finally:
                cursor.execute("SELECT RELEASE_LOCK(%s)", [name])
                cursor.fetchone()

    def _take_ready(self, db: QueueDatabase, selector: str, limit: int) -> list[ReadyExecution]:
        index, matching, params = _matching(selector)
        skip = "SKIP LOCKED" if self._skips_locked(db) else ""
        sql = CLAIMABLE.format(index=index, matching=matching, skip=skip)
        rows = list(db.objects(ReadyExecution).raw(sql, [db.backend, *params, limit]))
        self._delete(db, ReadyExecution, [row.pk for row in rows])
        return rows

    def _lock(self, db: QueueDatabase, state: type[State], ids: Sequence[UUID]) -> list[State]:
        if not ids:
            return []
        listed = ", ".join(["%s"] * len(ids))
        sql = (
            f"SELECT {columns(state)} FROM {table(state)} FORCE INDEX (PRIMARY) "
            f"WHERE job_id IN ({listed}) AND {OWN} {BY_PRIMARY_KEY} FOR UPDATE"
        )
        params = [*(prepared(db, state, "job", each) for each in ids), db.backend, len(ids)]
        return list(db.objects(state).raw(sql, params))

    def _insert_into(self, db: QueueDatabase, model: type[models.Model], rows: list[Any]) -> None:
        insert = f"INSERT INTO {table(model)} ({columns(model)}) VALUES "
        marks = f"({', '.join(['%s'] * len(model._meta.concrete_fields))})"
        with db.cursor() as cursor:
            for slice_ in _slices([row_of(db, row) for row in rows]):
                values = [value for row in slice_ for value in row]
                cursor.execute(insert + ", ".join([marks] * len(slice_)), values)

    def _delete(self, db: QueueDatabase, state: type[Execution], ids: Sequence[UUID]) -> None:
        if not ids:
            return
        listed = ", ".join(["%s"] * len(ids))
        with db.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {table(state)} WHERE job_id IN ({listed}) {BY_PRIMARY_KEY}",
                [*(prepared(db, state, "job", each) for each in ids), len(ids)],
            )

    def is_transient(self, error: DatabaseError) -> bool:
        return bool(error.args) and error.args[0] in TRANSIENT

    def is_missing_table(self, error: DatabaseError) -> bool:
        return error.args[:1] == (NO_SUCH_TABLE,)


def _matching(selector: str) -> tuple[str, str, list[str]]:
    """Return the index that has the rows in claim order, the condition and its parameters."""
    if selector == "*":
        return "dj_queue_ready_any", "TRUE", []
    if selector.endswith("*"):
        escaped = re.sub(r"([\\\\%_])", r"\\\1", selector[:-1])
        return "dj_queue_ready_queue", "queue_name LIKE %s", [f"{escaped}%"]
    return "dj_queue_ready_queue", "queue_name = %s", [selector]


def _slices(rows: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Cut rows into lists whose text fits into one statement; almost always it is one list."""
    slice_: list[tuple[Any, ...]] = []
    length = 0
    for row in rows:
        size = sum(len(value) for value in row if isinstance(value, str))
        if slice_ and length + size > SLICE_LENGTH:
            yield slice_
            slice_, length = [], 0
        slice_.append(row)
        length += size
    if slice_:
        yield slice_
