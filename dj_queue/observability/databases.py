"""All queue databases at a glance, and which of them gave no answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from dj_queue.engines import engine_for
from dj_queue.engines.tallies import Count, longest_waiting, tally
from dj_queue.models import FailedExecution, ReadyExecution
from dj_queue.observability.control import read_processes
from dj_queue.observability.queues import CAP, waiting_seconds
from dj_queue.observability.rows import ProcessRow, total
from dj_queue.routers import Database, QueueDatabase, queue_database
from dj_queue.routers.registry import APPLICATION_ALIAS, databases, routes
from dj_queue.routers.survey import Reply, survey

SECONDS = 1.5
"""How long a page waits for a database."""


@dataclass(frozen=True)
class Outage:
    """A database that gave no answer: since when, as this process knows it, and what it said."""

    since: datetime
    error: str


@dataclass(frozen=True)
class BackendRow:
    """A backend and its database; without numbers while the database is away."""

    backend: str
    database: str
    guarantee: str
    server: str = ""
    outage: Outage | None = None
    ready: Count | None = None
    failed: Count | None = None
    latency_seconds: float | None = None
    live_worker_count: int | None = None

    @property
    def is_reachable(self) -> bool:
        """Whether the database answered in time."""
        return self.outage is None


_away_since: dict[str, datetime] = {}
"""Since when each database that is away gave no answer, as far as this process knows."""


def backend_rows(
    *, now: datetime, seconds: float = SECONDS, but: str | None = None
) -> list[BackendRow]:
    """Ask every queue database at once, each for at most `seconds`; a row for each backend.

    The backend `but` is not counted: who knows its numbers anyway fills them in.
    """
    replies = survey(databases(), partial(_look, now=now, but=but), seconds=seconds)
    outages = {alias: _outage(alias, reply, now) for alias, reply in replies.items()}
    rows = []
    for route in routes().values():
        found, outage = replies[route.alias].answer, outages[route.alias]
        if found is None:
            guarantee = queue_database(route.backend).guarantee(APPLICATION_ALIAS)
            rows.append(BackendRow(route.backend, route.alias, guarantee, outage=outage))
        else:
            rows.append(found[route.backend])
    return rows


def outage_of(db: QueueDatabase, *, now: datetime, seconds: float = SECONDS) -> Outage | None:
    """Tell whether a database answers, without waiting for it longer than `seconds`."""
    replies = survey([db.alias], partial(_greet, backend=db.backend), seconds=seconds)
    return _outage(db.alias, replies[db.alias], now)


def _outage(alias: str, reply: Reply[Any], now: datetime) -> Outage | None:
    if not reply.error:
        _away_since.pop(alias, None)
        return None
    return Outage(_away_since.setdefault(alias, now), reply.error)


def _greet(alias: str, *, backend: str) -> bool:
    rows = Database(alias).objects(ReadyExecution)
    return rows.filter(backend=backend).exists()


def _look(alias: str, *, now: datetime, but: str | None) -> dict[str, BackendRow]:
    database = Database(alias)
    server = str(engine_for(database).server(database))
    processes = read_processes(database.for_backend(database.backends[0]), now=now)
    rows = {}
    for backend in database.backends:
        db = database.for_backend(backend)
        row = BackendRow(
            backend,
            alias,
            db.guarantee(APPLICATION_ALIAS),
            server=server,
            live_worker_count=live_workers(db, processes),
        )
        rows[backend] = row if backend == but else _counted(db, row, now)
    return rows


def _counted(db: QueueDatabase, row: BackendRow, now: datetime) -> BackendRow:
    waiting = waiting_seconds(longest_waiting(db), now=now)
    return replace(
        row,
        ready=total(list(tally(db, ReadyExecution, cap=CAP).values())),
        failed=total(list(tally(db, FailedExecution, cap=CAP).values())),
        latency_seconds=max(waiting.values(), default=None),
    )


def live_workers(db: QueueDatabase, processes: Sequence[ProcessRow]) -> int:
    """Count the live workers of the backend."""
    return sum(
        each.is_live and each.kind == "worker" and each.backend == db.backend for each in processes
    )
