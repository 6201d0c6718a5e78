"""What the read model is made of: one frozen dataclass for a row of each table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from dj_queue.engines.tallies import Count

PAUSE, RECURRING_TASK = "pause", "recurring task"
"""The shared rows because of which a queue without jobs of the backend is listed."""


@dataclass(frozen=True)
class QueueRow:
    """A queue that has jobs of the backend; `latency_seconds` is None when none is ready."""

    name: str
    ready: Count
    claimed: Count
    scheduled: Count
    blocked: Count
    failed: Count
    finished: Count
    is_paused: bool
    latency_seconds: float | None
    worker_count: int
    oldest_scheduled_at: datetime | None
    blocked_until: datetime | None


@dataclass(frozen=True)
class SharedQueue:
    """A queue without any job of the backend, there because of rows that backends share."""

    name: str
    sources: tuple[str, ...]
    is_paused: bool


@dataclass(frozen=True)
class ProcessRow:
    """A process that serves the queue database; `heartbeat_seconds` is the heartbeat's age."""

    id: UUID
    kind: str
    name: str
    backend: str
    is_live: bool
    last_heartbeat_at: datetime
    heartbeat_seconds: float
    hostname: str
    pid: int
    supervisor_name: str
    selectors: tuple[str, ...]


@dataclass(frozen=True)
class RecurringRow:
    """A recurring task of the queue database; `backend` is where its jobs go."""

    key: str
    task_path: str
    queue_name: str
    backend: str
    schedule: str
    is_static: bool
    is_enabled: bool
    last_run_at: datetime | None
    next_run_at: datetime | None


@dataclass(frozen=True)
class SemaphoreRow:
    """A concurrency key with slots held; the limit is None when no job at hand tells it."""

    key: str
    held: int
    limit: int | None
    waiter_count: int
    expires_at: datetime

    @property
    def available(self) -> int | None:
        """How many slots are free."""
        return None if self.limit is None else max(0, self.limit - self.held)


def total(counts: Sequence[Count]) -> Count:
    """Add up counts; capped if any of them is."""
    return sum(counts, Count())
