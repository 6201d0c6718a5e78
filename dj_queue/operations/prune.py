"""Prune: remove old jobs and records, a little at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import F

from dj_queue.models import FailedExecution, FinishedExecution, QueueMinute, RecurringRun
from dj_queue.models.ids import first_id_at
from dj_queue.operations.transitions import delete_jobs, in_transaction, move
from dj_queue.routers import Database, QueueDatabase

ENDED_AT = {FinishedExecution: "finished_at", FailedExecution: "failed_at"}


@dataclass(frozen=True)
class Step:
    """What one step of a walk over ended jobs removed, and the last id it saw; None at the end."""

    removed_count: int
    last_id: UUID | None


def prune_ended(
    db: QueueDatabase,
    state: type[FinishedExecution] | type[FailedExecution],
    *,
    before: datetime,
    after_id: UUID | None,
    limit: int,
) -> Step:
    """Delete the backend's jobs that ended before that time, among the next `limit` in the table.

    The walk goes along the primary key, which is in the order of enqueueing: so it needs no index
    that every finish would have to keep, and ends where no job can be old enough. Jobs that are
    retried at the same moment are left. Opens a transaction.
    """
    rows = db.objects(state).filter(job_id__lt=first_id_at(before))
    if after_id is not None:
        rows = rows.filter(job_id__gt=after_id)
    seen = list(
        rows.order_by("job_id").values_list("job_id", "backend", F(ENDED_AT[state]))[:limit]
    )
    old = [job_id for job_id, backend, at in seen if backend == db.backend and at < before]

    def transaction() -> int:
        # Who keeps a row locked must not keep the dispatcher: the next walk finds it.
        taken = move(db, state, old, lambda row: [], skip_locked=True)
        delete_jobs(db, [row.job_id for row in taken])
        return len(taken)

    removed = in_transaction(db, transaction) if old else 0
    return Step(removed, seen[-1][0] if len(seen) == limit else None)


def prune_minutes(db: QueueDatabase, *, before: datetime, limit: int) -> int:
    """Delete up to `limit` of the backend's minutes older than that; return how many."""
    minutes = db.objects(QueueMinute).filter(backend=db.backend, minute__lt=before)
    ids = list(minutes.order_by("minute").values_list("pk", flat=True)[:limit])
    return db.objects(QueueMinute).filter(pk__in=ids)._raw_delete(db.alias) if ids else 0


def prune_runs(db: Database, *, before: datetime, limit: int) -> int:
    """Delete up to `limit` records of recurring runs older than that, of any backend here."""
    runs = db.objects(RecurringRun).filter(run_at__lt=before)
    ids = list(runs.order_by("pk").values_list("pk", flat=True)[:limit])
    return db.objects(RecurringRun).filter(pk__in=ids)._raw_delete(db.alias) if ids else 0
