"""The read model: what one backend holds at this moment, and what is wrong with it.

The dashboard's page, its JSON and the metrics are renderings of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db import DatabaseError, InterfaceError

from dj_queue.engines import engine_for
from dj_queue.engines.tallies import Count
from dj_queue.observability.control import read_processes, read_recurring, read_semaphores
from dj_queue.observability.databases import BackendRow, Outage
from dj_queue.observability.facts import Fact, facts_of
from dj_queue.observability.queues import paused_queues, read_queues, shared_queues
from dj_queue.observability.rows import (
    ProcessRow,
    QueueRow,
    RecurringRow,
    SemaphoreRow,
    SharedQueue,
    total,
)
from dj_queue.routers import QueueDatabase

SLOW_SECONDS = 60.0
"""From this latency on a queue is in trouble."""


@dataclass(frozen=True)
class Snapshot:
    """One backend at one moment; while its database is away, `outage` says so and all is empty."""

    db: QueueDatabase
    at: datetime
    facts: Sequence[Fact] = ()
    outage: Outage | None = None
    queues: Sequence[QueueRow] = ()
    shared: Sequence[SharedQueue] = ()
    processes: Sequence[ProcessRow] = ()
    recurring: Sequence[RecurringRow] = ()
    semaphores: Sequence[SemaphoreRow] = ()

    def total(self, state: str) -> Count:
        """Count the backend's jobs in one state."""
        return total([getattr(queue, state) for queue in self.queues])

    @property
    def latency_seconds(self) -> float | None:
        """The greatest latency of the queues, None when no job is ready."""
        latencies = [each.latency_seconds for each in self.queues]
        return max((each for each in latencies if each is not None), default=None)

    @property
    def paused_count(self) -> int:
        """How many of the queues, shared ones included, are paused."""
        own = sum(each.is_paused for each in self.queues)
        return own + sum(each.is_paused for each in self.shared)

    @property
    def live_count(self) -> int:
        """How many processes beat."""
        return sum(each.is_live for each in self.processes)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what, and the queue it concerns, or the section of the page."""

    text: str
    queue: str = ""
    state: str = ""
    section: str = ""


def snapshot(db: QueueDatabase, *, now: datetime, outage: Outage | None = None) -> Snapshot:
    """Read a backend in a constant number of statements, however many queues it has.

    `outage` is what is known of its database already, from `backend_rows` or `outage_of`: then
    nothing is asked of it.
    """
    if outage is None:
        try:
            return _read(db, now)
        except (DatabaseError, InterfaceError) as error:
            outage = Outage(now, " ".join(str(error).split()))
    return Snapshot(db, now, facts_of(db, None, ()), outage)


def _read(db: QueueDatabase, now: datetime) -> Snapshot:
    reader = db.reader
    processes = read_processes(reader, now=now)
    queues = read_queues(reader, processes, now=now)
    recurring = read_recurring(reader)
    return Snapshot(
        db,
        now,
        facts_of(db, engine_for(reader).server(reader), processes),
        queues=queues,
        shared=shared_queues(queues, paused_queues(reader), recurring),
        processes=processes,
        recurring=recurring,
        semaphores=read_semaphores(reader),
    )


def problems(seen: Snapshot, backends: Iterable[BackendRow] = ()) -> list[Problem]:
    """Say what is wrong, the worst first: databases, lost processes, failures, queues that wait."""
    found = [
        Problem(f"database {alias} is away", section="backends")
        for alias in dict.fromkeys(each.database for each in backends if not each.is_reachable)
    ]
    if seen.outage and not found:
        found.append(Problem(f"database {seen.db.reader.alias} is away"))
    stale = [each for each in seen.processes if not each.is_live]
    if stale:
        hosts = ", ".join(sorted({each.hostname for each in stale}))
        noun = "process has" if len(stale) == 1 else "processes have"
        found.append(Problem(f"{len(stale)} {noun} gone silent on {hosts}", section="processes"))
    if not seen.processes and seen.total("ready"):
        found.append(Problem("no worker is running", section="processes"))
    for queue in sorted(seen.queues, key=lambda each: (-each.failed.value, each.name)):
        waits = _waits(queue, is_served=bool(seen.processes))
        texts = [f"{queue.failed} failed"] * bool(queue.failed) + [waits] * bool(waits)
        if texts:
            state = "failed" if queue.failed else "ready"
            found.append(Problem(", ".join(texts), queue.name, state))
    return found


def _waits(queue: QueueRow, *, is_served: bool) -> str:
    if not queue.ready:
        return ""
    if queue.is_paused:
        return f"paused with {queue.ready} ready"
    if is_served and not queue.worker_count:
        return f"{queue.ready} ready and no worker"
    return f"{queue.ready} ready, slow" if (queue.latency_seconds or 0) >= SLOW_SECONDS else ""


def as_json(seen: Snapshot, backends: Sequence[BackendRow] = ()) -> dict[str, Any]:
    """Return the documented form, of what JSON has or Django's encoder makes JSON of."""
    known = asdict(seen)
    del known["db"]
    return {
        "backend": seen.db.backend,
        "database": seen.db.alias,
        **known,
        "facts": {fact.label: fact.value for fact in seen.facts},
        "problems": [asdict(each) for each in problems(seen, backends)],
        "backends": [asdict(each) for each in backends],
    }
