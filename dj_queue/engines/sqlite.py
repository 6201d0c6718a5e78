"""SQLite 3.35+: one writer at a time, so every transaction begins with its write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO
from uuid import UUID

from django.db import DatabaseError, models

from dj_queue.engines.base import LOCK_NAME, ClaimEngine, Server, by_table
from dj_queue.engines.claims import Claim, Holder, claims_of
from dj_queue.engines.line import file_of, in_line, is_alone
from dj_queue.engines.minutes import ON_CONFLICT, Ended, added_up, minutes_of
from dj_queue.engines.selectors import Turn, in_turn, turns_of
from dj_queue.engines.sql import columns, fetched, marks, prepared, prepared_columns, rows_of, table
from dj_queue.exceptions import InvalidOption
from dj_queue.models import (
    ClaimedExecution,
    FinishedExecution,
    Job,
    Pause,
    QueueMinute,
    ReadyExecution,
    State,
)
from dj_queue.routers import Database, QueueDatabase

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
# Not paused by now either: the looks before the transaction may be out of date.
CLAIM = f"""
    INSERT INTO {table(ClaimedExecution)} (job_id, backend, queue_name, priority, attempt,
        process_id, claim_token, claimed_at)
    SELECT job_id, backend, queue_name, priority, attempt, %s, %s, %s
    FROM {table(ReadyExecution)} WHERE job_id IN ({{picked}})
"""
# In one row: after each row this thread would wait to run Python again, all others for the lock.
CLAIMED = f"""
    SELECT json_group_array(json_array(ready.attempt, {columns(Job, "job.")}))
    FROM {table(ReadyExecution)} ready
    CROSS JOIN {table(Job)} job ON job.id = ready.job_id WHERE ready.job_id IN ({{picked}})
"""
OUTCOMES = """
    SELECT json_extract(value, '$[0]') AS job_id, json_extract(value, '$[1]') AS claim_token,
        json_extract(value, '$[2]') AS started_at, json_extract(value, '$[3]') AS finished_at,
        json_extract(value, '$[4]') AS return_value
    FROM json_each(%s)
"""
STILL_HELD = f"""
    FROM ({OUTCOMES}) outcome CROSS JOIN {table(ClaimedExecution)} claimed
    ON claimed.job_id = outcome.job_id AND claimed.claim_token = outcome.claim_token
    WHERE claimed.backend = %s
"""
FINISH = f"""
    INSERT INTO {table(FinishedExecution)} (job_id, backend, queue_name, priority, attempt,
        worker_id, started_at, finished_at, return_value)
    SELECT claimed.job_id, claimed.backend, claimed.queue_name, claimed.priority, claimed.attempt,
        claimed.process_id, outcome.started_at, outcome.finished_at, outcome.return_value
    {STILL_HELD}
"""
FINISHED = ("job", "started_at", "finished_at", "return_value")
LET_GO = f"""
    DELETE FROM {table(ClaimedExecution)} WHERE job_id IN (SELECT claimed.job_id {STILL_HELD})
