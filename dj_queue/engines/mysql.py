"""MySQL 8.0.11+: locking reads with SKIP LOCKED, then deletes by primary key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DatabaseError, models

from dj_queue.engines.base import ClaimEngine, Server, new_rows
from dj_queue.engines.minutes import added_up
from dj_queue.engines.named_lock import named_lock
from dj_queue.engines.packets import (
    Statement,
    inserts,
    may_send_as_transaction,
    send,
    send_as_transaction,
)
from dj_queue.engines.selectors import Turn, distinct_selectors, turns_of
from dj_queue.engines.sql import columns, fetched, marks, prepared, table
from dj_queue.models import (
    Execution,
    FinishedExecution,
    Job,
    Pause,
    QueueMinute,
    ReadyExecution,
    Semaphore,
    State,
)
from dj_queue.routers import Database, QueueDatabase

# ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK, and MariaDB's ER_CHECKREAD (row changed since the read).
TRANSIENT = {1205, 1213, 1020}
NO_SUCH_TABLE = 1146
# ER_TRUNCATED_WRONG_VALUE_FOR_FIELD, and MySQL's ER_CANNOT_CONVERT_STRING.
UNTRANSLATABLE = {1366, 3854}

# Not `backend = %s`: the optimizer might find the rows by an index that begins with the backend,
# and wait for rows of it that it does not want.
OWN = "CONCAT(backend, '') = %s"
# Without an order and a limit an IN list of a third of the table or more is found by a scan of it
# all (8.0 to 9, MariaDB 10.11), which waits for every row that another claim has locked.
BY_PRIMARY_KEY = "ORDER BY job_id LIMIT %s"
# VALUES() is going to leave MySQL, but MariaDB has nothing else.
ON_DUPLICATE = {"when_known": "ON DUPLICATE KEY UPDATE", "new": "VALUES({})"}
# The index is forced: for a small table the optimizer sorts instead, and locks every row it sorts,
# so that a second claim finds nothing to take.
OF_RANGE = f"""FROM {table(ReadyExecution)} FORCE INDEX ({{index}})
    WHERE backend = %s AND {{matching}} ORDER BY priority DESC, job_id LIMIT %s"""
LOCK_RANGE = f"SELECT {columns(ReadyExecution)}, {{turn}} AS turn {OF_RANGE} FOR UPDATE {{skip}}"
# The best of several ranges are found without a lock, then locked one after the other, in the order
# of the derived table, until there are enough: no row is locked that is not taken. Twice as many
# are looked at, in case another claim holds the first.
OF_BEST = f"(SELECT job_id, priority, {{turn}} AS turn {OF_RANGE})"
LOCK_BEST = f"""
    SELECT {columns(ReadyExecution, "ready.")}, best.turn, best.seen_count FROM (
        SELECT job_id, turn, COUNT(*) OVER () AS seen_count FROM (
            {{ranges}} ORDER BY turn, priority DESC, job_id LIMIT %s
        ) seen ORDER BY turn, priority DESC, job_id LIMIT %s
    ) best STRAIGHT_JOIN {table(ReadyExecution)} ready FORCE INDEX (PRIMARY)
    ON ready.job_id = best.job_id LIMIT %s FOR UPDATE {{skip}}
"""
ONE_QUEUE = f"""queue_name = %s
    AND NOT EXISTS (SELECT 1 FROM {table(Pause)} WHERE queue_name = %s)"""
ANY_QUEUE = f"queue_name NOT IN (SELECT queue_name FROM {table(Pause)})"
HAS_JOBS = f"EXISTS (SELECT 1 FROM {table(ReadyExecution)} WHERE backend = %s)"
HAS_JOBS_IN = f"""(
    EXISTS (SELECT 1 FROM {table(ReadyExecution)} WHERE backend = %s AND queue_name = %s)
    AND NOT EXISTS (SELECT 1 FROM {table(Pause)} WHERE queue_name = %s)
)"""
# With both columns DISTINCT skips from queue to queue; with the name alone it reads every row.
READY_QUEUES = f"""
    SELECT queue_name, EXISTS (SELECT 1 FROM {table(Pause)} p WHERE p.queue_name = q.queue_name)
    FROM (SELECT DISTINCT backend, queue_name FROM {table(ReadyExecution)} WHERE backend = %s) q
