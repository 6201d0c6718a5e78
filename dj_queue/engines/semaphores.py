"""The portable part of a claim engine that concerns semaphores of concurrency keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from dj_queue.engines.claims import HandedOn, Heir
from dj_queue.engines.sql import columns, marks, prepared, rows_of, table
from dj_queue.models import BlockedExecution, Pause, ReadyExecution, Semaphore, Slot
from dj_queue.routers import QueueDatabase


class SemaphoreLocks:
    """Locks semaphores, so that one transaction at a time says who gets the slots of a key."""

    hands_on_at_once = False
    """Whether `hand_on` is there: most of operations.slots, as one statement."""

    def lock_semaphores(
        self, db: QueueDatabase, keys: Sequence[str], now: datetime
    ) -> dict[str, Semaphore]:
        """Lock the semaphores of these keys, in the order given; return them by key.

        One that is missing is made, with nothing held. Needs an open transaction.
        """
        found: dict[str, Semaphore] = {}
        while len(found) < len(keys):  # Between the two another may delete one.
            db.objects(Semaphore).bulk_create(
                [Semaphore(key, 0, now) for key in keys], ignore_conflicts=True
            )
            rows = db.objects(Semaphore).filter(pk__in=keys).order_by("pk")
            found = {row.key: row for row in rows.select_for_update()}
        return found

    def free_semaphores(self, db: QueueDatabase, keys: Sequence[str]) -> list[str]:
        """Lock those of the keys' semaphores that no other transaction has locked.

        Return their keys. Where locked rows cannot be skipped they are waited for. Needs an open
        transaction.
        """
        rows = db.objects(Semaphore).filter(pk__in=keys).order_by("pk")
        locked = rows.select_for_update(skip_locked=self._skips_locked(db))
        return list(locked.values_list("pk", flat=True))

    def hand_on(
        self, db: QueueDatabase, ended: Mapping[UUID, str], now: datetime, heir: Heir | None
    ) -> tuple[HandedOn, set[str]]:
        """Take back the slots of ended jobs and hand them on, to `heir` first; wake the workers.

        `ended` gives each job's key; the semaphores of these are locked. Return who got slots, and
        the keys of which more or less is free than these jobs held: they are left to be settled.
        Needs an open transaction.
        """
        raise NotImplementedError

    def may_inherit(self, db: QueueDatabase, queues: Collection[str]) -> bool:
        """Tell whether an heir goes before nobody: no job is ready, and no queue is paused."""
        sql = (
            f"SELECT EXISTS (SELECT 1 FROM {table(ReadyExecution)} WHERE backend = %s) "
            f"OR EXISTS (SELECT 1 FROM {table(Pause)} WHERE queue_name IN ({marks(len(queues))}))"
        )
        with db.cursor() as cursor:
            cursor.execute(sql, [db.backend, *queues])
            return not cursor.fetchone()[0]

    def next_blocked(self, db: QueueDatabase, key: str, count: int) -> list[BlockedExecution]:
        """Return the first blocked jobs of a key, in the order in which they get its slots."""
        sql = (
            f"SELECT {columns(BlockedExecution)} FROM {table(BlockedExecution)} "
            "WHERE concurrency_key = %s ORDER BY priority DESC, job_id LIMIT %s"
        )
        with db.cursor() as cursor:
            cursor.execute(sql, [key, count])
            return list(rows_of(db, BlockedExecution, cursor.fetchall()))

    def delete_slots(self, db: QueueDatabase, ids: Sequence[UUID]) -> int:
        """Delete the slots of these jobs, at least one; return how many there were."""
        sql = f"DELETE FROM {table(Slot)} WHERE job_id IN ({marks(len(ids))})"
        with db.cursor() as cursor:
            cursor.execute(sql, prepared(db, Slot, "job_id", ids))
            return cursor.rowcount

    def store_semaphores(self, db: QueueDatabase, rows: Sequence[Semaphore]) -> None:
        """Write semaphores that are locked; those of which nothing is held are deleted."""
        gone = [row.key for row in rows if not row.held]
        kept = [row for row in rows if row.held]
        if gone:
            db.objects(Semaphore).filter(pk__in=gone)._raw_delete(db.alias)
        if kept:
            has_target = db.connection.features.supports_update_conflicts_with_target
            db.objects(Semaphore).bulk_create(
                kept,
                update_conflicts=True,
                unique_fields=["key"] if has_target else None,
                update_fields=["held", "expires_at"],
            )

    def _skips_locked(self, db: QueueDatabase) -> bool:
        can = db.connection.features.has_select_for_update_skip_locked
        return can and db.options.use_skip_locked
