"""SQLite 3.35+: one writer at a time, so every transaction begins with its write."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import DatabaseError, models

from dj_queue.engines.base import LOCK_NAME, ClaimEngine, Server, by_table
from dj_queue.engines.selectors import Turn, turns_of
from dj_queue.engines.sql import columns, marks, prepared, prepared_columns, table
from dj_queue.models import ClaimedExecution, Job, Pause, ReadyExecution, State
from dj_queue.routers import QueueDatabase

# The queues that have ready jobs, by one step through the index for each: DISTINCT reads every row.
READY_QUEUES = f"""
    WITH RECURSIVE queue(name) AS (
        SELECT min(queue_name) FROM {table(ReadyExecution)} WHERE backend = %s
        UNION ALL
        SELECT (
            SELECT min(queue_name) FROM {table(ReadyExecution)}
            WHERE backend = %s AND queue_name > queue.name
        ) FROM queue WHERE queue.name IS NOT NULL
    )
    SELECT name, EXISTS (SELECT 1 FROM {table(Pause)} WHERE queue_name = queue.name)
    FROM queue WHERE name IS NOT NULL
"""
CLAIMABLE = f"""
    SELECT * FROM (
        SELECT job_id, priority, {{place}} AS turn FROM {table(ReadyExecution)}
        WHERE backend = %s AND {{matching}} ORDER BY priority DESC, job_id LIMIT %s
    )
"""
ONE_QUEUE = f"""queue_name = %s
        AND NOT EXISTS (SELECT 1 FROM {table(Pause)} WHERE queue_name = %s)"""
ANY_QUEUE = f"queue_name NOT IN (SELECT queue_name FROM {table(Pause)})"
MOST_ARMS = 400  # of one UNION ALL; SQLite takes 500


class SQLiteEngine(ClaimEngine):
    """Deletes with RETURNING.

    A transaction that reads first and writes later fails at once when another writer was faster,
    whatever the timeout is; one that begins with its DELETE waits for its turn.
    """

    oldest = (3, 35)

    def take(
        self,
        db: QueueDatabase,
        state: type[State],
        ids: Sequence[UUID],
        tokens: Sequence[UUID] | None = None,
    ) -> list[State]:
        held = prepared(db, state, "job", ids)
        where = "job_id IN (SELECT value FROM json_each(%s))"
        if tokens is not None:
            where = (
                "(job_id, claim_token) IN "
                "(SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') "
                "FROM json_each(%s))"
            )
            held = list(
                zip(held, prepared(db, ClaimedExecution, "claim_token", tokens), strict=True)
            )
        # +backend: no index that begins with it, or without statistics every row of it is read.
        sql = f"DELETE FROM {table(state)} WHERE {where} AND +backend = %s"
        params = [json.dumps(held), db.backend]
        return list(db.objects(state).raw(f"{sql} RETURNING {columns(state)}", params))

    def insert(self, db: QueueDatabase, rows: Iterable[models.Model]) -> None:
        # One prepared statement for any number of rows; VALUES lists end at a variable limit.
        with db.cursor() as cursor:
            for model, group in by_table(rows):
                sql = (
                    f"INSERT INTO {table(model)} ({columns(model)}) "
                    f"VALUES ({marks(len(model._meta.concrete_fields))})"
                )
                values = zip(*prepared_columns(db, model, group), strict=True)
                cursor.executemany(sql, list(values))

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

    def _turns(self, db: QueueDatabase, selectors: Sequence[str]) -> list[Turn]:
        with db.cursor() as cursor:
            cursor.execute(READY_QUEUES, [db.backend, db.backend])
            ready = {name: bool(is_paused) for name, is_paused in cursor.fetchall()}
        return turns_of(selectors, ready)

    def _take_ready(
        self, db: QueueDatabase, turns: Sequence[Turn], limit: int
    ) -> list[ReadyExecution]:
        arms: list[str] = []
        params: list[Any] = []
        for place, turn in enumerate(turns):
            for matching, values in _ranges(turn):
                arms.append(CLAIMABLE.format(place=place, matching=matching))
                params += [db.backend, *values, limit]
        sql = (
            f"DELETE FROM {table(ReadyExecution)} WHERE job_id IN ("
            f"SELECT job_id FROM ({_union(arms)}) ORDER BY turn, priority DESC, job_id LIMIT %s"
            f") RETURNING {columns(ReadyExecution)}"
        )
        rows = db.objects(ReadyExecution).raw(sql, [*params, limit])
        places = {name: place for place, turn in enumerate(turns) for name in turn.names or ()}
        last = len(turns)
        return sorted(
            rows, key=lambda row: (places.get(row.queue_name, last), -row.priority, row.job_id)
        )

    def _payloads(self, db: QueueDatabase, ids: Sequence[UUID]) -> Iterable[Job]:
        sql = (
            f"SELECT {columns(Job)} FROM {table(Job)} WHERE id IN (SELECT value FROM json_each(%s))"
        )
        return db.objects(Job).raw(sql, [json.dumps(prepared(db, Job, "id", ids))])


def _ranges(turn: Turn) -> list[tuple[str, tuple[str, ...]]]:
    """Return what to read for a turn, each in claim order: condition and its parameters."""
    if turn.names is not None:
        return [(ONE_QUEUE, (name, name)) for name in turn.names]
    others = f" AND queue_name NOT IN ({marks(len(turn.but))})" if turn.but else ""
    return [(ANY_QUEUE + others, turn.but)]


def _union(arms: Sequence[str]) -> str:
    if len(arms) <= MOST_ARMS:
        return " UNION ALL ".join(arms)
    slices = (arms[start : start + MOST_ARMS] for start in range(0, len(arms), MOST_ARMS))
    return _union([f"SELECT * FROM ({_union(each)})" for each in slices])
