"""PostgreSQL's enqueue as one statement, for one job and for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dj_queue.engines.notifications import CHANNEL
from dj_queue.engines.sql import columns, marks, table
from dj_queue.models import Job, ReadyExecution, ScheduledExecution
from dj_queue.models.fields import encode_json

TYPES = {
    "id": "uuid",
    "backend": "varchar",
    "queue_name": "varchar",
    "task_path": "varchar",
    "args": "text",
    "kwargs": "text",
    "priority": "smallint",
    "run_after": "timestamptz",
    "enqueued_at": "timestamptz",
    "is_scheduled": "boolean",
}
JSON = {"args", "kwargs"}

TO_READY = f"""
INSERT INTO {table(ReadyExecution)} (job_id, backend, queue_name, priority, attempt)
SELECT id, backend, queue_name, priority, 1 FROM"""
TO_SCHEDULED = f"""
INSERT INTO {table(ScheduledExecution)} (job_id, backend, queue_name, priority, attempt, run_after)
SELECT id, backend, queue_name, priority, 1, run_after FROM"""
# One job: no arrays to build and to plan.
ONE = f"""
WITH job AS (
    INSERT INTO {table(Job)} ({columns(Job)}) VALUES ({marks(len(Job._meta.concrete_fields))})
    RETURNING id, backend, queue_name, priority, run_after
)"""
NOTIFYING = f"RETURNING pg_notify('{CHANNEL}', %s)"
# What differs from job to job comes as arrays, what does not as it is: half the text.
MANY = f"""
WITH input AS (
    SELECT {{values}} FROM unnest({{arrays}}) AS arrays({{names}})
), job AS (
    INSERT INTO {table(Job)} ({columns(Job)}) SELECT {columns(Job)} FROM input
), scheduled AS ({TO_SCHEDULED} input WHERE is_scheduled
), ready AS ({TO_READY} input WHERE NOT is_scheduled
)
SELECT pg_notify('{CHANNEL}', payload) FROM (SELECT %s::text) AS told(payload)
WHERE payload IS NOT NULL"""


def store_one(job: Job, is_scheduled: bool, payload: str | None) -> tuple[str, list[Any]]:
    """Return the statement that stores one job, and its parameters.

    With a payload it notifies.
    """
    values = [
        encode_json(getattr(job, field.attname))
        if field.name in JSON
        else getattr(job, field.attname)
        for field in Job._meta.concrete_fields
    ]
    sql = f"{ONE}{TO_SCHEDULED if is_scheduled else TO_READY} job"
    return (sql, values) if payload is None else (f"{sql} {NOTIFYING}", [*values, payload])


def store_many(
    ready: Sequence[Job], scheduled: Sequence[Job], payload: str | None
) -> tuple[str, list[Any]]:
    """Return the statement that stores jobs, at least one, and its parameters."""
    jobs = [*ready, *scheduled]
    arrays: dict[str, list[Any]] = {}
    constants: dict[str, Any] = {}
    for name in TYPES:
        if name == "is_scheduled":
            column: list[Any] = [False] * len(ready) + [True] * len(scheduled)
        else:
            column = [getattr(job, name) for job in jobs]
        if name in JSON:  # Before they are compared: to Python [1], [True] and [1.0] are equal.
            column = list(map(encode_json, column))
        is_constant = name != "id" and column.count(column[0]) == len(column)
        if is_constant:
            constants[name] = column[0]
        else:
            arrays[name] = column
    values = [f"%s::{TYPES[name]} AS {name}" for name in constants]
    sql = MANY.format(
        values=", ".join([*values, *arrays]),
        arrays=", ".join(f"%s::{TYPES[name]}[]" for name in arrays),
        names=", ".join(arrays),
    )
    return sql, [*constants.values(), *arrays.values(), payload]
