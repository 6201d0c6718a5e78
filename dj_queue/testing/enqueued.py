"""What was enqueued: as the queue database has it, and as the code under test did it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import Q

from dj_queue.compat import Task, TaskResult, task_enqueued
from dj_queue.models import STATES, FailedExecution, FinishedExecution, Job
from dj_queue.models.fields import normalize_json
from dj_queue.results import load_result
from dj_queue.routers import QueueDatabase, queue_database

STATE_BY_NAME = {
    state._meta.get_field("job").related_query_name(): state.state
    for state in STATES
    if state not in (FailedExecution, FinishedExecution)
}
LISTED = 50
ARGUMENTS_LENGTH = 200


def assert_enqueued(
    task: Task,
    *,
    backend: str | None = None,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    queue_name: str | None = None,
    count: int | None = None,
) -> list[TaskResult]:
    """Raise AssertionError unless `count` jobs of the task are unfinished, one or more if None.

    Asks the queue database of `backend`, the task's own if None. Arguments and queue are compared
    where they are given. Returns the jobs' results, in the order they were enqueued.
    """
    db = queue_database(backend or task.backend)
    wanted: dict[str, Any] = {"task_path": task.module_path}
    if args is not None:
        wanted["args"] = normalize_json(list(args), "args")
    if kwargs is not None:
        wanted["kwargs"] = normalize_json(dict(kwargs), "kwargs")
    if queue_name is not None:
        wanted["queue_name"] = queue_name
    jobs = _unfinished(db)
    found = [job for job in jobs if _is(job, {"backend": db.backend, **wanted})]
    if not found if count is None else len(found) != count:
        raise AssertionError(_complaint(db, wanted, count, found, jobs))
    results = [load_result(db, job.id) for job in found]
    return [result for result in results if result is not None]


@contextmanager
def capture_enqueues() -> Iterator[list[TaskResult]]:
    """Give a list that gets the result of each task enqueued inside the block.

    By any thread, on any backend and database, in the order they were enqueued. Nestable: an inner
    block's are in the outer one's list as well.
    """
    captured: list[TaskResult] = []

    def note(*, task_result: TaskResult, **_: Any) -> None:
        captured.append(task_result)

    task_enqueued.connect(note, weak=False)
    try:
        yield captured
    finally:
        task_enqueued.disconnect(note)


def _unfinished(db: QueueDatabase) -> list[Job]:
    """Read the unfinished jobs of all backends on the database, in one statement."""
    any_state = reduce(or_, (Q(**{f"{name}__isnull": False}) for name in STATE_BY_NAME))
    return list(db.objects(Job).filter(any_state).select_related(*STATE_BY_NAME).order_by("id"))


def _is(job: Job, wanted: Mapping[str, Any]) -> bool:
    return all(getattr(job, column) == value for column, value in wanted.items())


def _complaint(
    db: QueueDatabase,
    wanted: Mapping[str, Any],
    count: int | None,
    found: Sequence[Job],
    jobs: Sequence[Job],
) -> str:
    how_many = "at least 1" if count is None else str(count)
    which = ", ".join(f"{name}={value!r}" for name, value in wanted.items())
    lines = [
        f"expected {how_many} unfinished on backend {db.backend!r} of {which}, got {len(found)}; "
        f"unfinished on database {db.alias!r}: {len(jobs)}"
    ]
    lines += [_line(job) for job in jobs[:LISTED]]
    if len(jobs) > LISTED:
        lines.append(f"  and {len(jobs) - LISTED} more")
    return "\n".join(lines)


def _line(job: Job) -> str:
    state = next(state for name, state in STATE_BY_NAME.items() if hasattr(job, name))
    text = f"args={job.args!r}, kwargs={job.kwargs!r}"
    if len(text) > ARGUMENTS_LENGTH:
        text = f"{text[:ARGUMENTS_LENGTH]}…"
    where = f"backend={job.backend!r}, queue_name={job.queue_name!r}"
    return f"  {state} {job.task_path}: {where}, {text}"
