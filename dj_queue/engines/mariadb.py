"""MariaDB 10.6+: as MySQL, with DELETE … RETURNING."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from dj_queue.engines.base import Server
from dj_queue.engines.claims import HandedOn, Heir, claims_of
from dj_queue.engines.hand_on_compound import HAND_ON, parameters
from dj_queue.engines.mysql import BY_PRIMARY_KEY, OWN, MySQLEngine
from dj_queue.engines.sql import columns, fetched, marks, prepared, rows_of, table
from dj_queue.models import ClaimedExecution, Job, Pause, ReadyExecution, Semaphore, State
from dj_queue.parsers import NAME_LENGTH
from dj_queue.routers import Database, QueueDatabase

# One step through the index for each queue, all in one statement. Up to 11.8 MariaDB reads every
# row for a DISTINCT, a recursive query or a loop whose variable is in the condition: only a
# parameter is a constant to the optimizer.
READY_QUEUES = f"""BEGIN NOT ATOMIC
    DECLARE queue VARCHAR({NAME_LENGTH}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT '';
    DECLARE ready LONGTEXT CHARACTER SET utf8mb4 DEFAULT '[]';
    search: LOOP
        EXECUTE IMMEDIATE 'SELECT MIN(queue_name) INTO @dj_queue_name
            FROM {table(ReadyExecution)} WHERE backend = ? AND queue_name > ?' USING %s, queue;
        SET queue = @dj_queue_name;
        IF queue IS NULL THEN LEAVE search; END IF;
        SET ready = JSON_ARRAY_APPEND(ready, '$', JSON_ARRAY(
            queue, (SELECT COUNT(*) FROM {table(Pause)} WHERE queue_name = queue)
        ));
    END LOOP;
    SELECT ready;
END"""

# Slots are handed on one by one: those of more jobs cost less with one statement for each table.
MOST_AT_ONCE = 4


class MariaDBEngine(MySQLEngine):
    """MySQL's engine, taking rows in one statement instead of two."""

    name = "MariaDB"
    isolation_variable = "tx_isolation"  # transaction_isolation only since 11.1
    oldest = (10, 6)

    def unfit(self, server: Server) -> str | None:
        # Between these its uuid type sorted bytes in another order: id order was not age.
        if (10, 7) <= server.version < (10, 11, 5):
            return f"expected MariaDB 10.11.5 or later, or 10.6, got {server}: ids sort wrongly"
        return super().unfit(server)

    def take(
        self,
        db: QueueDatabase,
        state: type[State],
        ids: Sequence[UUID],
        tokens: Sequence[UUID] | None = None,
        skip_locked: bool = False,
    ) -> list[State]:
        if not ids:
            return []
        if skip_locked:  # A DELETE cannot.
            return super().take(db, state, ids, tokens, skip_locked)
        held = prepared(db, state, "job", ids)
        where, params = f"job_id IN ({marks(len(held))}) AND {OWN}", [*held, db.backend]
        if tokens is not None:
            pairs = ", ".join(["(%s, %s)"] * len(held))
            # The first condition finds the rows by primary key: MariaDB does not use an index
            # for a comparison of pairs.
            where += f" AND (job_id, claim_token) IN ({pairs})"
            held_tokens = prepared(db, ClaimedExecution, "claim_token", tokens)
            for pair in zip(held, held_tokens, strict=True):
                params += pair
        sql = (
            f"DELETE FROM {table(state)} WHERE {where} {BY_PRIMARY_KEY} RETURNING {columns(state)}"
        )
        return fetched(db, state, sql, [*params, len(ids)])

    def lock_semaphores(
        self, db: Database, keys: Sequence[str], now: datetime
    ) -> dict[str, Semaphore]:
        sql, params = self._locking(db, keys, now)
        rows = fetched(db, Semaphore, f"{sql} RETURNING {columns(Semaphore)}", params)
        return {row.key: row for row in rows}

    def hand_on(
        self, db: QueueDatabase, ended: Mapping[UUID, str], now: datetime, heir: Heir | None
    ) -> tuple[HandedOn, set[str]]:
        if len(ended) > MOST_AT_ONCE or len(set(ended.values())) > 1:
            return super().hand_on(db, ended, now, heir)
        [key] = set(ended.values())
        found: list[Sequence[Any]] = []
        with db.cursor() as cursor:
            cursor.execute(HAND_ON, parameters(db, key, ended, now, heir))
            while len(cursor.description) > 2:
                found += cursor.fetchall()
                cursor.nextset()
            [[count, is_settled]] = cursor.fetchall()
        jobs = rows_of(db, Job, [values for _, *values in found])
        inherited = claims_of(heir.holder, jobs, [row[0] for row in found]) if heir else []
        return HandedOn(count, tuple(inherited)), set() if is_settled else {key}

    def _ready_queues(self, db: QueueDatabase) -> dict[str, bool]:
        with db.cursor() as cursor:
            cursor.execute(READY_QUEUES, [db.backend])
            [ready] = cursor.fetchone()
        return {name: bool(is_paused) for name, is_paused in json.loads(ready)}
