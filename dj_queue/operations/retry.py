"""Retry: a failed attempt is followed by another, by the task's rules or by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from dj_queue import parsers, timezone
from dj_queue.compat import Task
from dj_queue.engines.clock import estimated
from dj_queue.events import log
from dj_queue.exceptions import (
    InvalidArguments,
    InvalidReturnValue,
    ProcessExited,
    ProcessPruned,
    ResultLost,
)
from dj_queue.models import FailedExecution, Job
from dj_queue.operations.concurrency import let_wait
from dj_queue.quoting import quoted_error
from dj_queue.routers import QueueDatabase
from dj_queue.tasks import Retry, RetryPolicy

CRASHES = (ProcessExited, ProcessPruned)
FINAL = (InvalidArguments, InvalidReturnValue, ResultLost)
"""Never retried: another attempt ends the same way, or what the task does has been done."""


def next_attempt_at(
    task: Task, job: Job, attempt: int, error: BaseException, *, now: datetime
) -> datetime | None:
    """Return when the next attempt is due, or None when the job is failed for good.

    `attempt` is the one that failed, counted from 1; `error` is what it raised, or for a crash
    ProcessExited or ProcessPruned. A Task of another decorator has the rules that are QueueTask's
    defaults. Raises nothing, whatever the task's own rules do.
    """
    if attempt >= job.max_attempts or isinstance(error, FINAL):
        return None
    try:
        if not _is_retried(task, error):
            return None
        return parsers.moment(_due(task, attempt, error, now), "the next attempt")
    except BaseException as failure:  # The rules are the task's code, as the task is.
        log(
            "backoff_failed",
            backend=job.backend,
            database=job._state.db,
            job=job.id,
            error=quoted_error(failure),
            exc_info=True,
        )
        return now + timedelta(seconds=RetryPolicy().delay_seconds(attempt))


def retry(db: QueueDatabase, ids: Sequence[UUID], *, now: datetime | None = None) -> int:
    """Make failed jobs ready again; return how many were failed. Opens a transaction.

    Each gets one more attempt, whatever its max_attempts is; one with a concurrency key waits for a
    slot. `now` is the present if None.
    """
    return let_wait(db, FailedExecution, ids, now=now or estimated(db), attempt_step=1)


def _is_retried(task: Task, error: BaseException) -> bool:
    if isinstance(error, Retry):
        return True
    if isinstance(error, getattr(task, "give_up_on", ())):
        return False
    return isinstance(error, (*CRASHES, *getattr(task, "retry_on", (Exception,))))


def _due(task: Task, attempt: int, error: BaseException, now: datetime) -> datetime:
    after = error.after if isinstance(error, Retry) else None
    if isinstance(after, datetime):
        return max(timezone.to_utc(after), now)
    if after is None:
        policy = getattr(task, "backoff", RetryPolicy())
        after = timedelta(seconds=policy.delay_seconds(attempt))
    return now + after