"""


# The update changes nothing: it locks the row. In the order given, so that two who want the same
# keys do not wait for each other.
LOCK_SEMAPHORES = f"""INSERT INTO {table(Semaphore)} ({columns(Semaphore)}) VALUES {{rows}}
    ON DUPLICATE KEY UPDATE held = {table(Semaphore)}.held"""


@dataclass(frozen=True)
class Range:
    """Ready rows that an index gives in claim order: the place of their turn, and a condition."""

    turn: int
    index: str
    matching: str
    params: tuple[Any, ...]


class MySQLEngine(ClaimEngine):
    """The portable engine; needs READ COMMITTED.

    Under REPEATABLE READ an empty locking read takes gap locks, which block the next enqueue
    until the lock timeout.
    """

    name = "MySQL"
    isolation_variable = "transaction_isolation"
    oldest: tuple[int, ...] = (8, 0, 11)
    # Not UNIX_TIMESTAMP(): of the hour that comes twice it does not know which is meant.
    clock_statement = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"

    def store(self, db: QueueDatabase, ready: Sequence[Job], scheduled: Sequence[Job]) -> None:
        statements = list(inserts(db, new_rows(ready, scheduled)))
        if may_send_as_transaction(db, statements):
            send_as_transaction(db, statements)
            return
        with db.atomic():
            send(db, statements)

    def insert(self, db: Database, rows: Iterable[models.Model]) -> None:
        send(db, list(inserts(db, rows)))

    def lock_semaphores(
        self, db: Database, keys: Sequence[str], now: datetime
    ) -> dict[str, Semaphore]:
        sql, params = self._locking(db, keys, now)
        with db.cursor() as cursor:
            cursor.execute(sql, params)
        return {row.key: row for row in db.objects(Semaphore).filter(pk__in=keys)}

    def server(self, db: Database) -> Server:
        version = db.connection.mysql_version  # type: ignore[attr-defined]
        with db.cursor() as cursor:
            cursor.execute(f"SELECT @@{self.isolation_variable}")
            isolation = cursor.fetchone()[0].replace("-", " ").lower()
        return Server(self.name, version, isolation)

    @contextmanager
    def locked(self, db: Database) -> Iterator[bool]:
        with named_lock(db) as is_ours:
            yield is_ours

    def _locking(self, db: Database, keys: Sequence[str], now: datetime) -> tuple[str, list[Any]]:
        """Return the statement that locks semaphores, and its parameters."""
        [since] = prepared(db, Semaphore, "expires_at", [now])
        rows = ", ".join(["(%s, 0, %s)"] * len(keys))
        return LOCK_SEMAPHORES.format(rows=rows), [value for key in keys for value in (key, since)]

    def _turns(self, db: QueueDatabase, selectors: Sequence[str]) -> list[Turn]:
        asked = distinct_selectors(selectors)
        exact = [each for each in asked if not each.endswith("*")]
        has_prefix = len(asked) > len(exact) + ("*" in asked)
        if has_prefix:
            return turns_of(asked, self._ready_queues(db))
        looks = [f"EXISTS (SELECT 1 FROM {table(Pause)})", HAS_JOBS, *[HAS_JOBS_IN] * len(exact)]
        names = [value for name in exact for value in (db.backend, name, name)]
        with db.cursor() as cursor:
            cursor.execute(f"SELECT {', '.join(looks)}", [db.backend, *names])
            is_any_paused, has_jobs, *has_jobs_in = cursor.fetchone()
        if is_any_paused and has_jobs and "*" in asked:
            return turns_of(asked, self._ready_queues(db))
        turns = [Turn((name,)) for name, has in zip(exact, has_jobs_in, strict=True) if has]
        return [*turns, Turn(None, tuple(exact))] if has_jobs and "*" in asked else turns

    def _ready_queues(self, db: QueueDatabase) -> dict[str, bool]:
        """Return the queues that have ready jobs, and whether each is paused, in one statement."""
        with db.cursor() as cursor:
            cursor.execute(READY_QUEUES, [db.backend])
            return {name: bool(is_paused) for name, is_paused in cursor.fetchall()}

    def _take_ready(
        self, db: QueueDatabase, turns: Sequence[Turn], limit: int
    ) -> list[ReadyExecution]:
        # Mostly the first has enough: then nothing is read of another turn.
        rows = self._lock_ready(db, turns[:1], limit)
        if len(turns) > 1 and len(rows) < limit:
            rows += self._lock_ready(db, turns[1:], limit - len(rows))
        self._delete(db, ReadyExecution, [row.pk for row in rows])
        return rows

    def _lock_ready(
        self, db: QueueDatabase, turns: Sequence[Turn], limit: int
    ) -> list[ReadyExecution]:
        ranges = [each for place, turn in enumerate(turns) for each in _ranges(turn, place)]
        if len(ranges) == 1:
            return self._lock_range(db, ranges[0], limit)
        rows = self._lock_best(db, ranges, limit)
        seen_count = rows[0].seen_count if rows else limit  # type: ignore[attr-defined]
        if len(rows) < min(limit, seen_count):
            # Other claims hold what was seen: on, from one range after the other.
            for each in ranges:
                if len(rows) < limit:
                    rows += self._lock_range(db, each, limit - len(rows), but=rows)
        return sorted(rows, key=lambda row: (row.turn, -row.priority, row.pk))  # type: ignore[attr-defined]

    def _lock_best(
        self, db: QueueDatabase, ranges: Sequence[Range], limit: int
    ) -> list[ReadyExecution]:
        params: list[Any] = []
        for each in ranges:
            params += [db.backend, *each.params, limit]
        arms = [
            OF_BEST.format(turn=each.turn, index=each.index, matching=each.matching)
            for each in ranges
        ]
        sql = LOCK_BEST.format(ranges=" UNION ALL ".join(arms), skip=self._skip(db))
        params += [2 * limit, 2 * limit, limit]
        return list(db.objects(ReadyExecution).raw(sql, params))

    def _lock_range(
        self,
        db: QueueDatabase,
        range_: Range,
        limit: int,
        *,
        but: Sequence[ReadyExecution] = (),
    ) -> list[ReadyExecution]:
        """Lock the best rows of a range; a transaction does not skip its own, those in `but`."""
        matching, params = range_.matching, [db.backend, *range_.params]
        if but:
            matching += f" AND job_id NOT IN ({marks(len(but))})"
            params += prepared(db, ReadyExecution, "job", [row.pk for row in but])
        sql = LOCK_RANGE.format(
            turn=range_.turn, index=range_.index, matching=matching, skip=self._skip(db)
        )
        return list(db.objects(ReadyExecution).raw(sql, [*params, limit]))

    def _skip(self, db: QueueDatabase) -> str:
        return "SKIP LOCKED" if self._skips_locked(db) else ""

    def _lock(
        self, db: QueueDatabase, state: type[State], ids: Sequence[UUID], skip_locked: bool
    ) -> list[State]:
        if not ids:
            return []
        skip = self._skip(db) if skip_locked else ""
        sql = (
            f"SELECT {columns(state)} FROM {table(state)} FORCE INDEX (PRIMARY) "
            f"WHERE job_id IN ({marks(len(ids))}) AND {OWN} {BY_PRIMARY_KEY} FOR UPDATE {skip}"
        )
        params = [*prepared(db, state, "job", ids), db.backend, len(ids)]
        return fetched(db, state, sql, params)

    def _payloads(self, db: Database, ids: Sequence[UUID]) -> Iterable[Job]:
        sql = f"SELECT {columns(Job)} FROM {table(Job)} WHERE id IN ({marks(len(ids))})"
        return fetched(db, Job, sql, prepared(db, Job, "id", ids))

    def _delete(self, db: Database, state: type[Execution], ids: Sequence[UUID]) -> None:
        if not ids:
            return
        with db.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {table(state)} WHERE job_id IN ({marks(len(ids))}) {BY_PRIMARY_KEY}",
                [*prepared(db, state, "job", ids), len(ids)],
            )

    def record(
        self, db: Database, rows: Sequence[FinishedExecution], minutes: Sequence[QueueMinute]
    ) -> None:
        statements = list(inserts(db, rows))
        if minutes:
            statements.append(Statement.of(*added_up(db, minutes, **ON_DUPLICATE)))
        send(db, statements)

    def add_minutes(self, db: Database, rows: Sequence[QueueMinute]) -> None:
        self.record(db, [], rows)

    def is_transient(self, error: DatabaseError) -> bool:
        return bool(error.args) and error.args[0] in TRANSIENT

    def is_untranslatable(self, error: Exception) -> bool:
        number = error.args[0] if error.args else None
        return number in UNTRANSLATABLE or super().is_untranslatable(error)

    def is_missing_table(self, error: DatabaseError) -> bool:
        return error.args[:1] == (NO_SUCH_TABLE,)


def _ranges(turn: Turn, place: int) -> list[Range]:
    """Return what to read for a turn."""
    if turn.names is not None:
        return [
            Range(place, "dj_queue_ready_queue", ONE_QUEUE, (name, name)) for name in turn.names
        ]
    others = f" AND queue_name NOT IN ({marks(len(turn.but))})" if turn.but else ""
    return [Range(place, "dj_queue_ready_any", ANY_QUEUE + others, turn.but)]
