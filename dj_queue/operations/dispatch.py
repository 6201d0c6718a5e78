"""Dispatch: scheduled jobs whose time has come become ready, or wait for a slot of their key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from dj_queue.engines.clock import estimated
from dj_queue.models import ScheduledExecution
from dj_queue.operations.concurrency import let_wait
from dj_queue.routers import QueueDatabase

WINDOW_BATCHES = 4
"""How many batches of due jobs are looked at for those of highest priority."""


def dispatch_due(db: QueueDatabase, *, now: datetime, limit: int) -> int:
    """Make up to `limit` due jobs of the backend ready; return how many.

    Highest priority first among the longest overdue, four times as many as the limit: an order
    over all would read jobs that are not due, and however many there are, nothing is read but
    these. Several dispatchers share the work: jobs that one of them is about to make ready are
    passed over by the others, which take the next. Opens transactions.
    """
    due = _window(db, now, WINDOW_BATCHES * limit)
    count, start = 0, 0
    while start < len(due) and count < limit:
        batch = due[start : start + limit - count]
        count += let_wait(db, ScheduledExecution, batch, now=now, skip_locked=True)
        start += len(batch)
    return count


def _window(db: QueueDatabase, now: datetime, size: int) -> list[UUID]:
    due = db.objects(ScheduledExecution).filter(backend=db.backend, run_after__lte=now)
    rows = due.order_by("run_after").values_list("job_id", "priority")[:size]
    return [job_id for job_id, _ in sorted(rows, key=lambda row: -row[1])]


def run_now(db: QueueDatabase, ids: Sequence[UUID], *, now: datetime | None = None) -> int:
    """Make scheduled jobs ready, due or not; return how many were scheduled.

    One with a concurrency key waits for a slot. `now` is the present if None. Opens a transaction.
    """
    return let_wait(db, ScheduledExecution, ids, now=now or estimated(db))
