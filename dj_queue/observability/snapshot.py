"""The read model: what one backend's queues hold at this moment."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.db import DatabaseError, InterfaceError
from django.db.models import Count

from dj_queue.models import (
    ClaimedExecution,
    FailedExecution,
    Pause,
    ReadyExecution,
    ScheduledExecution,
)
from dj_queue.routers import QueueDatabase

UNFINISHED = (ReadyExecution, ClaimedExecution, ScheduledExecution, FailedExecution)


@dataclass
class QueueCounts:
    """How many jobs of one backend a queue holds, by state."""

    name: str
    ready: int = 0
    claimed: int = 0
    scheduled: int = 0
    failed: int = 0
    is_paused: bool = False


@dataclass(frozen=True)
class Snapshot:
    """One backend's queues by name; `error` says why there are none, when the database is away."""

    db: QueueDatabase
    queues: list[QueueCounts] = field(default_factory=list)
    error: str | None = None


def snapshot(db: QueueDatabase) -> Snapshot:
    """Read the queues of a backend that hold unfinished jobs, in a constant number of queries."""
    queues: dict[str, QueueCounts] = {}
    try:
        for state in UNFINISHED:
            rows = db.objects(state).filter(backend=db.backend).values_list("queue_name")
            for name, count in rows.annotate(Count("pk")).order_by("queue_name"):
                setattr(queues.setdefault(name, QueueCounts(name)), state.state, count)
        paused = set(db.objects(Pause).values_list("queue_name", flat=True))
    except (DatabaseError, InterfaceError) as error:
        return Snapshot(db, error=str(error))
    for each in queues.values():
        each.is_paused = each.name in paused
    return Snapshot(db, sorted(queues.values(), key=lambda each: each.name))
