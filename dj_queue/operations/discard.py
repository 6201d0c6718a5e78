"""Discard: jobs that nobody is running are deleted with all that was recorded of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from dj_queue.engines.clock import estimated
from dj_queue.models import (
    BlockedExecution,
    Execution,
    FailedExecution,
    ReadyExecution,
    ScheduledExecution,
)
from dj_queue.operations.slots import release
from dj_queue.operations.transitions import delete_jobs, in_transaction, move
from dj_queue.routers import QueueDatabase

DISCARDABLE = (ReadyExecution, ScheduledExecution, BlockedExecution, FailedExecution)
BATCH = 500


def discard(
    db: QueueDatabase, state: type[Execution], ids: Sequence[UUID], *, now: datetime | None = None
) -> int:
    """Delete jobs that are in `state`; return how many were. Opens a transaction.

    Ready ones hand on the slots of their concurrency keys; `now` is the present if None. Raises
    ValueError for claimed and finished jobs.
    """
    if state not in DISCARDABLE:
        names = ", ".join(each.state for each in DISCARDABLE)
        raise ValueError(f"state: expected one of {names}, got {state.state!r}")

    def transaction() -> int:
        taken = move(db, state, ids, lambda row: [])
        gone = [row.job_id for row in taken]
        delete_jobs(db, gone)
        if state is ReadyExecution:
            release(db, gone, now=now or estimated(db))
        return len(taken)

    return in_transaction(db, transaction)


def clear(db: QueueDatabase, queue_name: str) -> int:
    """Discard the backend's ready jobs of a queue, in batches; return how many there were.

    Opens a transaction for each batch. Jobs enqueued after the call began are left alone.
    """
    ready = db.objects(ReadyExecution).filter(backend=db.backend, queue_name=queue_name)
    last = ready.order_by("-pk").values_list("pk", flat=True).first()
    count = 0
    while last is not None:
        batch = ready.filter(pk__lte=last).order_by("pk").values_list("pk", flat=True)[:BATCH]
        ids = list(batch)
        if not ids:
            break
        count += discard(db, ReadyExecution, ids)
        ready = ready.filter(pk__gt=ids[-1])
    return count
