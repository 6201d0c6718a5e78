"""Pause and resume: a paused queue is not claimed from, by any backend on the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dj_queue.engines import engine_for, naming_tables
from dj_queue.models import Pause
from dj_queue.routers import QueueDatabase
from dj_queue.routers.registry import backends_on


def pause(db: QueueDatabase, queue_names: Sequence[str], *, now: datetime) -> None:
    """Stop claims from these queues; jobs already claimed run on. Pausing twice is no error."""
    rows = [Pause(queue_name=name, paused_at=now) for name in queue_names]
    with naming_tables(db):
        db.objects(Pause).bulk_create(rows, ignore_conflicts=True)


def resume(db: QueueDatabase, queue_names: Sequence[str]) -> int:
    """Let these queues be claimed from again, wake their workers; return how many were paused."""
    with naming_tables(db), db.atomic():
        resumed = db.objects(Pause).filter(queue_name__in=queue_names).delete()[0]
        for backend in backends_on(db.alias) if resumed else ():
            engine_for(db).wake(QueueDatabase(alias=db.alias, backend=backend), queue_names)
    return resumed
