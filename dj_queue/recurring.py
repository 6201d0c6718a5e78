"""Recurring tasks that are made and changed at run time; those of the settings are static."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dj_queue.compat import Task, TaskResult
from dj_queue.conf import RecurringOptions
from dj_queue.engines.clock import present
from dj_queue.models import RecurringTask
from dj_queue.operations import fire, recurring
from dj_queue.routers import queue_database
from dj_queue.task_paths import require_declared, task_at

__all__ = ["disable", "enable", "run_now", "schedule", "unschedule"]


def schedule(  # noqa: PLR0913 - each is a column of its own, and all are given by name
    *,
    key: str,
    task: Task | str,
    schedule: str,
    backend: str | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    queue_name: str | None = None,
    priority: int | None = None,
    timezone: str | None = None,
    misfire: str = "latest",
) -> RecurringTask:
    """Enqueue a task by a schedule from now on; change the one of that key, if there is one.

    `task` is a Task or its path. Backend, queue and priority are the task's own where they are not
    given, the time zone Django's TIME_ZONE. A changed task that was disabled stays so; its runs
    are counted anew from now if schedule or time zone changed. Joins the queue database's open
    transaction, otherwise commits at once.

    Raises InvalidSchedule (key, schedule, time zone, misfire), InvalidTaskPath, Django's
    InvalidTask (queue, priority, or what `using()` changed and no row keeps), NotSerializable
    (arguments), UnknownBackend, NotMigrated, and RecurringRefused for a key of the settings or
    where dynamic tasks are not enabled.
    """
    task = task_at(task) if isinstance(task, str) else task
    require_declared(task)
    db = queue_database(task.backend if backend is None else backend)
    options = RecurringOptions(
        task_path=task.module_path,
        schedule=schedule,
        args=tuple(args),
        kwargs=kwargs or {},
        queue_name=task.queue_name if queue_name is None else queue_name,
        priority=task.priority if priority is None else priority,
        timezone=timezone,
        misfire=misfire,
    )
    row = recurring.row_of(db, key, options, is_static=False, now=present(db))
    return recurring.keep(db, row)


def unschedule(key: str, backend: str = "default") -> bool:
    """Forget a task and the record of its runs; tell whether there was one. Its jobs stay.

    Raises RecurringRefused for a key of the settings, and UnknownBackend.
    """
    return recurring.remove(queue_database(backend), key)


def enable(key: str, backend: str = "default") -> None:
    """Let a disabled task fire again; what it missed meanwhile does not fire.

    Raises UnknownRecurringTask, UnknownBackend, InvalidSchedule where it cannot be read any more,
    and RecurringRefused for a key of the settings or where dynamic tasks are not enabled.
    """
    db = queue_database(backend)
    recurring.enable(db, key, now=present(db))


def disable(key: str, backend: str = "default") -> None:
    """Keep a task, but let it not fire.

    Raises UnknownRecurringTask, UnknownBackend, and RecurringRefused for a key of the settings.
    """
    recurring.disable(queue_database(backend), key)


def run_now(key: str, backend: str = "default") -> TaskResult:
    """Enqueue one job of a task, static or dynamic, enabled or not; its schedule does not change.

    Raises UnknownRecurringTask, UnknownBackend.
    """
    db = queue_database(backend)
    return fire.run_now(db, recurring.found(db, key), now=present(db))
