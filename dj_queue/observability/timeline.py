"""A job's timeline: what happened to it, in order, as far as its rows tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from dj_queue.models import (
    Attempt,
    BlockedExecution,
    ClaimedExecution,
    FailedExecution,
    FinishedExecution,
    Job,
    ReadyExecution,
    ScheduledExecution,
)
from dj_queue.observability.jobs import load_job, state_row
from dj_queue.results import attempts_of
from dj_queue.routers import QueueDatabase


@dataclass(frozen=True)
class Event:
    """Something that happened, or is to come; `seconds` is how long it took."""

    at: datetime | None
    what: str
    detail: str = ""
    tone: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Timeline:
    """A job, its state's row and failed attempts, and its life as events in order."""

    job: Job
    execution: Any
    attempts: Sequence[Attempt]
    events: Sequence[Event]

    @property
    def state(self) -> str:
        """The state it is in, "" while it moves from one to the next."""
        return getattr(self.execution, "state", "")


def timeline_of(db: QueueDatabase, job_id: UUID) -> Timeline | None:
    """Read the timeline of a job of the backend, in two statements; None when there is none."""
    job = load_job(db, job_id)
    if job is None:
        return None
    execution, attempts = state_row(job), attempts_of(db, job_id)
    if isinstance(execution, ClaimedExecution):
        attempts = [each for each in attempts if each.number < execution.attempt]
    events = [*_beginning(job), *map(_attempt, attempts)]
    is_told = isinstance(execution, FailedExecution) and attempts
    events += [] if is_told else _now(execution)
    return Timeline(job, execution, attempts, events)


def _beginning(job: Job) -> list[Event]:
    events = [Event(job.enqueued_at, "enqueued", f"in {job.queue_name}")]
    if job.run_after is not None and job.run_after > job.enqueued_at:
        events.append(Event(job.run_after, "due"))
    return events


def _attempt(attempt: Attempt) -> Event:
    seconds = (attempt.ended_at - attempt.started_at).total_seconds()
    what = f"attempt {attempt.number} failed"
    return Event(attempt.ended_at, what, attempt.exception_path, "bad", seconds)


def _now(execution: Any) -> list[Event]:
    match execution:
        case ReadyExecution():
            return [Event(None, "ready", "waits for a worker")]
        case ScheduledExecution():
            return [Event(execution.run_after, "scheduled", "waits for its time")]
        case BlockedExecution():
            key = execution.concurrency_key
            return [Event(execution.expires_at, "blocked", f"by {key}, until then at the latest")]
        case ClaimedExecution():
            return [Event(execution.claimed_at, "claimed", f"by process {execution.process_id}")]
        case FailedExecution():
            return [Event(execution.failed_at, "failed", execution.exception_path, "bad")]
        case FinishedExecution():
            seconds = (execution.finished_at - execution.started_at).total_seconds()
            return [
                Event(execution.started_at, "started", f"by process {execution.worker_id}"),
                Event(execution.finished_at, "finished", "", "good", seconds),
            ]
    return []
