"""PostgreSQL 14+: one statement per claim and per enqueue, arrays for any number of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DatabaseError

from dj_queue.engines.arrays import array
from dj_queue.engines.base import LOCK_NAME, ClaimEngine, Server
from dj_queue.engines.claim_statement import claim_statement
from dj_queue.engines.claims import Claim, HandedOn, Heir, Holder, claims_of
from dj_queue.engines.hand_on_statement import HAND_ON, parameters
from dj_queue.engines.minutes import ON_CONFLICT, added_up
from dj_queue.engines.notifications import (
    CHANNEL,
    Listening,
    can_listen,
    due,
    payload_for,
)
from dj_queue.engines.poolers import is_pooled
from dj_queue.engines.selectors import distinct_selectors, in_turn
from dj_queue.engines.sql import (
    columns,
    fetched,
    prepared_columns,
    readable_columns,
    rows_of,
    table,
)
from dj_queue.engines.store_statement import store_many, store_one
from dj_queue.models import (
    ClaimedExecution,
    FinishedExecution,
    Job,
    QueueMinute,
    Semaphore,
    State,
)
from dj_queue.routers import Database, QueueDatabase

KEPT_CURSOR = "dj_queue_cursor"
TRANSIENT = {"40001", "40P01", "55P03"}  # serialization, deadlock, lock not available
UNDEFINED_TABLE = "42P01"
UNTRANSLATABLE = {"22P05", "22021"}  # untranslatable character, character not in repertoire

# The claim of one job, by its id: locked, and deleted where it lies. A join might read all claims,
# as often as there are rows to join, where the statistics are from a moment without any.
HELD = f"""SELECT ctid AS spot, c.* FROM {table(ClaimedExecution)} c
    WHERE c.job_id = {{held}}.job_id AND c.claim_token = {{held}}.claim_token"""
# Where it is prepared it is planned anew each time all the same, because the planner sees how many
# there are. That is as well: a plan from a moment without claims would read all there are by now.
FINISH = f"""
WITH outcome AS (
    SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::timestamptz[], %s::timestamptz[], %s::text[],
        %s::float8[])
    AS outcome(job_id, claim_token, started_at, finished_at, return_value, wait)
), held AS MATERIALIZED (
    SELECT c.*, o.started_at, o.finished_at, o.return_value, o.wait
    FROM outcome o CROSS JOIN LATERAL ({HELD.format(held="o")} AND c.backend = %s FOR UPDATE) c
), taken AS (
    DELETE FROM {table(ClaimedExecution)} WHERE ctid = ANY(ARRAY(SELECT spot FROM held))
), finished AS (
    INSERT INTO {table(FinishedExecution)} (job_id, backend, queue_name, priority, attempt,
        worker_id, started_at, finished_at, return_value)
    SELECT job_id, backend, queue_name, priority, attempt,
        process_id, started_at, finished_at, return_value FROM held
), minutes AS (
    INSERT INTO {table(QueueMinute)} AS known (id, backend, minute, queue_name, process_id,
        finished, failed, waiting_seconds, running_seconds)
    SELECT gen_random_uuid(), backend, date_trunc('minute', finished_at), queue_name, process_id,
        COUNT(*), 0, SUM(wait), SUM(EXTRACT(EPOCH FROM finished_at - started_at))
    FROM held GROUP BY 2, 3, 4, 5 ORDER BY 2, 3, 4, 5
    ON CONFLICT (backend, minute, queue_name, process_id) DO UPDATE SET
        finished = known.finished + excluded.finished,
        waiting_seconds = known.waiting_seconds + excluded.waiting_seconds,
        running_seconds = known.running_seconds + excluded.running_seconds
)
SELECT job_id, claim_token FROM held
"""
CLAIMS = f"""SELECT spot FROM unnest(%s::uuid[], %s::uuid[]) AS held(job_id, claim_token)
CROSS JOIN LATERAL ({HELD.format(held="held")} FOR UPDATE) c"""

# The update changes nothing: it locks the row. In the order given, so that two who want the same
# keys do not wait for each other.
LOCK_SEMAPHORES = f"""
INSERT INTO {table(Semaphore)} AS s (concurrency_key, held, expires_at)
SELECT key, 0, %s FROM unnest(%s::varchar[]) WITH ORDINALITY AS wanted(key, place) ORDER BY place
ON CONFLICT (concurrency_key) DO UPDATE SET held = s.held RETURNING {columns(Semaphore, "s.")}
"""

FINISHED = ("job", "started_at", "finished_at", "return_value")


class PostgreSQLEngine(ClaimEngine):
    """Data-modifying CTEs: what the portable engine does in a transaction is one statement."""

    oldest = (14,)
    skips_by_recursion = True
    can_notify = True
    # Not now(): that is when the transaction began.
    clock_statement = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint"

    def store(self, db: QueueDatabase, ready: Sequence[Job], scheduled: Sequence[Job]) -> None:
        queues = {job.queue_name for job in ready}
        if len(ready) + len(scheduled) == 1:
            [job] = ready or scheduled
            sql, params = store_one(job, bool(scheduled), due(db, queues))
        else:
            # Never suppressed: it may commit long after what it would be a repeat of.
            sql, params = store_many(ready, scheduled, payload_for(db, queues))
        _execute(db, sql, params)

    def claim(
        self,
        db: QueueDatabase,
        selectors: Sequence[str],
        *,
        limit: int,
        holder: Holder,
    ) -> list[ClaimedExecution]:
        sql, params = claim_statement(distinct_selectors(selectors), db.options.use_skip_locked)
        params = {**params, **vars(holder), "backend": db.backend, "limit": limit}
        jobs = list(db.objects(Job).raw(sql, params))
        # Beside the job's own columns.
        attempts = [job.attempt for job in jobs]  # type: ignore[attr-defined]
        return in_turn(claims_of(holder, jobs, attempts), selectors)

    def finish(
        self,
        db: QueueDatabase,
        rows: Sequence[FinishedExecution],
        tokens: Sequence[UUID],
        waits: Sequence[float],
    ) -> set[Claim]:
        ids, *values = prepared_columns(db, FinishedExecution, rows, FINISHED)
        arrays = map(array, [ids, tokens, *values, waits])
        return set(_execute(db, FINISH, [*arrays, db.backend]).fetchall())

    def add_minutes(self, db: Database, rows: Sequence[QueueMinute]) -> None:
        if rows:
            with db.cursor() as cursor:
                cursor.execute(*added_up(db, rows, **ON_CONFLICT))

    def take(
        self,
        db: QueueDatabase,
        state: type[State],
        ids: Sequence[UUID],
        tokens: Sequence[UUID] | None = None,
        skip_locked: bool = False,
    ) -> list[State]:
        sql = f"DELETE FROM {table(state)} t WHERE job_id = ANY(%s::uuid[])"
        params: list[Any] = [array(ids)]
        if skip_locked and self._skips_locked(db):
            free = f"SELECT job_id FROM {table(state)} WHERE job_id = ANY(%s::uuid[])"
            # An array, so that the planner takes it for ten rows whatever the ids are.
            sql = (
                f"DELETE FROM {table(state)} t "
                f"WHERE job_id = ANY(ARRAY({free} FOR UPDATE SKIP LOCKED))"
            )
        if tokens is not None:
            sql = f"DELETE FROM {table(state)} t WHERE ctid = ANY(ARRAY({CLAIMS}))"
            params.append(array(tokens))
        # Not t.backend alone: without statistics every row of it is read by an index that begins
        # with the backend.
        sql += f" AND t.backend || '' = %s RETURNING {readable_columns(state, 't.')}"
        return fetched(db, state, sql, [*params, db.backend])

    def lock_semaphores(
        self, db: Database, keys: Sequence[str], now: datetime
    ) -> dict[str, Semaphore]:
        cursor = _execute(db, LOCK_SEMAPHORES, [now, array(keys)])
        rows = rows_of(db, Semaphore, cursor.fetchall())
        return {row.key: row for row in rows}

    def hand_on(
        self, db: QueueDatabase, ended: Mapping[UUID, str], now: datetime, heir: Heir | None
    ) -> tuple[HandedOn, set[str]]:
        # All parts of a statement share a snapshot: this one's is to see each blocked job whose
        # enqueue had the lock before.
        self.lock_semaphores(db, sorted(set(ended.values())), now)
        rows = _execute(db, HAND_ON, parameters(db, ended, now, heir)).fetchall()
        left = {key for key, is_settled, *_ in rows if not is_settled}
        taken = [row for _, _, *row in rows if row[0] is not None]
        ready = {(backend, queue) for backend, queue, _, job_id, *_ in taken if job_id is None}
        for other in sorted({backend for backend, _ in ready}):
            queues = [queue for backend, queue in ready if backend == other]
            self.wake(QueueDatabase(alias=db.alias, backend=other), queues)
        mine = [row for _, _, *row in taken if row[1] is not None]
        jobs = rows_of(db, Job, [values for _, *values in mine])
        attempts = [attempt for attempt, *_ in mine]
        inherited = claims_of(heir.holder, jobs, attempts) if heir else []
        return HandedOn(len(taken), tuple(inherited)), left

    def wake(self, db: QueueDatabase, queues: Iterable[str]) -> None:
        payload = due(db, queues)
        if payload is not None:
            with db.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])

    def listen(self, db: QueueDatabase) -> Listening | None:
        return Listening(db) if can_listen(db) else None

    def server(self, db: Database) -> Server:
        number = db.connection.pg_version  # type: ignore[attr-defined]
        with db.cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            isolation = cursor.fetchone()[0]
        return Server("PostgreSQL", (number // 10_000, number % 10_000), isolation)

    @contextmanager
    def locked(self, db: Database) -> Iterator[bool]:
        # One transaction with the migrations: they are applied together or not at all, and it
        # takes no second connection, which a small pool might not have.
        with db.atomic():
            with db.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext(%s))", [LOCK_NAME])
                [is_ours] = cursor.fetchone()
            yield is_ours

    def is_transient(self, error: DatabaseError) -> bool:
        return _sqlstate(error) in TRANSIENT

    def is_untranslatable(self, error: Exception) -> bool:
        return _sqlstate(error) in UNTRANSLATABLE or super().is_untranslatable(error)

    def is_missing_table(self, error: DatabaseError) -> bool:
        return _sqlstate(error) == UNDEFINED_TABLE


def _execute(db: Database, sql: str, params: Any) -> Any:
    """Execute a statement, planned once per connection where the user says so; return the cursor.

    That is `prepare_threshold` in the OPTIONS of the database: Django's default is None. Never
    behind a pooler: in transaction mode a prepared statement may be missing there, or be another.
    Django's own cursor takes no notice of it, because it puts values into the text.
    """
    connection = db.connection
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    driver = connection.connection
    if getattr(driver, "prepare_threshold", None) is None or is_pooled(connection):
        cursor = connection.cursor()
    else:
        make = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
        cursor = make(_kept_cursor(connection, driver))
    cursor.execute(sql, params)
    return cursor


def _kept_cursor(connection: Any, driver: Any) -> Any:
    """Return the cursor that is kept on a psycopg connection, for one statement after the other.

    A new one finds out anew how to send each type of value, which takes a tenth of an enqueue.
    """
    cursor = getattr(driver, KEPT_CURSOR, None)
    if cursor is None or cursor.closed:
        cursor = connection.Database.Cursor(driver)
        setattr(driver, KEPT_CURSOR, cursor)
    return cursor


def _sqlstate(error: Exception) -> str | None:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)  # psycopg2's name
