"""SQLite 3.35+: one writer at a time, so every transaction begins with its write."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DatabaseError, models

from dj_queue.engines.base import LOCK_NAME, ClaimEngine, Server, State
from dj_queue.engines.sql import columns, prepared, row_of, table
from dj_queue.models import ClaimedExecution, Pause, ReadyExecution
from dj_queue.routers import QueueDatabase

CLAIMABLE = f"""
    SELECT job_id FROM {table(ReadyExecution)}
    WHERE backend = %s AND {{matching}}
    AND queue_name NOT IN (SELECT queue_name FROM {table(Pause)})
    ORDER BY priority DESC, job_id LIMIT %s
"""


class SQLiteEngine(ClaimEngine):
    """Deletes with RETURNING.

    A transaction that reads first and writes later fails at once when another writer was faster,
    whatever the timeout is; one that begins with its DELETE waits for its turn.
    """

    oldest = (3, 35)

    def claim(
        self,
        db: QueueDatabase,
        selectors: Sequence[str],
        *,
        limit: int,
        process_id: UUID,
        now: datetime,
    ) -> list[ClaimedExecution]:
        # An idle worker only reads: even a DELETE that finds nothing takes the one write lock.
        if not self._is_any_claimable(db, selectors):
            return []
        return super().claim(db, selectors, limit=limit, process_id=process_id, now=now)

    def take(
        self,
        db: QueueDatabase,
        state: type[State],
        ids: Sequence[UUID],
        tokens: Sequence[UUID] | None = None,
    ) -> list[State]:
        held = [prepared(db, state, "job", each) for each in ids]
        where = "job_id IN (SELECT value FROM json_each(%s))"
        if tokens is not None:
            where = (
                "(job_id, claim_token) IN "
                "(SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') "
                "FROM json_each(%s))"
            )
            prepare = [prepared(db, ClaimedExecution, "claim_token", each) for each in tokens]
            held = list(zip(held, prepare, strict=True))
        sql = f"DELETE FROM {table(state)} WHERE {where} AND backend = %s"
        params = [json.dumps(held), db.backend]
        return list(db.objects(state).raw(f"{sql} RETURNING {columns(state)}", params))

    def server(self, db: QueueDatabase) -> Server:
        with db.cursor() as cursor:
            cursor.execute("SELECT sqlite_version()")
            version = tuple(map(int, cursor.fetchone()[0].split(".")))
            cursor.execute("PRAGMA journal_mode")
            journal = cursor.fetchone()[0]
        return Server("SQLite", version, f"serializable ({journal})")

    @contextmanager
    def locked(self, db: QueueDatabase) -> Iterator[None]:
        # A lock of the database itself would keep the migrations out, which commit in between.
        path = str(db.connection.settings_dict["NAME"])
        if path == ":memory:" or path.startswith("file:"):
            yield  # No other process can reach it.
            return
        with open(f"{path}.{LOCK_NAME}", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def is_transient(self, error: DatabaseError) -> bool:
        return "locked" in str(error) or "busy" in str(error)

    def is_missing_table(self, error: DatabaseError) -> bool:
        return "no such table" in str(error)

    def _is_any_claimable(self, db: QueueDatabase, selectors: Sequence[str]) -> bool:
        with db.cursor() as cursor:
            for selector in selectors:
                matching, params = _matching(selector)
                sql = CLAIMABLE.format(matching=matching)
                cursor.execute(sql, [db.backend, *params, 1])
                if cursor.fetchone():
                    return True
        return False

    def _take_ready(self, db: QueueDatabase, selector: str, limit: int) -> list[ReadyExecution]:
        matching, params = _matching(selector)
        claimable = CLAIMABLE.format(matching=matching)
        sql = (
            f"DELETE FROM {table(ReadyExecution)} WHERE job_id IN ({claimable}) "
            f"RETURNING {columns(ReadyExecution)}"
        )
        rows = db.objects(ReadyExecution).raw(sql, [db.backend, *params, limit])
        return sorted(rows, key=lambda row: (-row.priority, row.job_id))

    def _insert_into(self, db: QueueDatabase, model: type[models.Model], rows: list[Any]) -> None:
        # One prepared statement for any number of rows; VALUES lists end at a variable limit.
        marks = ", ".join(["%s"] * len(model._meta.concrete_fields))
        sql = f"INSERT INTO {table(model)} ({columns(model)}) VALUES ({marks})"
        with db.cursor() as cursor:
            cursor.executemany(sql, [row_of(db, row) for row in rows])


def _matching(selector: str) -> tuple[str, list[Any]]:
    if selector == "*":
        return "1 = 1", []
    if selector.endswith("*"):
        # Not LIKE: SQLite's ignores the case of ASCII letters.
        return "substr(queue_name, 1, %s) = %s", [len(selector) - 1, selector[:-1]]
    return "queue_name = %s", [selector]
