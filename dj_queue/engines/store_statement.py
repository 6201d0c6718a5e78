"""PostgreSQL's enqueue as one statement, for one job and for many."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from dj_queue.engines.arrays import array
from dj_queue.engines.notifications import CHANNEL
from dj_queue.engines.sql import marks, table
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
    "max_attempts": "smallint",
    "concurrency_key": "varchar",
    "concurrency_limit": "smallint",
    "concurrency_seconds": "integer",
    "discards_on_conflict": "boolean",
    "is_scheduled": "boolean",
}
JSON = {"args", "kwargs"}
# Columns that most jobs leave as the table has them: the fewer values, the faster.
DEFAULTS = {
    "max_attempts": 1,
    "concurrency_key": None,
    "concurrency_limit": None,
    "concurrency_seconds": None,
    "discards_on_conflict": None,
}
ALWAYS = [field.attname for field in Job._meta.concrete_fields if field.attname not in DEFAULTS]

TO_READY = f"""
INSERT INTO {table(ReadyExecution)} (job_id, backend, queue_name, priority, attempt)
SELECT id, backend, queue_name, priority, 1 FROM"""
TO_SCHEDULED = f"""
INSERT INTO {table(ScheduledExecution)} (job_id, backend, queue_name, priority, attempt, run_after)
SELECT id, backend, queue_name, priority, 1, run_after FROM"""
# One job: no arrays to build and to plan.
ONE = f"""
WITH job AS (
    INSERT INTO {table(Job)} ({{names}}) VALUES ({{marks}})
    RETURNING id, backend, queue_name, priority, run_after
)"""
NOTIFYING = f"RETURNING pg_notify('{CHANNEL}', %s)"
# What differs from job to job comes as arrays, what does not as it is: half the text.
MANY = f"""
WITH input AS (
    SELECT {{values}} FROM unnest({{arrays}}) AS arrays({{names}})
), job AS (
    INSERT INTO {table(Job)} ({{columns}}) SELECT {{columns}} FROM input
), scheduled AS ({TO_SCHEDULED} input WHERE is_scheduled
), ready AS ({TO_READY} input WHERE NOT is_scheduled
)
SELECT pg_notify('{CHANNEL}', payload) FROM (SELECT %s::text) AS told(payload)
WHERE payload IS NOT NULL"""


def store_one(job: Job, is_scheduled: bool, payload: str | None) -> tuple[str, list[Any]]:
    """Return the statement that stores one job, and its parameters.

    With a payload it notifies.
    """
    row = vars(job)
    names = [*ALWAYS, *[name for name, usual in DEFAULTS.items() if row[name] != usual]]
    values = [encode_json(row[name]) if name in JSON else row[name] for name in names]
    told = () if payload is None else (payload,)
    return _one(tuple(names), is_scheduled, bool(told)), [*values, *told]


@cache
def _one(names: tuple[str, ...], is_scheduled: bool, notifies: bool) -> str:
    one = ONE.format(names=", ".join(names), marks=marks(len(names)))
    sql = f"{one}{TO_SCHEDULED if is_scheduled else TO_READY} job"
    return f"{sql} {NOTIFYING}" if notifies else sql


def store_many(
    ready: Sequence[Job], scheduled: Sequence[Job], payload: str | None
) -> tuple[str, list[Any]]:
    """Return the statement that stores jobs, at least one, and its parameters."""
    rows = [vars(job) for job in [*ready, *scheduled]]
    arrays: dict[str, list[Any]] = {}
    constants: dict[str, Any] = {}
    needed = [
        name
        for name, usual in DEFAULTS.items()
        if [row[name] for row in rows].count(usual) < len(rows)
    ]
    names = [*ALWAYS, *needed]
    for name in (*names, "is_scheduled"):
        if name == "is_scheduled":
            column: list[Any] = [False] * len(ready) + [True] * len(scheduled)
        else:
            column = [row[name] for row in rows]
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
        columns=", ".join(names),
    )
    return sql, [*constants.values(), *map(array, arrays.values()), payload]
