"""A backend's page: is anything wrong, where, and the first button to press."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.http import HttpRequest

from dj_queue.admin import formats
from dj_queue.admin.charts import charts_of
from dj_queue.admin.columns import (
    Context,
    backend_columns,
    process_columns,
    queue_columns,
    recurring_columns,
    semaphore_columns,
    shared_columns,
)
from dj_queue.admin.links import Links
from dj_queue.admin.permissions import Operator
from dj_queue.admin.raw_rows import RAW_ROWS
from dj_queue.admin.tables import Column, Table, TableQuery, table_of
from dj_queue.observability.databases import BackendRow, backend_rows, outage_of
from dj_queue.observability.snapshot import Snapshot, problems, snapshot
from dj_queue.routers import QueueDatabase
from dj_queue.routers.registry import backends_on

SIZES = {"backends": 100, "queues": 18, "shared": 5, "processes": 10, "recurring": 12}
SIZES["semaphores"] = 12
EMPTY = {
    "backends": "no backends",
    "queues": "no queues for this backend",
    "processes": "no registered processes",
    "recurring": "none configured",
    "semaphores": "none active",
    "shared": "no shared queues",
}


@dataclass(frozen=True)
class Part:
    """A detail of a card, linked when there is something to see."""

    text: str
    href: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Card:
    """A big number and what it is made of."""

    label: str
    value: str
    parts: Sequence[Part]
    tone: str = ""


def look(db: QueueDatabase, *, now: datetime) -> tuple[Snapshot, list[BackendRow]]:
    """Ask all databases at a glance, and the backend's own, if it answers, for everything."""
    backends = backend_rows(now=now, but=db.backend)
    (own,) = [each for each in backends if each.backend == db.backend]
    outage = own.outage if db.reader == db else outage_of(db.reader, now=now)
    seen = snapshot(db, now=now, outage=outage)
    if seen.outage is None:
        counted = replace(
            own,
            ready=seen.total("ready"),
            failed=seen.total("failed"),
            latency_seconds=seen.latency_seconds,
        )
        backends[backends.index(own)] = counted
    return seen, backends


def overview(
    request: HttpRequest, db: QueueDatabase, links: Links, now: datetime
) -> dict[str, Any]:
    """Return the context of a backend's page."""
    seen, backends = look(db, now=now)
    siblings = [name for name in backends_on(db.alias) if name != db.backend]
    context = Context(links, Operator.of(request), siblings)

    def table(name: str, columns: Sequence[Column], rows: Sequence[Any]) -> Table:
        query = TableQuery(name, columns, request.GET)
        return table_of(query, rows, size=SIZES[name], empty=EMPTY[name])

    return {
        "seen": seen,
        "away_since": formats.moment(seen.outage.since) if seen.outage else "",
        "siblings": siblings,
        "problems": [
            (each, _place(each.queue, each.state, links)) for each in problems(seen, backends)
        ],
        "cards": _cards(seen, links),
        "backends_table": table("backends", backend_columns(context), backends)
        if len(backends) > 1
        else None,
        "queues_table": table("queues", queue_columns(context, now), seen.queues),
        "processes_table": table("processes", process_columns(), seen.processes),
        "recurring_table": table("recurring", recurring_columns(context, now), seen.recurring),
        "semaphores_table": table("semaphores", semaphore_columns(now), seen.semaphores),
        "shared_table": table("shared", shared_columns(context), seen.shared)
        if seen.shared
        else None,
        "charts": [] if seen.outage else charts_of(db.reader, now=now),
        "raw_rows": [
            (label, [(each.title, links.to("rows", rows=each.name)) for each in group])
            for label, group in _visible(context.operator)
        ],
    }


def _place(queue: str, state: str, links: Links) -> str:
    return links.queue(queue, state) if queue else ""


def _visible(operator: Operator) -> list[tuple[str, list[Any]]]:
    groups = []
    for label, rows in RAW_ROWS.items():
        visible = [each for each in rows if operator.may_see(each.model)]
        if visible:
            groups.append((label, visible))
    return groups


def _cards(seen: Snapshot, links: Links) -> list[Card]:
    ready, scheduled = seen.total("ready"), seen.total("scheduled")
    failed, blocked = seen.total("failed"), seen.total("blocked")
    stale = len(seen.processes) - seen.live_count
    queue_count = len(seen.queues)

    def state(count: Any, name: str, tone: str = "") -> Part:
        return Part(f"{count} {name}", links.jobs(state=name), tone if count else "quiet")

    return [
        Card("queues", str(queue_count), [_part(seen.paused_count, "paused", "#queues", "warn")]),
        Card(
            "backlog",
            str(ready + scheduled),
            [state(ready, "ready"), state(scheduled, "scheduled")],
        ),
        Card(
            "attention",
            str(failed + blocked),
            [state(failed, "failed", "bad"), state(blocked, "blocked", "warn")],
            "bad" if failed else "warn" if blocked else "",
        ),
        Card(
            "runtime",
            str(len(seen.processes)),
            [
                _part(seen.live_count, "live", "#processes"),
                _part(stale, "stale", "#processes", "bad"),
            ],
            "bad" if stale else "",
        ),
        Card(
            "control-plane",
            str(len(seen.recurring) + len(seen.semaphores)),
            [
                _part(len(seen.recurring), "recurring", "#recurring"),
                _part(len(seen.semaphores), "semaphores", "#semaphores"),
            ],
        ),
    ]


def _part(count: int, word: str, href: str, tone: str = "") -> Part:
    return Part(f"{count} {word}", href, tone if count else "quiet")
