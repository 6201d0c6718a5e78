"""Minutes of a queue: what ended attempts add to them, and the statement that adds it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from dj_queue.engines.sql import columns, marks, prepared_columns, table
from dj_queue.models import FinishedExecution, QueueMinute
from dj_queue.routers import Database

SUMS = ("finished", "failed", "waiting_seconds", "running_seconds")
ONCE = "backend, minute, queue_name, process_id"


class Ended(NamedTuple):
    """One attempt that ended."""

    backend: str
    queue_name: str
    process_id: UUID
    at: datetime
    waiting_seconds: float
    running_seconds: float
    is_failed: bool = False

    @classmethod
    def well(cls, row: FinishedExecution, waiting_seconds: float) -> Ended:
        """Return what a finished job's row tells."""
        running = (row.finished_at - row.started_at).total_seconds()
        at = row.finished_at
        return cls(row.backend, row.queue_name, row.worker_id, at, waiting_seconds, running)


def minutes_of(ended: Iterable[Ended]) -> list[QueueMinute]:
    """Sum up attempts by queue, minute and process, always in the same order."""
    minutes: dict[tuple[Any, ...], QueueMinute] = {}
    for each in ended:
        minute = each.at.replace(second=0, microsecond=0)
        key = each.backend, minute, each.queue_name, each.process_id.int
        row = minutes.get(key)
        if row is None:
            row = minutes[key] = QueueMinute(
                backend=each.backend,
                queue_name=each.queue_name,
                minute=minute,
                process_id=each.process_id,
            )
        row.failed += each.is_failed
        row.finished += not each.is_failed
        row.waiting_seconds += each.waiting_seconds
        row.running_seconds += each.running_seconds
    return [minutes[key] for key in sorted(minutes)]


def added_up(
    db: Database, rows: Sequence[QueueMinute], *, when_known: str, new: str
) -> tuple[str, list[Any]]:
    """Return the statement that adds rows to those that are there already, and its values.

    `when_known` and `new` are the vendor's words for the row that exists and for a column of the
    one that does not get in: "{}" is the column.
    """
    sums = ", ".join(f"{name} = {table(QueueMinute)}.{name} + {new.format(name)}" for name in SUMS)
    values = list(zip(*prepared_columns(db, QueueMinute, rows), strict=True))
    row = f"({marks(len(values[0]))})"
    sql = (
        f"INSERT INTO {table(QueueMinute)} ({columns(QueueMinute)}) "
        f"VALUES {', '.join([row] * len(values))} {when_known} {sums}"
    )
    return sql, [value for each in values for value in each]


ON_CONFLICT = {"when_known": f"ON CONFLICT ({ONCE}) DO UPDATE SET", "new": "excluded.{}"}
"""As PostgreSQL and SQLite say it."""
