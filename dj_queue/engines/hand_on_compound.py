"""MariaDB's handing on of the slots of one key as one compound statement."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from dj_queue.engines.claims import Heir
from dj_queue.engines.sql import columns, prepared, table
from dj_queue.models import (
    BlockedExecution,
    ClaimedExecution,
    Job,
    Pause,
    ReadyExecution,
    Semaphore,
    Slot,
)
from dj_queue.routers import QueueDatabase

# A result for each job that is inherited, then the count of those who got a slot. Of a key whose
# slots are not all there nothing is known for certain, nor where a job that was found is gone,
# because it was discarded at this moment: such a key is left to be counted.
HAND_ON = f"""BEGIN NOT ATOMIC
    DECLARE is_over, is_settled BOOLEAN DEFAULT FALSE;
    DECLARE now_held, given INT DEFAULT 0;
    DECLARE room INT DEFAULT %(room)s;
    DECLARE at DATETIME(6) DEFAULT %(at)s;
    DECLARE expiry, known_expiry DATETIME(6);
    DECLARE blocked ROW TYPE OF {table(BlockedExecution)};
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET is_over = TRUE;

    SELECT held, expires_at INTO now_held, known_expiry FROM {table(Semaphore)}
        WHERE concurrency_key = %(key)s FOR UPDATE;
    DELETE FROM {table(Slot)} WHERE job_id IN %(ids)s;
    IF ROW_COUNT() = %(ended)s AND now_held >= %(ended)s THEN
        SET is_settled = TRUE, now_held = now_held - %(ended)s, expiry = known_expiry;
        give: LOOP
            SELECT {columns(BlockedExecution)} INTO blocked FROM {table(BlockedExecution)}
                WHERE concurrency_key = %(key)s ORDER BY priority DESC, job_id LIMIT 1;
            IF is_over OR now_held >= blocked.concurrency_limit THEN LEAVE give; END IF;
            DELETE FROM {table(BlockedExecution)} WHERE job_id = blocked.job_id;
            IF ROW_COUNT() = 0 THEN
                SET is_settled = FALSE;
                LEAVE give;
            END IF;
            IF room > 0 AND blocked.backend = %(backend)s AND blocked.queue_name IN %(queues)s
                AND NOT EXISTS (SELECT 1 FROM {table(ReadyExecution)} WHERE backend = %(backend)s)
                AND NOT EXISTS (SELECT 1 FROM {table(Pause)} WHERE queue_name = blocked.queue_name)
            THEN
                INSERT INTO {table(ClaimedExecution)} ({columns(ClaimedExecution)}) VALUES (
                    blocked.job_id, blocked.backend, blocked.queue_name, blocked.priority,
                    blocked.attempt, %(process_id)s, %(token)s, %(now)s
                );
                SELECT blocked.attempt, {columns(Job)} FROM {table(Job)}
                    WHERE id = blocked.job_id;
                SET room = room - 1;
            ELSE
                INSERT INTO {table(ReadyExecution)} ({columns(ReadyExecution)}) VALUES (
                    blocked.job_id, blocked.backend, blocked.queue_name, blocked.priority,
                    blocked.attempt
                );
            END IF;
            INSERT INTO {table(Slot)} ({columns(Slot)})
                VALUES (blocked.job_id, blocked.concurrency_key);
            SET now_held = now_held + 1, given = given + 1;
            IF expiry < at + INTERVAL blocked.concurrency_seconds / 2 SECOND THEN
                SET expiry = at + INTERVAL blocked.concurrency_seconds SECOND;
            END IF;
        END LOOP;
        IF now_held = 0 THEN
            DELETE FROM {table(Semaphore)} WHERE concurrency_key = %(key)s;
        ELSEIF given <> %(ended)s OR expiry <> known_expiry THEN
            UPDATE {table(Semaphore)} SET held = now_held, expires_at = expiry
                WHERE concurrency_key = %(key)s;
        END IF;
    END IF;
    SELECT given, is_settled;
END"""


def parameters(
    db: QueueDatabase, key: str, ended: Iterable[UUID], at: datetime, heir: Heir | None
) -> dict[str, Any]:
    """Return the parameters of HAND_ON, for one key; a list is one, in parentheses."""
    ids = prepared(db, Slot, "job_id", ended)
    [moment] = prepared(db, Semaphore, "expires_at", [at])
    held = {"room": 0, "queues": [None], "process_id": None, "token": None, "now": None}
    if heir is not None and heir.queues:
        holder = heir.holder
        process_id, token = prepared(
            db, ClaimedExecution, "process_id", [holder.process_id, holder.token]
        )
        [now] = prepared(db, ClaimedExecution, "claimed_at", [holder.now])
        held = {"room": heir.room, "queues": sorted(heir.queues)}
        held |= {"process_id": process_id, "token": token, "now": now}
    return {
        "key": key,
        "ids": ids,
        "ended": len(ids),
        "at": moment,
        "backend": db.backend,
        **held,
    }
