"""PostgreSQL 14+: one statement per claim and per enqueue, arrays for any number of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DatabaseError

from dj_queue.engines.base import (
    LOCK_NAME,
    Claim,
    ClaimEngine,
    Server,
    attach,
    held,
)
from dj_queue.engines.claim_statement import claim_statement
from dj_queue.engines.notifications import (
    CHANNEL,
    Listening,
    can_listen,
    due,
    listening_alias,
    payload_for,
)
from dj_queue.engines.selectors import distinct_selectors
from dj_queue.engines.sql import columns, prepared_columns, table
from dj_queue.engines.store_statement import store_many, store_one
from dj_queue.models import (
    ClaimedExecution,
    FinishedExecution,
    Job,
    State,
)
from dj_queue.models.ids import new_id
from dj_queue.routers import QueueDatabase

TRANSIENT = {"40001", "40P01", "55P03"}  # serialization, deadlock, lock not available
UNDEFINED_TABLE = "42P01"

FINISH = f"""
WITH outcome AS (
    SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::timestamptz[], %s::timestamptz[], %s::text[])
    AS outcome(job_id, claim_token, started_at, finished_at, return_value)
), taken AS (
    DELETE FROM {table(ClaimedExecution)} c USING outcome o
    WHERE c.job_id = o.job_id AND c.claim_token = o.claim_token AND c.backend = %s
    RETURNING c.job_id, c.backend, c.queue_name, c.priority, c.attempt, c.process_id,
        o.claim_token, o.started_at, o.finished_at, o.return_value
), finished AS (
    INSERT INTO {table(FinishedExecution)} (job_id, backend, queue_name, priority, attempt,
        worker_id, started_at, finished_at, return_value)
    SELECT job_id, backend, queue_name, priority, attempt,
        process_id, started_at, finished_at, return_value FROM taken
)
SELECT job_id, claim_token FROM taken
"""


FINISHED = ("job", "started_at", "finished_at", "return_value")


class PostgreSQLEngine(ClaimEngine):
    """Data-modifying CTEs: what the portable engine does in a transaction is one statement."""

    oldest = (14,)

    def store(self, db: QueueDatabase, ready: Sequence[Job], scheduled: Sequence[Job]) -> None:
        queues = {job.queue_name for job in ready}
        if len(ready) + len(scheduled) == 1:
            [job] = ready or scheduled
            sql, params = store_one(job, bool(scheduled), due(db, queues))
        else:
            # Never suppressed: it may commit long after what it would be a repeat of.
            sql, params = store_many(ready, scheduled, payload_for(db, queues))
        with _preparing_cursor(db) as cursor:
            cursor.execute(sql, params)

    def claim(
        self,
        db: QueueDatabase,
        selectors: Sequence[str],
        *,
        limit: int,
        process_id: UUID,
        now: datetime,
    ) -> list[ClaimedExecution]:
        sql, params = claim_statement(distinct_selectors(selectors), db.options.use_skip_locked)
        token = new_id()
        claim = {"process_id": process_id, "token": token, "now": now}
        jobs = db.objects(Job).raw(sql, {**params, **claim, "backend": db.backend, "limit": limit})
        claimed = []
        for job in jobs:
            attempt = job.attempt  # type: ignore[attr-defined] # beside the job's own columns
            claimed.append(held(job, process_id, token, now, attempt=attempt))
            attach(claimed[-1], job)
        return claimed

    def finish(
        self, db: QueueDatabase, rows: Sequence[FinishedExecution], tokens: Sequence[UUID]
    ) -> set[Claim]:
        ids, *values = prepared_columns(db, FinishedExecution, rows, FINISHED)
        with db.cursor() as cursor:
            cursor.execute(FINISH, [ids, list(tokens), *values, db.backend])
            return set(cursor.fetchall())

    def take(
        self,
        db: QueueDatabase,
        state: type[State],
        ids: Sequence[UUID],
        tokens: Sequence[UUID] | None = None,
    ) -> list[State]:
        sql = f"DELETE FROM {table(state)} t WHERE job_id = ANY(%s::uuid[])"
        params: list[Any] = [list(ids)]
        if tokens is not None:
            sql = (
                f"DELETE FROM {table(state)} t USING unnest(%s::uuid[], %s::uuid[]) "
                "AS held(job_id, claim_token) "
                "WHERE t.job_id = held.job_id AND t.claim_token = held.claim_token"
            )
            params.append(list(tokens))
        # Not t.backend alone: without statistics every row of it is read by an index that begins
        # with the backend.
        sql += f" AND t.backend || '' = %s RETURNING {columns(state, 't.')}"
        return list(db.objects(state).raw(sql, [*params, db.backend]))

    def wake(self, db: QueueDatabase, queues: Iterable[str]) -> None:
        payload = due(db, queues)
        if payload is not None:
            with db.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])

    def listen(self, db: QueueDatabase) -> Listening | None:
        return Listening(listening_alias(db)) if can_listen(db) else None

    def server(self, db: QueueDatabase) -> Server:
        number = db.connection.pg_version  # type: ignore[attr-defined]
        with db.cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            isolation = cursor.fetchone()[0]
        return Server("PostgreSQL", (number // 10_000, number % 10_000), isolation)

    @contextmanager
    def locked(self, db: QueueDatabase) -> Iterator[None]:
        with db.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(hashtext(%s))", [LOCK_NAME])
            try:
                yield
            finally:
                cursor.execute("SELECT pg_advisory_unlock(hashtext(%s))", [LOCK_NAME])

    def is_transient(self, error: DatabaseError) -> bool:
        return _sqlstate(error) in TRANSIENT

    def is_missing_table(self, error: DatabaseError) -> bool:
        return _sqlstate(error) == UNDEFINED_TABLE


@contextmanager
def _preparing_cursor(db: QueueDatabase) -> Iterator[Any]:
    """Give a cursor whose statement is planned once per connection, where the user says so.

    That is `prepare_threshold` in the OPTIONS of the database: Django's default is None, for behind
    a transaction pooler a prepared statement may be missing, or be another. Django's own cursor
    takes no notice of it, because it puts values into the text.
    """
    connection = db.connection
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    driver = connection.connection
    if getattr(driver, "prepare_threshold", None) is None:
        with connection.cursor() as cursor:
            yield cursor
        return
    make = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    with make(connection.Database.Cursor(driver)) as cursor:  # type: ignore[attr-defined]
        yield cursor


def _sqlstate(error: DatabaseError) -> str | None:
    return getattr(error.__cause__, "sqlstate", None)
