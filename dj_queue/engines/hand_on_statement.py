"""PostgreSQL's handing on of slots as one statement, for any number of ended jobs and keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from dj_queue.engines.arrays import array
from dj_queue.engines.claims import Heir
from dj_queue.engines.sql import readable_columns, table
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

# LATERAL with a LIMIT finds by index, whatever the planner thinks of the number of keys. Of a key
# whose slots are not all there nothing is known for certain; it is left to be counted.
HAND_ON = f"""
WITH freed AS (
    DELETE FROM {table(Slot)} WHERE job_id = ANY(%(ids)s::uuid[]) RETURNING concurrency_key
), found AS (
    SELECT concurrency_key, count(*) AS count FROM freed GROUP BY 1
), wanted AS (
    SELECT concurrency_key, count(*) AS count
    FROM unnest(%(keys)s::varchar[]) AS ended(concurrency_key) GROUP BY 1
), counted AS (
    SELECT concurrency_key, count, s.held - count AS held, s.expires_at
    FROM wanted JOIN found USING (concurrency_key, count) CROSS JOIN LATERAL (
        SELECT held, expires_at FROM {table(Semaphore)} s
        WHERE s.concurrency_key = wanted.concurrency_key LIMIT 1
    ) s WHERE s.held >= count
), first AS (
    SELECT c.concurrency_key, b.job_id, bool_and(c.held + b.place <= b.concurrency_limit) OVER (
        PARTITION BY c.concurrency_key ORDER BY b.place
    ) AS is_next
    FROM counted c CROSS JOIN LATERAL (
        SELECT job_id, concurrency_limit,
            row_number() OVER (ORDER BY priority DESC, job_id) AS place
        FROM {table(BlockedExecution)} b WHERE b.concurrency_key = c.concurrency_key
        ORDER BY priority DESC, job_id LIMIT c.count + 1
    ) b
), taken AS (
    DELETE FROM {table(BlockedExecution)}
    WHERE job_id = ANY(ARRAY(SELECT job_id FROM first WHERE is_next))
    RETURNING job_id, backend, queue_name, priority, attempt, concurrency_key, concurrency_seconds
), heirs AS (
    SELECT job_id FROM taken
    WHERE backend = %(backend)s AND queue_name = ANY(%(queues)s::varchar[])
    AND NOT EXISTS (SELECT FROM {table(Pause)} p WHERE p.queue_name = taken.queue_name)
    AND (SELECT min(queue_name) FROM {table(ReadyExecution)} WHERE backend = %(backend)s) IS NULL
    ORDER BY priority DESC, job_id LIMIT %(room)s
), ready AS (
    INSERT INTO {table(ReadyExecution)} (job_id, backend, queue_name, priority, attempt)
    SELECT job_id, backend, queue_name, priority, attempt FROM taken
    WHERE job_id <> ALL(ARRAY(SELECT job_id FROM heirs))
), claimed AS (
    INSERT INTO {table(ClaimedExecution)}
        (job_id, backend, queue_name, priority, attempt, process_id, claim_token, claimed_at)
    SELECT job_id, backend, queue_name, priority, attempt,
        %(process_id)s::uuid, %(token)s::uuid, %(now)s::timestamptz
    FROM taken JOIN heirs USING (job_id)
), slots AS (
    INSERT INTO {table(Slot)} (job_id, concurrency_key) SELECT job_id, concurrency_key FROM taken
), given AS (
    SELECT concurrency_key, count(*) AS given,
        make_interval(secs => max(concurrency_seconds)) AS duration
    FROM taken GROUP BY 1
), settled AS (
    SELECT concurrency_key, count, held + COALESCE(given, 0) AS held, COALESCE(given, 0) AS given,
        CASE WHEN expires_at < %(at)s::timestamptz + duration / 2
        THEN %(at)s::timestamptz + duration ELSE expires_at END AS expires_at
    FROM counted LEFT JOIN given USING (concurrency_key)
), gone AS (
    DELETE FROM {table(Semaphore)}
    WHERE concurrency_key = ANY(ARRAY(SELECT concurrency_key FROM settled WHERE held = 0))
), kept AS (
    UPDATE {table(Semaphore)} s SET held = t.held, expires_at = t.expires_at FROM settled t
    WHERE s.concurrency_key = ANY(ARRAY(SELECT concurrency_key FROM settled WHERE held > 0))
    AND s.concurrency_key = t.concurrency_key
    AND (s.held, s.expires_at) <> (t.held, t.expires_at)
)
SELECT wanted.concurrency_key,
    given <= count AND given = (
        SELECT count(*) FROM first
        WHERE is_next AND first.concurrency_key = wanted.concurrency_key
    ) AS is_settled, taken.backend, taken.queue_name, taken.attempt, j.*
FROM wanted LEFT JOIN settled USING (concurrency_key, count)
LEFT JOIN taken USING (concurrency_key) LEFT JOIN heirs USING (job_id) LEFT JOIN LATERAL (
    SELECT {readable_columns(Job)} FROM {table(Job)} WHERE id = heirs.job_id LIMIT 1
) j ON TRUE
"""

NO_HOLDER = {"process_id": None, "token": None, "now": None}


def parameters(
    db: QueueDatabase, ended: Mapping[UUID, str], at: datetime, heir: Heir | None
) -> dict[str, Any]:
    """Return the parameters of HAND_ON."""
    return {
        "ids": array(ended),
        "keys": array(ended.values()),
        "at": at,
        "backend": db.backend,
        "queues": array(heir.queues if heir else []),
        "room": heir.room if heir else 0,
        **(vars(heir.holder) if heir else NO_HOLDER),
    }
