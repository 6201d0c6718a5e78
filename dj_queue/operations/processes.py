"""Processes in the database: who serves it, and whose heart still beats."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from dj_queue.models import ClaimedExecution, Process
from dj_queue.operations.transitions import in_transaction
from dj_queue.routers import Database


def register(db: Database, processes: Sequence[Process]) -> None:
    """Insert the rows of processes that start; one that is there already stays as it is.

    Opens a transaction.
    """
    in_transaction(
        db, lambda: db.objects(Process).bulk_create(list(processes), ignore_conflicts=True)
    )


def beat(db: Database, ids: Sequence[UUID], *, now: datetime) -> set[UUID]:
    """Note that these processes live; return those that have no row any more.

    Who has none was given up: another process made its claims ready, or failed them.
    """
    rows = db.objects(Process).filter(pk__in=ids)
    if rows.update(last_heartbeat_at=now) == len(ids):
        return set()
    return set(ids) - set(rows.values_list("pk", flat=True))


def deregister(db: Database, ids: Sequence[UUID]) -> None:
    """Forget processes that end in order; one that leaves claims stays, to be found silent."""
    claiming = db.objects(ClaimedExecution).filter(process_id__in=ids)
    left = set(claiming.values_list("process_id", flat=True))
    forget(db, [each for each in ids if each not in left])


def give_up(db: Database, process: Process) -> bool:
    """Delete the row of a process unless it has beaten since it was read; tell whether it did."""
    same = {"pk": process.pk, "last_heartbeat_at": process.last_heartbeat_at}
    return bool(db.objects(Process).filter(**same)._raw_delete(db.alias))


def forget(db: Database, ids: Sequence[UUID]) -> None:
    """Delete the rows of processes; the last one of a supervisor takes that one's with it.

    Locks the rows of their supervisors, opens a transaction.
    """

    def transaction() -> None:
        rows = db.objects(Process).filter(pk__in=ids)
        supervisors = {each.supervisor_id for each in rows if each.supervisor_id}
        # One after the other: of two that end at once each would still see the other's row.
        kept = db.objects(Process).filter(pk__in=supervisors)
        list(kept.select_for_update().order_by("pk"))
        db.objects(Process).filter(pk__in=ids)._raw_delete(db.alias)
        if not supervisors:
            return
        others = db.objects(Process).filter(supervisor_id__in=supervisors)
        idle = supervisors - {each.supervisor_id for each in others if each.supervisor_id}
        db.objects(Process).filter(pk__in=idle)._raw_delete(db.alias)

    in_transaction(db, transaction)


def silent_processes(
    db: Database, *, now: datetime, alive_threshold_seconds: float
) -> dict[UUID, datetime | None]:
    """Return processes that seem to be lost, each with its last heartbeat; three statements.

    None where claims name a process that has no row: it ended between two steps, or claimed after
    it was given up.
    """
    oldest = now - timedelta(seconds=alive_threshold_seconds)
    silent = db.objects(Process).filter(last_heartbeat_at__lt=oldest)
    found: dict[UUID, datetime | None] = dict(silent.values_list("pk", "last_heartbeat_at"))
    claiming = set(db.objects(ClaimedExecution).values_list("process_id", flat=True).distinct())
    if claiming:
        known = set(db.objects(Process).filter(pk__in=claiming).values_list("pk", flat=True))
        found |= dict.fromkeys(claiming - known)
    return found
