"""The queues of a backend, and those that shared rows of its database name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Min

from dj_queue.engines.selectors import selects
from dj_queue.engines.tallies import Count, longest_waiting, tallies
from dj_queue.models import (
    STATES,
    BlockedExecution,
    FinishedExecution,
    Job,
    Pause,
    ScheduledExecution,
)
from dj_queue.observability.rows import (
    PAUSE,
    RECURRING_TASK,
    ProcessRow,
    QueueRow,
    RecurringRow,
    SharedQueue,
)
from dj_queue.routers import Database, QueueDatabase

FINISHED_CAP, CAP = 10_000, 100_000
"""Most jobs of one queue that are counted, of the finished ones and of those in other states."""
MOST_FINISHED, MOST_COUNTED = 50_000, 1_000_000
"""Most that are counted of all queues together: with more queues each has a smaller cap.

A finished job may cost a look at its row, until PostgreSQL has vacuumed the page it is on.
"""


def read_queues(
    db: QueueDatabase, processes: Sequence[ProcessRow], *, now: datetime
) -> list[QueueRow]:
    """Read the backend's queues that have a job in any state, by name."""
    counts = tallies(db, _cap)
    names = sorted({name for found in counts.values() for name in found})
    paused = set(paused_queues(db))
    waiting = waiting_seconds(longest_waiting(db), now=now)
    scheduled = _earliest(db, ScheduledExecution, "run_after")
    blocked = _earliest(db, BlockedExecution, "expires_at")
    return [
        QueueRow(
            name=name,
            **{each.state: counts[each.state].get(name, Count()) for each in STATES},
            is_paused=name in paused,
            latency_seconds=waiting.get(name),
            worker_count=workers_of(db, name, processes),
            oldest_scheduled_at=scheduled.get(name),
            blocked_until=blocked.get(name),
        )
        for name in names
    ]


def shared_queues(
    queues: Iterable[QueueRow], paused: Iterable[str], recurring: Iterable[RecurringRow]
) -> list[SharedQueue]:
    """Return the queues that only shared rows name: no job of the backend in any state is there."""
    own = {queue.name for queue in queues}
    sources: dict[str, list[str]] = {}
    for name in sorted(set(paused) - own):
        sources.setdefault(name, []).append(PAUSE)
    for name in sorted({task.queue_name for task in recurring} - own):
        sources.setdefault(name, []).append(RECURRING_TASK)
    return [
        SharedQueue(name, tuple(found), is_paused=PAUSE in found)
        for name, found in sorted(sources.items())
    ]


def paused_queues(db: Database) -> list[str]:
    """Read which queues of the database are paused."""
    return list(db.objects(Pause).order_by("queue_name").values_list("queue_name", flat=True))


def waiting_seconds(jobs: Iterable[Job], *, now: datetime) -> dict[str, float]:
    """Return for each queue how long the longest waiting of these ready jobs has been due."""
    waiting: dict[str, float] = {}
    for job in jobs:
        due = max(job.enqueued_at, job.run_after or job.enqueued_at)
        seconds = max(0.0, (now - due).total_seconds())
        waiting[job.queue_name] = max(seconds, waiting.get(job.queue_name, 0.0))
    return waiting


def queue_latency(db: QueueDatabase, name: str, *, now: datetime) -> float | None:
    """Return how many seconds a queue's longest waiting job has been due, or None."""
    return waiting_seconds(longest_waiting(db), now=now).get(name)


def workers_of(db: QueueDatabase, name: str, processes: Iterable[ProcessRow]) -> int:
    """Count the live workers of the backend whose selectors mean this queue."""
    return sum(
        each.is_live
        and each.kind == "worker"
        and each.backend == db.backend
        and any(selects(selector, name) for selector in each.selectors)
        for each in processes
    )


def _cap(state: Any, queue_count: int) -> int:
    """Return a round number: many queues, each nearly at its cap, must not cost more than few."""
    is_finished = state is FinishedExecution
    cap, most = (FINISHED_CAP, MOST_FINISHED) if is_finished else (CAP, MOST_COUNTED)
    share = min(cap, max(100, most // max(1, queue_count)))
    magnitude = 10 ** (len(str(share)) - 1)
    return share // magnitude * magnitude


def _earliest(db: QueueDatabase, state: Any, column: str) -> dict[str, datetime]:
    rows = db.objects(state).filter(backend=db.backend).values_list("queue_name")
    return dict(rows.annotate(Min(column)).order_by("queue_name"))
