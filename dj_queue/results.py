"""Job rows as the Tasks framework sees them: Task and TaskResult, with times as in the project."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from asgiref.sync import iscoroutinefunction

from dj_queue.compat import Task, TaskError, TaskResult, TaskResultStatus
from dj_queue.engines import naming_tables
from dj_queue.exceptions import InvalidTaskPath, JobDiscarded
from dj_queue.models import (
    Attempt,
    ClaimedExecution,
    FailedExecution,
    FinishedExecution,
    Job,
)
from dj_queue.routers import Database, QueueDatabase
from dj_queue.task_paths import task_at
from dj_queue.timezone import for_project

STATE_NAMES = ("claimedexecution", "finishedexecution", "failedexecution")


def stored_task(job: Job) -> Task:
    """Return the Task a job names, with what the job was enqueued with.

    That is priority, queue, backend, run_after and, of a QueueTask, max_attempts. Raises
    InvalidTaskPath when the path does not import or names no Task; nothing is called.
    """
    task = task_at(job.task_path)
    values = {each.name: getattr(task, each.name) for each in fields(task)}
    return _as_stored(type(task), values, job)


def is_coroutine(job: Job) -> bool:
    """Tell whether the job's task is a coroutine function; false when its path is no good."""
    try:
        return iscoroutinefunction(task_at(job.task_path).func)
    except InvalidTaskPath:
        return False


def is_loaded(job: Job) -> bool:
    """Tell whether the module of the job's task need not be imported any more."""
    return job.task_path.rpartition(".")[0] in sys.modules


def described_task(job: Job, *, may_import: bool = True) -> Task:
    """Return the job's Task; where its path is no good any more, one with the same path.

    Such a stand-in raises InvalidTaskPath when it is called: a result can still be read. Also
    given for a module that is not loaded, where it must not be imported.
    """
    try:
        if not may_import and not is_loaded(job):
            raise InvalidTaskPath(f"expected {job.task_path!r} to be loaded, got nothing")
        return stored_task(job)
    except InvalidTaskPath as error:
        func = _stand_in(job.task_path, error)
        return _as_stored(Task, {"func": func, "takes_context": False}, job)


def enqueued_result(job: Job, task: Task) -> TaskResult:
    """Return the result of a job that has just been enqueued."""
    return _result(job, task, TaskResultStatus.READY)


def discarded_result(job: Job, task: Task) -> TaskResult:
    """Return the result of a job that was not stored: failed, with JobDiscarded as its error."""
    what = f"expected a free slot of concurrency key {job.concurrency_key!r}, got none"
    path = f"{JobDiscarded.__module__}.{JobDiscarded.__qualname__}"
    error = TaskError(exception_class_path=path, traceback=f"{path}: {what}: not enqueued")
    return _result(job, task, TaskResultStatus.FAILED, errors=[error], finished_at=job.enqueued_at)


def running_result(job: Job, task: Task, *, worker_id: UUID, started_at: datetime) -> TaskResult:
    """Return the result of a job whose first attempt begins now."""
    return _result(
        job,
        task,
        TaskResultStatus.RUNNING,
        started_at=started_at,
        last_attempted_at=started_at,
        worker_ids=[str(worker_id)],
    )


def load_result(db: QueueDatabase, job_id: UUID) -> TaskResult | None:
    """Read the result of a job of this backend, in two statements; None when there is none."""
    jobs = db.objects(Job).filter(id=job_id, backend=db.backend)
    with naming_tables(db):
        job = jobs.select_related(*STATE_NAMES).first()
    if job is None:
        return None
    state = next((getattr(job, name) for name in STATE_NAMES if hasattr(job, name)), None)
    return _stored_result(job, state, attempts_of(db, job_id))


def attempts_of(db: Database, job_id: UUID, *, before: int = 32767) -> list[Attempt]:
    """Read a job's failed attempts with numbers below `before`, in order."""
    attempts = db.objects(Attempt).filter(job_id=job_id, number__lt=before)
    return list(attempts.order_by("number"))


def errors_of(attempts: Sequence[Attempt]) -> list[TaskError]:
    """Return failed attempts as the Tasks framework sees them."""
    return [
        TaskError(exception_class_path=attempt.exception_path, traceback=attempt.traceback)
        for attempt in attempts
    ]


def _stored_result(job: Job, state: Any, attempts: Sequence[Attempt]) -> TaskResult:
    if isinstance(state, ClaimedExecution):
        # The attempt may have failed between the two statements.
        attempts = [each for each in attempts if each.number < state.attempt]
    workers = [str(attempt.worker_id) for attempt in attempts]
    started = [attempt.started_at for attempt in attempts]
    status, finished_at, value = TaskResultStatus.READY, None, None
    match state:
        case ClaimedExecution():
            status = TaskResultStatus.RUNNING
            workers.append(str(state.process_id))
            started.append(state.claimed_at)
        case FinishedExecution():
            status, finished_at = TaskResultStatus.SUCCESSFUL, state.finished_at
            value = state.return_value
            workers.append(str(state.worker_id))
            started.append(state.started_at)
        case FailedExecution():
            status, finished_at = TaskResultStatus.FAILED, state.failed_at
    result = _result(
        job,
        described_task(job),
        status,
        started_at=started[0] if started else None,
        last_attempted_at=started[-1] if started else None,
        finished_at=finished_at,
        errors=errors_of(attempts),
        worker_ids=workers,
    )
    object.__setattr__(result, "_return_value", value)
    return result


def _result(  # noqa: PLR0913 - as many as a TaskResult has
    job: Job,
    task: Task,
    status: TaskResultStatus,
    *,
    started_at: datetime | None = None,
    last_attempted_at: datetime | None = None,
    finished_at: datetime | None = None,
    errors: Sequence[TaskError] = (),
    worker_ids: Sequence[str] = (),
) -> TaskResult:
    return TaskResult(
        task=task,
        id=str(job.id),
        status=status,
        enqueued_at=for_project(job.enqueued_at),
        started_at=for_project(started_at),
        finished_at=for_project(finished_at),
        last_attempted_at=for_project(last_attempted_at),
        args=job.args,  # type: ignore[arg-type]
        kwargs=job.kwargs,  # type: ignore[arg-type]
        backend=job.backend,
        errors=list(errors),
        worker_ids=list(worker_ids),
    )


def _as_stored(kind: type[Task], values: dict[str, Any], job: Job) -> Task:
    # Not task.using() or the constructor: they validate, and a job in store outlives a change of
    # QUEUES. Whether it may be enqueued was asked when it was.
    task = object.__new__(kind)
    own = {name: getattr(job, name) for name in ("priority", "queue_name", "backend")}
    own["run_after"] = for_project(job.run_after)
    if "max_attempts" in values:
        own["max_attempts"] = job.max_attempts
    for name, value in (values | own).items():
        object.__setattr__(task, name, value)
    return task


def _stand_in(path: str, problem: InvalidTaskPath) -> Any:
    def missing(*args: Any, **kwargs: Any) -> None:
        raise problem

    missing.__module__, _, missing.__qualname__ = path.rpartition(".")
    missing.__name__ = missing.__qualname__
    return missing
