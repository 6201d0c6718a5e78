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
from dj_queue.engines.sql import columns, marks, prepared_columns, table
from dj_queue.models import (
    ClaimedExecution,
    FinishedExecution,
    Job,
    ReadyExecution,
    ScheduledExecution,
    State,
)
from dj_queue.models.ids import new_id
from dj_queue.routers import QueueDatabase

TRANSIENT = {"40001", "40P01", "55P03"}  # serialization, deadlock, lock not available
UNDEFINED_TABLE = "42P01"

# One job: no arrays to build and to plan. What was written counts in any case, read or not.
STORE_ONE = f"""
WITH job AS (
    INSERT INTO {table(Job)} ({columns(Job)}) VALUES ({marks(len(Job._meta.concrete_fields))})
), state AS (
    INSERT INTO {{state}} ({{names}}) VALUES ({{values}})
)
SELECT pg_notify('{CHANNEL}', payload) FROM (SELECT %s::text) told(payload)
WHERE payload IS NOT NULL
"""
STORE = f"""
WITH input AS (
    SELECT * FROM unnest(%s::uuid[], %s::varchar[], %s::varchar[], %s::text[], %s::text[],
        %s::smallint[], %s::timestamptz[], %s::timestamptz[], %s::boolean[])
    AS input(id, queue_name, task_path, args, kwargs, priority, run_after, enqueued_at, scheduled)
), job AS (
    INSERT INTO {table(Job)}
        (id, backend, queue_name, task_path, args, kwargs, priority, run_after, enqueued_at)
    SELECT id, %s, queue_name, task_path, args, kwargs, priority, run_after, enqueued_at FROM input
), scheduled AS (
    INSERT INTO {table(ScheduledExecution)}
        (job_id, backend, queue_name, priority, attempt, run_after)
    SELECT id, %s, queue_name, priority, 1, run_after FROM input WHERE scheduled
), ready AS (
    INSERT INTO {table(ReadyExecution)} (job_id, backend, queue_name, priority, attempt)
    SELECT id, %s, queue_name, priority, 1 FROM input WHERE NOT scheduled
)
SELECT pg_notify('{CHANNEL}', payload) FROM (SELECT %s::text) told(payload)
WHERE payload IS NOT NULL
"""
STORED = ("id", "queue_name", "task_path", "args", "kwargs", "priority", "run_after", "enqueued_at")

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


STATE = ("job_id", "backend", "queue_name", "priority", "attempt")
STORE_ONE_READY = STORE_ONE.format(
    state=table(ReadyExecution), names=", ".join(STATE), values=marks(5)
)
STORE_ONE_SCHEDULED = STORE_ONE.format(
    state=table(ScheduledExecution), names=", ".join([*STATE, "run_after"]), values=marks(6)
)
FINISHED = ("job", "started_at", "finished_at", "return_value")


class PostgreSQLEngine(ClaimEngine):
    """Data-modifying CTEs: what the portable engine does in a transaction is one statement."""

    oldest = (14,)

    def store(self, db: QueueDatabase, ready: Sequence[Job], scheduled: Sequence[Job]) -> None:
        jobs, queues = [*ready, *scheduled], {job.queue_name for job in ready}
        if len(jobs) == 1:
            sql, params = self._store_one(db, jobs[0], bool(scheduled))
            payload = due(db, queues)
        else:
            waits = [False] * len(ready) + [True] * len(scheduled)
            backends = [db.backend] * 3
            sql, params = STORE, [*prepared_columns(db, Job, jobs, STORED), waits, *backends]
            # Never suppressed: it may commit long after what it would be a repeat of.
            payload = payload_for(db, queues)
        with db.cursor() as cursor:
            cursor.execute(sql, [*params, payload])

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

    def _store_one(self, db: QueueDatabase, job: Job, is_scheduled: bool) -> tuple[str, list[Any]]:
        values = [value for (value,) in prepared_columns(db, Job, [job])]
        state = [job.id, db.backend, job.queue_name, job.priority, 1]
        if is_scheduled:
            return STORE_ONE_SCHEDULED, [*values, *state, job.run_after]
        return STORE_ONE_READY, [*values, *state]

    def is_transient(self, error: DatabaseError) -> bool:
        return _sqlstate(error) in TRANSIENT

    def is_missing_table(self, error: DatabaseError) -> bool:
        return _sqlstate(error) == UNDEFINED_TABLE


def _sqlstate(error: DatabaseError) -> str | None:
    return getattr(error.__cause__, "sqlstate", None)