"""
MOST_ARMS = 400  # of one UNION ALL; SQLite takes 500


class SQLiteEngine(ClaimEngine):
    """Deletes with RETURNING.

    A transaction that reads first and writes later fails at once when another writer was faster,
    whatever the timeout is; one that begins with its DELETE waits for its turn.
    """

    oldest = (3, 35)
    skips_by_recursion = True

    def claim(
        self,
        db: QueueDatabase,
        selectors: Sequence[str],
        *,
        limit: int,
        holder: Holder,
    ) -> list[ClaimedExecution]:
        turns = self._turns(db, selectors)
        if not turns:
            return []
        mine = prepared(db, ClaimedExecution, "claim_token", [holder.process_id, holder.token])
        claim = [*mine, *prepared(db, ClaimedExecution, "claimed_at", [holder.now])]
        picked, params = _picked(turns, db.backend, limit)
        # Everybody else waits for the lock meanwhile: what is read becomes rows only after it.
        with in_line(db), db.atomic(), db.cursor() as cursor:
            cursor.execute(CLAIM.format(picked=picked), [*claim, *params])
            # The same jobs each time: nobody else writes in between.
            cursor.execute(CLAIMED.format(picked=picked), params)
            found = json.loads(cursor.fetchone()[0])
            cursor.execute(
                f"DELETE FROM {table(ReadyExecution)} WHERE job_id IN ({picked})", params
            )
        jobs = rows_of(db, Job, [values for _, *values in found])
        claimed = claims_of(holder, jobs, [attempt for attempt, *_ in found])
        return in_turn(claimed, selectors)

    def finish(
        self,
        db: QueueDatabase,
        rows: Sequence[FinishedExecution],
        tokens: Sequence[UUID],
        waits: Sequence[float],
    ) -> set[Claim]:
        values = prepared_columns(db, FinishedExecution, rows, FINISHED)
        held_by = prepared(db, ClaimedExecution, "claim_token", tokens)
        outcomes = json.dumps(list(zip(values[0], held_by, *values[1:], strict=True)))
        claims = {(row.pk, token) for row, token in zip(rows, tokens, strict=True)}
        ended = list(map(Ended.well, rows, waits))
        minutes = minutes_of(ended)
        with in_line(db), db.atomic(savepoint=False), db.cursor() as cursor:
            cursor.execute(FINISH, [outcomes, db.backend])
            if cursor.rowcount < len(rows):  # Some were lost: rarely, so it is asked only then.
                cursor.execute(
                    f"SELECT claimed.job_id, claimed.claim_token {STILL_HELD}",
                    [outcomes, db.backend],
                )
                claims = {(UUID(job), UUID(token)) for job, token in cursor.fetchall()}
                by_claim = zip(rows, tokens, ended, strict=True)
                minutes = minutes_of(
                    each for row, token, each in by_claim if (row.pk, token) in claims
                )
            cursor.execute(LET_GO, [outcomes, db.backend])
            self.add_minutes(db, minutes)
        return claims

    def add_minutes(self, db: Database, rows: Sequence[QueueMinute]) -> None:
        for start in range(0, len(rows), MOST_ARMS):
            with db.cursor() as cursor:
                cursor.execute(*added_up(db, rows[start : start + MOST_ARMS], **ON_CONFLICT))

    def take(
        self,
        db: QueueDatabase,
        state: type[State],
        ids: Sequence[UUID],
        tokens: Sequence[UUID] | None = None,
        skip_locked: bool = False,
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
        return fetched(db, state, f"{sql} RETURNING {columns(state)}", params)

    def insert(self, db: Database, rows: Iterable[models.Model]) -> None:
        with db.cursor() as cursor:
            for model, group in by_table(rows):
                into = f"INSERT INTO {table(model)} ({columns(model)})"
                values = list(zip(*prepared_columns(db, model, group), strict=True))
                width = len(values[0])
                text = json.dumps(values) if len(values) > 1 else ""
                if not text or "\\u0000" in text:  # SQLite's JSON functions end a text at a NUL.
                    cursor.executemany(f"{into} VALUES ({marks(width)})", values)
                    continue
                # One step for all rows, where executemany takes one each; VALUES lists end at a
                # limit of variables.
                picks = ", ".join(f"json_extract(value, '$[{i}]')" for i in range(width))
                cursor.execute(f"{into} SELECT {picks} FROM json_each(%s)", [text])

    def server(self, db: Database) -> Server:
        with db.cursor() as cursor:
            cursor.execute("SELECT sqlite_version()")
            version = tuple(map(int, cursor.fetchone()[0].split(".")))
            cursor.execute("PRAGMA journal_mode")
            journal = cursor.fetchone()[0]
        return Server("SQLite", version, f"serializable ({journal})")

    @contextmanager
    def locked(self, db: Database) -> Iterator[bool]:
        # A lock of the database itself would keep the migrations out, which commit in between.
        path = file_of(db)
        if path is None:
            yield True
            return
        with _lock_file(db, path) as file:
            yield is_alone(file)

    def is_transient(self, error: DatabaseError) -> bool:
        return "locked" in str(error) or "busy" in str(error)

    def is_missing_table(self, error: DatabaseError) -> bool:
        return "no such table" in str(error)

    def _turns(self, db: QueueDatabase, selectors: Sequence[str]) -> list[Turn]:
        with db.cursor() as cursor:
            cursor.execute(READY_QUEUES, [db.backend, db.backend])
            ready = {name: bool(is_paused) for name, is_paused in cursor.fetchall()}
        return turns_of(selectors, ready)


def _picked(turns: Sequence[Turn], backend: str, limit: int) -> tuple[str, list[Any]]:
    """Return a SELECT of the jobs to claim, and its parameters."""
    arms: list[str] = []
    params: list[Any] = []
    for place, turn in enumerate(turns):
        for matching, values in _ranges(turn):
            arms.append(CLAIMABLE.format(place=place, matching=matching))
            params += [backend, *values, limit]
    sql = f"SELECT job_id FROM ({_union(arms)}) ORDER BY turn, priority DESC, job_id LIMIT %s"
    return sql, [*params, limit]


def _lock_file(db: Database, path: str) -> TextIO:
    try:
        return open(f"{path}.{LOCK_NAME}", "w")
    except OSError as error:
        raise InvalidOption(
            f"DATABASES[{db.alias!r}]['NAME']: expected a file in a directory where files can be "
            f"made, got {path!r}: {error.strerror}"
        ) from error


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
