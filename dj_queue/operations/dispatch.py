"""Dispatch: scheduled jobs whose time has come become ready."""

from __future__ import annotations

from datetime import datetime

from dj_queue.models import ReadyExecution, ScheduledExecution, state_of
from dj_queue.operations.transitions import in_transaction, move
from dj_queue.routers import QueueDatabase


def dispatch_due(db: QueueDatabase, *, now: datetime, limit: int) -> int:
    """Make up to `limit` due jobs of the backend ready, longest overdue first; return how many.

    Several dispatchers may run: each job is moved by one of them. Opens a transaction.
    """
    due = list(
        db.objects(ScheduledExecution)
        .filter(backend=db.backend, run_after__lte=now)
        .order_by("run_after")
        .values_list("job_id", flat=True)[:limit]
    )
    if not due:
        return 0
    moved = in_transaction(
        db, lambda: move(db, ScheduledExecution, due, lambda row: [state_of(ReadyExecution, row)])
    )
    return len(moved)
