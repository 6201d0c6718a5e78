"""What the backends of one queue database share: processes, recurring tasks, semaphores."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Max

from dj_queue.models import (
    BlockedExecution,
    Job,
    Process,
    RecurringTask,
    Semaphore,
    Slot,
)
from dj_queue.observability.rows import ProcessRow, RecurringRow, SemaphoreRow
from dj_queue.routers import Database, QueueDatabase

KINDS = ("supervisor", "worker", "dispatcher", "scheduler")
NOBODY = UUID(int=0)
MOST_ROWS = 10_000
"""Most recurring tasks and semaphores that are read."""


def read_processes(db: QueueDatabase, *, now: datetime) -> list[ProcessRow]:
    """Read all processes: each supervisor with its children behind it, the lost ones last."""
    processes = list(db.objects(Process).order_by("name", "id"))
    supervisors = {each.id: each.name for each in processes if each.supervisor_id is None}
    families = {each: number for number, each in enumerate(supervisors)}

    def place(process: Process) -> tuple[int, int]:
        own = process.supervisor_id or process.id
        kind = KINDS.index(process.kind) if process.kind in KINDS else len(KINDS)
        return families.get(own, len(families)), kind

    alive_seconds = db.options.process_alive_threshold
    return [
        _process_row(each, supervisors.get(each.supervisor_id or NOBODY, ""), alive_seconds, now)
        for each in sorted(processes, key=place)
    ]


def _process_row(
    process: Process, supervisor_name: str, alive_seconds: float, now: datetime
) -> ProcessRow:
    age = (now - process.last_heartbeat_at).total_seconds()
    return ProcessRow(
        id=process.id,
        kind=process.kind,
        name=process.name,
        backend=process.backend,
        is_live=age <= alive_seconds,
        last_heartbeat_at=process.last_heartbeat_at,
        heartbeat_seconds=max(0.0, age),
        hostname=process.hostname,
        pid=process.pid,
        supervisor_name=supervisor_name,
        selectors=_selectors(process.metadata),
    )


def _selectors(metadata: Any) -> tuple[str, ...]:
    queues = metadata.get("queues") if isinstance(metadata, dict) else None
    return tuple(each for each in queues or () if isinstance(each, str))


def read_recurring(db: Database) -> list[RecurringRow]:
    """Read the recurring tasks by key."""
    columns = list(RecurringRow.__dataclass_fields__)
    rows = db.objects(RecurringTask).order_by("key").values_list(*columns)[:MOST_ROWS]
    return [RecurringRow(*row) for row in rows]


def read_semaphores(db: Database) -> list[SemaphoreRow]:
    """Read the concurrency keys that have slots held, by key. Up to four statements."""
    held = list(
        db.objects(Semaphore)
        .filter(held__gt=0)
        .order_by("key")
        .values_list("key", "held", "expires_at")[:MOST_ROWS]
    )
    if not held:
        return []
    waiters = {
        key: (count, limit)
        for key, count, limit in db.objects(BlockedExecution)
        .values_list("concurrency_key")
        .annotate(Count("pk"), Max("concurrency_limit"))
        .order_by("concurrency_key")
    }
    limits = _limits_of_holders(db, [key for key, _, _ in held if key not in waiters])
    rows = []
    for key, count, expires_at in held:
        waiter_count, limit = waiters.get(key, (0, limits.get(key)))
        rows.append(SemaphoreRow(key, count, limit, waiter_count, expires_at))
    return rows


def _limits_of_holders(db: Database, keys: Sequence[str]) -> dict[str, int | None]:
    """Ask a job of each key that holds one of its slots."""
    if not keys:
        return {}
    holders = dict(db.objects(Slot).filter(key__in=keys).values_list("key", "pk")[:MOST_ROWS])
    jobs = db.objects(Job).filter(pk__in=list(holders.values()))
    limits = jobs.values_list("concurrency_key", "concurrency_limit")
    return {str(key): limit for key, limit in limits}
