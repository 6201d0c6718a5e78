"""PostgreSQL 14+: one statement per claim and per enqueue, arrays for any number of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import DatabaseError

from dj_queue.engines.base import (
    LOCK_NAME,
    ClaimEngine,
    Server,
    State,
    attach,
    distinct_selectors,
    held,
)
from dj_queue.engines.sql import columns, prepared, table
from dj_queue.models import (
    ClaimedExecution,
    Execution,
    Job,
    Pause,
    ReadyExecution,
    ScheduledExecution,
)
from dj_queue.models.ids import new_id
from dj_queue.routers import QueueDatabase

TRANSIENT = {"40001", "40P01", "55P03"}  # serialization, deadlock, lock not available
UNDEFINED_TABLE = "42P01"

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
)
INSERT INTO {table(ReadyExecution)} (job_id, backend, queue_name, priority, attempt)
SELECT id, %s, queue_name, priority, 1 FROM input WHERE NOT scheduled
"""
STORED = ("id", "queue_name", "task_path", "args", "kwargs", "priority", "run_after", "enqueued_at")

# Each selector takes what the ones before it left of the limit; `skip` is SKIP LOCKED or nothing.
PICK = f"""p{{turn}} AS MATERIALIZED (
    SELECT {{turn}} AS turn, r.job_id FROM {table(ReadyExecution)} r
    WHERE r.backend = %s AND {{matching}}
    AND NOT EXISTS (SELECT 1 FROM {table(Pause)} p WHERE p.queue_name = r.queue_name)
    ORDER BY r.priority DESC, r.job_id
    LIMIT {{limit}} FOR UPDATE OF r {{skip}}
)"""
# ANY(ARRAY(…)) is evaluated first and found by primary key; IN (SELECT …) may become a hash join
# over the whole table.
CLAIM = f"""
WITH {{picks}}, picked AS ({{union}}), taken AS (
    DELETE FROM {table(ReadyExecution)} WHERE job_id = ANY(ARRAY(SELECT job_id FROM picked))
    RETURNING job_id, backend, queue_name, priority, attempt
), claimed AS (
    INSERT INTO {table(ClaimedExecution)}
        (job_id, backend, queue_name, priority, attempt, process_id, claim_token, claimed_at)
    SELECT job_id, backend, queue_name, priority, attempt, %s, %s, %s FROM taken
)
SELECT {columns(Job, "j.")}, taken.attempt FROM taken JOIN picked USING (job_id) JOIN {table(Job)} j
ON j.id = taken.job_id ORDER BY picked.turn, taken.priority DESC, taken.job_id
"""


class PostgreSQLEngine(ClaimEngine):
    """Data-modifying CTEs: what the portable engine does in a transaction is one statement."""

    oldest = (14,)

    def store(
        self, db: QueueDatabase, jobs: Sequence[Job], executions: Sequence[Execution]
    ) -> None:
        scheduled = {row.job_id for row in executions if isinstance(row, ScheduledExecution)}
        arrays: list[list[Any]] = [
            [prepared(db, Job, name, getattr(job, name)) for job in jobs] for name in STORED
        ]
        waits = [job.id in scheduled for job in jobs]
        with db.cursor() as cursor:
            cursor.execute(STORE, [*arrays, waits, db.backend, db.backend, db.backend])

    def claim(
        self,
        db: QueueDatabase,
        selectors: Sequence[str],
        *,
        limit: int,
        process_id: UUID,
        now: datetime,
    ) -> list[ClaimedExecution]:
        token = new_id()
        sql, names = _claim_statement(distinct_selectors(selectors), db.options.use_skip_locked)
        limits = {"limit": limit, "backend": db.backend}
        params = [limits.get(kind, value) for kind, value in names]
        rows = db.objects(Job).raw(sql, [*params, process_id, token, now])
        claimed = []
        for job in rows:
            claimed.append(held(job, job.id, process_id, token, now))
            attach(claimed[-1], job)
        return claimed

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
        sql += f" AND t.backend = %s RETURNING {columns(state, 't.')}"
        return list(db.objects(state).raw(sql, [*params, db.backend]))

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


def _sqlstate(error: DatabaseError) -> str | None:
    return getattr(error.__cause__, "sqlstate", None)


@lru_cache(maxsize=64)
def _claim_statement(
    selectors: tuple[str, ...], skip_locked: bool
) -> tuple[str, list[tuple[str, str]]]:
    """Return the statement and its parameters before the claim's: (kind, value) each."""
    picks, params = [], []
    earlier: list[tuple[str, list[str]]] = []
    for turn, selector in enumerate(selectors):
        matching, values = _matching(selector)
        conditions = [matching, *(f"NOT {condition}" for condition, _ in earlier)]
        left = "".join(f" - (SELECT count(*) FROM p{each})" for each in range(turn))
        picks.append(
            PICK.format(
                turn=turn,
                matching=" AND ".join(conditions),
                limit=f"(SELECT %s::bigint{left})" if turn else "%s",
                skip="SKIP LOCKED" if skip_locked else "",
            )
        )
        values += [value for _, used in earlier for value in used]
        params += [("backend", ""), *(("queue", value) for value in values), ("limit", "")]
        earlier.append(_matching(selector))
    union = " UNION ALL ".join(f"SELECT turn, job_id FROM p{i}" for i in range(len(selectors)))
    return CLAIM.format(picks=", ".join(picks), union=union), params


def _matching(selector: str) -> tuple[str, list[str]]:
    if selector == "*":
        return "TRUE", []
    if selector.endswith("*"):
        return "starts_with(r.queue_name, %s)", [selector[:-1]]
    return "r.queue_name = %s", [selector]
