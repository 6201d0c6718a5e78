"""Execute: run the task of one claimed job and say what came of it. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from traceback import format_exception
from typing import Any

from django.db import DatabaseError, InterfaceError

from dj_queue.compat import (
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultStatus,
    task_backends,
    task_started,
)
from dj_queue.exceptions import InvalidArguments, InvalidReturnValue, NotSerializable
from dj_queue.models import ClaimedExecution
from dj_queue.models.fields import normalize_json
from dj_queue.results import (
    attempts_of,
    described_task,
    errors_of,
    running_result,
    text_of,
)
from dj_queue.routers import QueueDatabase

MESSAGE_LENGTH = 10_000
TRACEBACK_LENGTH = 100_000


@dataclass(frozen=True)
class Failure:
    """What an attempt raised, as text that every vendor can store."""

    exception_path: str
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Describe an exception; its own str() may fail without harm."""
        kind = type(error)
        try:
            trace = "".join(format_exception(error))
        except Exception as unprintable:
            trace = f"<the traceback could not be formatted: {type(unprintable).__name__}>"
        return cls(
            f"{kind.__module__}.{kind.__qualname__}"[:255],
            _storable(text_of(error), MESSAGE_LENGTH),
            _storable(trace, TRACEBACK_LENGTH),
        )


@dataclass(frozen=True)
class Outcome:
    """How one attempt at a claimed job ended; `error` and `failure` are None when it returned."""

    claimed: ClaimedExecution
    started_at: datetime
    ended_at: datetime
    result: TaskResult
    return_value: Any = None
    error: BaseException | None = None
    failure: Failure | None = None


def execute(
    db: QueueDatabase, claimed: ClaimedExecution, *, clock: Callable[[], datetime]
) -> Outcome:
    """Run the job's task in this thread and return the outcome, whatever it raised.

    Sends task_started. A path that names no Task fails the job and calls nothing.
    """
    started_at = clock()
    result = _running(claimed, started_at)
    if claimed.attempt > 1:
        _recall(db, claimed, result)
    try:
        sender = type(task_backends[db.backend])
        task_started.send_robust(sender=sender, task_result=result)
        value = _call(result)
    except BaseException as error:  # SystemExit and KeyboardInterrupt end the job, not the worker.
        return failed(claimed, result, error, started_at=started_at, ended_at=clock())
    ended_at = clock()
    _settle(result, TaskResultStatus.SUCCESSFUL, ended_at)
    object.__setattr__(result, "_return_value", value)
    return Outcome(claimed, started_at, ended_at, result, return_value=value)


def abandoned(claimed: ClaimedExecution, error: BaseException, *, now: datetime) -> Outcome:
    """Return the outcome of a job that its process gives up while it runs."""
    result = _running(claimed, claimed.claimed_at)
    return failed(claimed, result, error, started_at=claimed.claimed_at, ended_at=now)


def failed(
    claimed: ClaimedExecution,
    result: TaskResult,
    error: BaseException,
    *,
    started_at: datetime,
    ended_at: datetime,
) -> Outcome:
    """Return the outcome of an attempt that raised."""
    failure = Failure.of(error)
    result.errors.append(
        TaskError(exception_class_path=failure.exception_path, traceback=failure.traceback)
    )
    _settle(result, TaskResultStatus.FAILED, ended_at)
    return Outcome(claimed, started_at, ended_at, result, error=error, failure=failure)


def _running(claimed: ClaimedExecution, started_at: datetime) -> TaskResult:
    return running_result(
        claimed.job,
        described_task(claimed.job),
        worker_id=claimed.process_id,
        started_at=started_at,
    )


def _recall(db: QueueDatabase, claimed: ClaimedExecution, result: TaskResult) -> None:
    """Tell the task of its earlier attempts, or not, when the database just does not answer."""
    try:
        earlier = attempts_of(db, claimed.job_id, before=claimed.attempt)
    except (DatabaseError, InterfaceError):
        return
    result.errors[:0] = errors_of(earlier)
    result.worker_ids[:0] = [str(attempt.worker_id) for attempt in earlier]
    if earlier:
        object.__setattr__(result, "started_at", earlier[0].started_at)


def _call(result: TaskResult) -> Any:
    task = result.task
    context: list[Any] = [TaskContext(task_result=result)] if task.takes_context else []
    for name, kind in (("args", list), ("kwargs", dict)):
        stored = getattr(result, name)
        if not isinstance(stored, kind):
            raise InvalidArguments(
                f"{name}: expected a stored JSON {kind.__name__}, got {stored!r}"
            )
    value = task.call(*context, *result.args, **result.kwargs)
    try:
        return normalize_json(value, "return value")
    except NotSerializable as error:
        raise InvalidReturnValue(str(error)) from error


def _settle(result: TaskResult, status: TaskResultStatus, finished_at: datetime) -> None:
    object.__setattr__(result, "status", status)
    object.__setattr__(result, "finished_at", finished_at)


def _storable(text: str, length: int) -> str:
    # PostgreSQL stores no NUL, and no driver encodes a lone surrogate.
    clean = text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()
    return clean if len(clean) <= length else f"{clean[: length // 2]}\n…\n{clean[-length // 2 :]}"
