"""The columns of the overview's tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from dj_queue.admin import formats
from dj_queue.admin.links import Links
from dj_queue.admin.permissions import CLEAR, PAUSE, RESUME, Action, Operator
from dj_queue.admin.tables import Button, Cell, Column
from dj_queue.engines.tallies import Count
from dj_queue.observability.databases import BackendRow
from dj_queue.observability.rows import (
    ProcessRow,
    QueueRow,
    RecurringRow,
    SemaphoreRow,
    SharedQueue,
)
from dj_queue.observability.snapshot import SLOW_SECONDS

TONES = {"failed": "bad", "blocked": "warn"}


@dataclass(frozen=True)
class Context:
    """Whose page it is, and who looks at it; `siblings` share the queue database."""

    links: Links
    operator: Operator
    siblings: Sequence[str]

    def everyone(self) -> str:
        """Name all backends that a pause concerns."""
        return _listed([self.links.backend, *self.siblings])

    def buttons(self, queue: str, actions: Sequence[Action]) -> list[Button]:
        """Return a button for each action on a queue that the operator may press."""
        return [
            Button(each.name, each.label, self._title(each, queue), [("queue", queue)], each.tone)
            for each in actions
            if self.operator.may(each)
        ]

    def _title(self, action: Action, queue: str) -> str:
        if action is CLEAR:
            return f"Clear {queue}: discard its ready jobs of {self.links.backend}"
        return f"{action.label} {queue} for {self.everyone()}"


def backend_columns(context: Context) -> list[Column]:
    """Return the columns of the backends table."""

    def name(row: BackendRow) -> Cell:
        is_here = row.backend == context.links.backend
        note = "this page" if is_here else ""
        return Cell(row.backend, context.links.of_backend(row.backend), note=note)

    def reachable(row: BackendRow) -> Cell:
        if row.outage is None:
            return Cell("yes", tone="good")
        since = f"unreachable since {formats.moment(row.outage.since)}"
        return Cell(since, title=row.outage.error, tone="bad")

    def failed(row: BackendRow) -> Cell:
        return _count(row.failed, "bad")

    return [
        Column("backend", name, lambda row: row.backend, tone="name"),
        _plain("database", "database", "aside"),
        _plain("vendor", "server", "aside"),
        Column("reachable", reachable, lambda row: row.is_reachable),
        Column("ready", lambda row: _count(row.ready), lambda row: row.ready, tone="number"),
        Column("failed", failed, lambda row: row.failed, tone="number"),
        _latency(),
        _numbered("live workers", "live_worker_count"),
        _plain("guarantee", "guarantee", "aside"),
    ]


def queue_columns(context: Context, now: datetime) -> list[Column]:
    """Return the columns of the queues table."""

    def counted(state: str) -> Column:
        def cell(row: QueueRow) -> Cell:
            href = context.links.queue(row.name, state)
            return _count(getattr(row, state), TONES.get(state, ""), href)

        return Column(state, cell, lambda row: getattr(row, state), tone="number")

    def controls(row: QueueRow) -> Cell:
        actions = [RESUME if row.is_paused else PAUSE, CLEAR]
        return Cell("", buttons=context.buttons(row.name, actions))

    def workers(row: QueueRow) -> Cell:
        tone = "bad" if row.ready and not row.worker_count else ""
        return _number(row.worker_count, tone)

    return [
        _queue_name(context),
        *map(counted, ("ready", "claimed", "scheduled", "blocked", "failed", "finished")),
        Column("paused", _paused, lambda row: row.is_paused),
        _latency(),
        Column("workers", workers, lambda row: row.worker_count, tone="number"),
        time_column("oldest scheduled", lambda row: row.oldest_scheduled_at, now),
        time_column("blocked until", lambda row: row.blocked_until, now),
        Column("Controls", controls, tone="controls"),
    ]


def shared_columns(context: Context) -> list[Column]:
    """Return the columns of the shared queues table."""

    def controls(row: SharedQueue) -> Cell:
        action = RESUME if row.is_paused else PAUSE
        note = f"concerns {context.everyone()}"
        return Cell("", buttons=context.buttons(row.name, [action]), note=note)

    return [
        _queue_name(context),
        Column(
            "shared via",
            lambda row: Cell("", pills=row.sources),
            lambda row: ", ".join(row.sources),
        ),
        Column("paused", _paused, lambda row: row.is_paused),
        Column("Controls", controls, tone="controls"),
    ]


def process_columns() -> list[Column]:
    """Return the columns of the processes table."""

    def name(row: ProcessRow) -> Cell:
        if not row.supervisor_name:
            return Cell(row.name)
        return Cell(row.name, note=f"under {row.supervisor_name}", tone="child")

    def heartbeat(row: ProcessRow) -> Cell:
        age = formats.ago(row.heartbeat_seconds)
        text = f"{formats.moment(row.last_heartbeat_at)} {age}"
        tone = "" if row.is_live else "bad"
        return Cell(text, title=formats.exact(row.heartbeat_seconds), tone=tone)

    def state(row: ProcessRow) -> Cell:
        return Cell("live", tone="good") if row.is_live else Cell("stale", tone="bad")

    return [
        Column("name", name, lambda row: row.name, tone="name"),
        Column("kind", lambda row: Cell(row.kind, note=row.backend), lambda row: row.kind),
        Column("state", state, lambda row: row.is_live),
        Column("last heartbeat", heartbeat, lambda row: row.last_heartbeat_at),
        _plain("hostname", "hostname"),
        _plain("pid", "pid", "number"),
    ]


def recurring_columns(context: Context, now: datetime) -> list[Column]:
    """Return the columns of the recurring tasks table."""

    def key(row: RecurringRow) -> Cell:
        return Cell(row.key, note="" if row.is_enabled else "switched off")

    def queue(row: RecurringRow) -> Cell:
        of_another = row.backend != context.links.backend
        return Cell(row.queue_name, note=f"of {row.backend}" if of_another else "")

    def kind(row: RecurringRow) -> str:
        return "static" if row.is_static else "dynamic"

    return [
        Column("key", key, lambda row: row.key, tone="name"),
        _plain("task", "task_path", "path"),
        Column("queue", queue, lambda row: row.queue_name),
        _plain("schedule", "schedule"),
        Column("type", lambda row: Cell(kind(row)), kind),
        time_column("last run", lambda row: row.last_run_at, now),
        time_column("next run", lambda row: row.next_run_at, now),
    ]


def semaphore_columns(now: datetime) -> list[Column]:
    """Return the columns of the semaphores table."""

    def available(row: SemaphoreRow) -> Cell:
        tone = "warn" if row.available == 0 and row.waiter_count else ""
        return Cell(_optional(row.available), title=f"{row.held} held", tone=tone)

    return [
        _plain("key", "key", "name"),
        Column("available", available, lambda row: row.available, tone="number"),
        Column(
            "limit", lambda row: Cell(_optional(row.limit)), lambda row: row.limit, tone="number"
        ),
        _numbered("blocked waiters", "waiter_count", "warn"),
        time_column("expires at", lambda row: row.expires_at, now),
    ]


def time_column(
    label: str, read: Callable[[Any], datetime | None], now: datetime, field: str = ""
) -> Column:
    """Return a column of times; how far away each is shows on hover. See Column for `field`."""

    def cell(row: Any) -> Cell:
        at = read(row)
        if at is None:
            return Cell(formats.NOTHING, tone="quiet")
        seconds = (at - now).total_seconds()
        away = formats.duration(abs(seconds))
        return Cell(formats.moment(at), title=f"in {away}" if seconds > 0 else f"{away} ago")

    return Column(label, cell, read, field, tone="time")


def _count(count: Count | None, tone: str = "", href: str = "") -> Cell:
    if count is None:
        return Cell(formats.NOTHING, href, tone="quiet")
    return Cell(str(count), href, tone=tone if count else "quiet")


def _number(number: int | None, tone: str = "") -> Cell:
    text = _optional(number)
    return Cell(text, tone=tone if number or tone == "bad" else "quiet")


def _optional(number: int | None) -> str:
    return formats.NOTHING if number is None else f"{number:,}"


def _latency() -> Column:
    def cell(row: Any) -> Cell:
        seconds = row.latency_seconds
        tone = "quiet" if seconds is None else "bad" if seconds >= SLOW_SECONDS else ""
        return Cell(formats.duration(seconds), title=formats.exact(seconds), tone=tone)

    return Column("latency", cell, lambda row: row.latency_seconds)


def _queue_name(context: Context) -> Column:
    def cell(row: Any) -> Cell:
        return Cell(row.name, context.links.queue(row.name))

    return Column("name", cell, lambda row: row.name, tone="name")


def _plain(label: str, name: str, tone: str = "") -> Column:
    """Return a column of text as it is."""
    read = attrgetter(name)
    return Column(label, lambda row: Cell(str(read(row)) or formats.NOTHING), read, tone=tone)


def _numbered(label: str, name: str, tone: str = "") -> Column:
    """Return a column of a number, quiet for zero, in that tone for more."""
    read = attrgetter(name)
    return Column(label, lambda row: _number(read(row), tone), read, tone="number")


def _paused(row: Any) -> Cell:
    return Cell("yes", tone="warn") if row.is_paused else Cell("no", tone="quiet")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
