"""Checks that find jobs in queues from which no worker takes, by the settings and by who runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from django.core.checks import Warning

from dj_queue.checks.live import Found, has_right_options, missing_tables, of_each_database
from dj_queue.checks.queues import is_taken
from dj_queue.checks.routing import fault
from dj_queue.engines.clock import present
from dj_queue.engines.selectors import selects
from dj_queue.engines.tallies import Count, queues_by_state
from dj_queue.models import BlockedExecution, Pause, Process, ReadyExecution, ScheduledExecution
from dj_queue.routers import Database, QueueDatabase
from dj_queue.routers.registry import backends_on

WAITING = (ReadyExecution, ScheduledExecution, BlockedExecution)
CAP = 100_000
"""Most jobs of a queue that are counted in each state."""


@dataclass(frozen=True)
class Untaken:
    """A queue with jobs that none of the backend's live workers takes, and of how many that is.

    With `is_in_settings` a worker of the settings here would take them, if it ran.
    """

    queue_name: str
    count: Count
    worker_count: int
    is_in_settings: bool

    def __str__(self) -> str:
        if not self.worker_count:
            return "no worker of the backend runs at all"
        return f"of the workers that run ({self.worker_count}) none takes from it"


def untaken_queues(db: QueueDatabase) -> Iterator[Untaken]:
    """Yield the backend's queues that no live worker takes, by name; none that is paused.

    Where no worker runs at all, those that no worker of the settings would take. Names are skipped
    through by index, and only jobs of these queues are counted, up to a cap.
    """
    found = queues_by_state(db, WAITING)
    names = {name for state in WAITING for name in found[state.state]}
    if not names:
        return
    names -= set(db.objects(Pause).values_list("queue_name", flat=True))
    workers = _live_selectors(db)
    for name in sorted(names):
        is_in_settings = is_taken(name, db.options)
        if is_in_settings and not workers:
            continue
        if not any(selects(selector, name) for each in workers for selector in each):
            yield Untaken(name, _count(db, name), len(workers), is_in_settings)


def _live_selectors(db: QueueDatabase) -> list[list[str]]:
    """Return the selectors of each live worker of the backend, whatever host it is on."""
    oldest = present(db) - timedelta(seconds=db.options.process_alive_threshold)
    rows = db.objects(Process).filter(kind="worker", backend=db.backend)
    live = rows.filter(last_heartbeat_at__gte=oldest).values_list("metadata", flat=True)
    return [_selectors(metadata) for metadata in live]


def _selectors(metadata: object) -> list[str]:
    queues = metadata.get("queues") if isinstance(metadata, Mapping) else None
    # Of a version that tells it otherwise: it may take any.
    return list(map(str, queues)) if isinstance(queues, list) else ["*"]


def _count(db: QueueDatabase, name: str) -> Count:
    counts = []
    for state in WAITING:
        rows = db.objects(state).filter(backend=db.backend, queue_name=name)
        counts.append(Count.up_to(CAP, rows[: CAP + 1].count()))
    return sum(counts, start=Count())


@of_each_database
def check_waiting_jobs(db: Database) -> Found:
    """W105, W107: jobs in a queue that no worker takes, be it of the settings, be it one that runs.

    A worker that runs is one of any host: its settings may be others.
    """
    backends = backends_on(db.alias)
    if not backends or missing_tables(db.alias):
        return
    for backend in filter(has_right_options, backends):
        for each in untaken_queues(QueueDatabase(alias=db.alias, backend=backend)):
            if each.is_in_settings:
                yield fault(
                    Warning,
                    "W107",
                    f"expected a running worker of backend {backend!r} that takes from the queue "
                    f"{each.queue_name!r}, as the settings have one, got none: {each}, and "
                    f"{each.count} of its jobs wait on database {db.alias!r}",
                    "Start the worker, or restart those that run with older settings.",
                )
                continue
            yield fault(
                Warning,
                "W105",
                f"TASKS[{backend!r}]['OPTIONS']['workers']: expected a worker that takes from the "
                f"queue {each.queue_name!r}, where jobs wait, got none, and {each}: {each.count} "
                f"on database {db.alias!r} will wait for ever",
                "Give a worker the queue, or correct the name in the task.",
            )
