"""The portable part of a claim engine that concerns semaphores of concurrency keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Subquery

from dj_queue.engines.claims import HandedOn, Heir
from dj_queue.engines.sql import columns, marks, prepared, rows_of, table
from dj_queue.models import BlockedExecution, Pause, ReadyExecution, Semaphore, Slot
from dj_queue.routers import Database, QueueDatabase

IN_ORDER = ("-priority", "job_id")
"""The order in which the blocked jobs of a key get its slots."""
BY_KEY = "concurrency_key = %s ORDER BY priority DESC, job_id LIMIT %s"
IS_PRECEDED = f"""EXISTS (SELECT 1 FROM {table(ReadyExecution)} WHERE backend = %s)
    OR EXISTS (SELECT 1 FROM {table(Pause)} p WHERE p.queue_name = b.queue_name)"""


class SemaphoreLocks:
    """Locks semaphores, so that one transaction at a time says who gets the slots of a key."""

    def lock_semaphores(
        self, db: Database, keys: Sequence[str], now: datetime
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

        `ended` gives each job's key; locks the semaphores of these. Return who got slots, and the
        keys that are left for operations.slots to settle: those of which more or less is free than
        these jobs held, and all where the vendor cannot do it at once, or not for less. Needs an
        open transaction.
        """
        return HandedOn(), set(ended.values())

    def next_blocked(
        self, db: QueueDatabase, wanted: Mapping[str, int], *, for_heir: bool
    ) -> list[BlockedExecution]:
        """Return the first blocked jobs: as many as are wanted of a single key, or one of each.

        Those of a key in the order in which they get its slots. Each tells in `is_preceded` whether
        others go before it, and no heir may hold it: the backend has ready jobs, or its queue is
        paused. Where it is not `for_heir`, that is taken for granted.
        """
        if len(wanted) == 1:
            [key_and_count] = wanted.items()
            return _blocked(db, BY_KEY, key_and_count, for_heir=for_heir)
        own = db.objects(BlockedExecution).filter(concurrency_key=OuterRef("pk"))
        first = Subquery(own.order_by(*IN_ORDER).values("pk")[:1])
        keys = db.objects(Semaphore).filter(pk__in=list(wanted)).annotate(first=first)
        ids = [each for each in keys.values_list("first", flat=True) if each is not None]
        if not ids:
            return []
        params = prepared(db, BlockedExecution, "job", ids)
        return _blocked(db, f"job_id IN ({marks(len(ids))})", params, for_heir=for_heir)

    def delete_slots(self, db: Database, ids: Sequence[UUID]) -> int:
        """Delete the slots of these jobs, at least one; return how many there were."""
        sql = f"DELETE FROM {table(Slot)} WHERE job_id IN ({marks(len(ids))})"
        with db.cursor() as cursor:
            cursor.execute(sql, prepared(db, Slot, "job_id", ids))
            return cursor.rowcount

    def store_semaphores(self, db: Database, rows: Sequence[Semaphore]) -> None:
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


def _blocked(
    db: QueueDatabase, which: str, params: Iterable[Any], *, for_heir: bool
) -> list[BlockedExecution]:
    is_preceded = IS_PRECEDED if for_heir else "TRUE"
    sql = (
        f"SELECT {is_preceded}, {columns(BlockedExecution)} FROM {table(BlockedExecution)} b "
        f"WHERE {which}"
    )
    with db.cursor() as cursor:
        cursor.execute(sql, [*([db.backend] if for_heir else []), *params])
        found = cursor.fetchall()
    rows = list(rows_of(db, BlockedExecution, [values for _, *values in found]))
    for row, (is_preceded, *_) in zip(rows, found, strict=True):
        row.is_preceded = bool(is_preceded)  # type: ignore[attr-defined]
    return rows
