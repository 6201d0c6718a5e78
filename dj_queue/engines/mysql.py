"""MySQL 8.0.11+: locking reads with SKIP LOCKED, then deletes by primary key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

from django.db import DatabaseError, InterfaceError, OperationalError, models

from dj_queue.engines.base import (
    LOCK_NAME,
    LOCK_SECONDS,
    ClaimEngine,
    Server,
    by_table,
    new_rows,
)
from dj_queue.engines.selectors import Turn, distinct_selectors, turns_of
from dj_queue.engines.sql import columns, marks, prepared, prepared_columns, table
from dj_queue.models import Execution, Job, Pause, ReadyExecution, State
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


Statement = tuple[str, list[Any]]
"""SQL and its parameters."""

# The index is forced: for a small table the optimizer sorts instead, and locks every row it sorts,
# so that a second claim finds nothing to take.
CLAIMABLE = f"""(
    SELECT {columns(ReadyExecution)}, {{place}} AS turn FROM {table(ReadyExecution)}
    FORCE INDEX ({{index}}) WHERE backend = %s AND {{matching}}
    ORDER BY priority DESC, job_id LIMIT %s FOR UPDATE {{skip}}
)"""
ONE_QUEUE = f"""queue_name = %s
    AND NOT EXISTS (SELECT 1 FROM {table(Pause)} WHERE queue_name = %s)"""
ANY_QUEUE = f"queue_name NOT IN (SELECT queue_name FROM {table(Pause)})"
HAS_JOBS = f"EXISTS (SELECT 1 FROM {table(ReadyExecution)} WHERE backend = %s)"
HAS_JOBS_IN = f"""(
    EXISTS (SELECT 1 FROM {table(ReadyExecution)} WHERE backend = %s AND queue_name = %s)
    AND NOT EXISTS (SELECT 1 FROM {table(Pause)} WHERE queue_name = %s)
)"""
# With both columns DISTINCT skips from queue to queue; with the name alone it reads every row.
READY_QUEUES = (
    f"SELECT DISTINCT backend, queue_name FROM {table(ReadyExecution)} WHERE backend = %s"
)


class MySQLEngine(ClaimEngine):
    """The portable engine; needs READ COMMITTED.

    Under REPEATABLE READ an empty locking read takes gap locks, which block the next enqueue
    until the lock timeout.
    """

    name = "MySQL"
    isolation_variable = "transaction_isolation"
    oldest: tuple[int, ...] = (8, 0, 11)

    def store(self, db: QueueDatabase, ready: Sequence[Job], scheduled: Sequence[Job]) -> None:
        inserts = list(_inserts(db, new_rows(ready, scheduled)))
        if len(inserts) <= 1 + bool(ready) + bool(scheduled) and _may_send_at_once(db):
            self._send_at_once(db, inserts)
            return
        with db.atomic(), db.cursor() as cursor:
            for insert in inserts:
                cursor.execute(*insert)

    def insert(self, db: QueueDatabase, rows: Iterable[models.Model]) -> None:
        with db.cursor() as cursor:
            for insert in _inserts(db, rows):
                cursor.execute(*insert)

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

    def _turns(self, db: QueueDatabase, selectors: Sequence[str]) -> list[Turn]:
        asked = distinct_selectors(selectors)
        exact = [each for each in asked if not each.endswith("*")]
        looks = [f"EXISTS (SELECT 1 FROM {table(Pause)})", HAS_JOBS, *[HAS_JOBS_IN] * len(exact)]
        names = [value for name in exact for value in (db.backend, name, name)]
        with db.cursor() as cursor:
            cursor.execute(f"SELECT {', '.join(looks)}", [db.backend, *names])
            is_any_paused, has_jobs, *has_jobs_in = cursor.fetchone()
        prefixes = len(asked) - len(exact) - ("*" in asked)
        if has_jobs and len(asked) > len(exact) and (is_any_paused or prefixes):
            paused = set(db.objects(Pause).values_list("queue_name", flat=True))
            return turns_of(asked, {name: name in paused for name in self._ready_queues(db)})
        turns = [Turn((name,)) for name, has in zip(exact, has_jobs_in, strict=True) if has]
        return [*turns, Turn(None, tuple(exact))] if has_jobs and "*" in asked else turns

    def _ready_queues(self, db: QueueDatabase) -> list[str]:
        with db.cursor() as cursor:
            cursor.execute(READY_QUEUES, [db.backend])
            return [name for _, name in cursor.fetchall()]

    def _take_ready(
        self, db: QueueDatabase, turns: Sequence[Turn], limit: int
    ) -> list[ReadyExecution]:
        # Mostly the first has enough: then no row of another turn is locked.
        rows = self._lock_ready(db, turns[:1], limit)
        if len(turns) > 1 and len(rows) < limit:
            rows += self._lock_ready(db, turns[1:], limit - len(rows))
        self._delete(db, ReadyExecution, [row.pk for row in rows])
        return rows

    def _lock_ready(
        self, db: QueueDatabase, turns: Sequence[Turn], limit: int
    ) -> list[ReadyExecution]:
        arms: list[str] = []
        params: list[Any] = []
        skip = "SKIP LOCKED" if self._skips_locked(db) else ""
        for place, turn in enumerate(turns):
            for index, matching, values in _ranges(turn):
                arms.append(
                    CLAIMABLE.format(place=place, index=index, matching=matching, skip=skip)
                )
                params += [db.backend, *values, limit]
        sql = " UNION ALL ".join(arms)
        if len(arms) > 1:
            sql += " ORDER BY turn, priority DESC, job_id LIMIT %s"
            params.append(limit)
        return list(db.objects(ReadyExecution).raw(sql, params))

    def _lock(self, db: QueueDatabase, state: type[State], ids: Sequence[UUID]) -> list[State]:
        if not ids:
            return []
        sql = (
            f"SELECT {columns(state)} FROM {table(state)} FORCE INDEX (PRIMARY) "
            f"WHERE job_id IN ({marks(len(ids))}) AND {OWN} {BY_PRIMARY_KEY} FOR UPDATE"
        )
        params = [*prepared(db, state, "job", ids), db.backend, len(ids)]
        return list(db.objects(state).raw(sql, params))

    def _payloads(self, db: QueueDatabase, ids: Sequence[UUID]) -> Iterable[Job]:
        sql = f"SELECT {columns(Job)} FROM {table(Job)} WHERE id IN ({marks(len(ids))})"
        return db.objects(Job).raw(sql, prepared(db, Job, "id", ids))

    def _send_at_once(self, db: QueueDatabase, statements: Sequence[Statement]) -> None:
        """Run statements as one transaction, in one round trip instead of one for each and three.

        The server stops at the first that fails.
        """
        sql = "; ".join(["START TRANSACTION", *(sql for sql, _ in statements), "COMMIT"])
        connection = db.connection
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, [value for _, values in statements for value in values])
                while cursor.nextset():
                    pass
        except BaseException:
            # Whatever it was, the transaction must not stay open behind Django's back.
            with suppress(DatabaseError, InterfaceError):
                connection.rollback()
            raise

    def _delete(self, db: QueueDatabase, state: type[Execution], ids: Sequence[UUID]) -> None:
        if not ids:
            return
        with db.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {table(state)} WHERE job_id IN ({marks(len(ids))}) {BY_PRIMARY_KEY}",
                [*prepared(db, state, "job", ids), len(ids)],
            )

    def is_transient(self, error: DatabaseError) -> bool:
        return bool(error.args) and error.args[0] in TRANSIENT

    def is_missing_table(self, error: DatabaseError) -> bool:
        return error.args[:1] == (NO_SUCH_TABLE,)


def _ranges(turn: Turn) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return what to read for a turn: index in claim order, condition and its parameters."""
    if turn.names is not None:
        return [("dj_queue_ready_queue", ONE_QUEUE, (name, name)) for name in turn.names]
    others = f" AND queue_name NOT IN ({marks(len(turn.but))})" if turn.but else ""
    return [("dj_queue_ready_any", ANY_QUEUE + others, turn.but)]


def _may_send_at_once(db: QueueDatabase) -> bool:
    connection = db.connection
    is_multi = connection.settings_dict["OPTIONS"].get("multi_statements", True)
    return is_multi and not connection.in_atomic_block and connection.get_autocommit()


def _inserts(db: QueueDatabase, rows: Iterable[models.Model]) -> Iterator[Statement]:
    for model, group in by_table(rows):
        into = f"INSERT INTO {table(model)} ({columns(model)}) VALUES "
        values = zip(*prepared_columns(db, model, group), strict=True)
        for slice_ in _slices(list(values)):
            row = f"({marks(len(slice_[0]))})"
            yield into + ", ".join([row] * len(slice_)), [each for row in slice_ for each in row]


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
