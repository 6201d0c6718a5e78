"""Checks of the recurring tasks in the settings. They open no connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error

from dj_queue import timezone
from dj_queue.checks.routing import fault, healthy_routes
from dj_queue.compat import InvalidTask
from dj_queue.conf import RecurringOptions
from dj_queue.exceptions import InvalidOption, InvalidSchedule, InvalidTaskPath, NotSerializable
from dj_queue.models.fields import normalize_json
from dj_queue.schedules import validate
from dj_queue.task_paths import recurring_task

Found = Iterator[CheckMessage]


def check_schedules(**_: Any) -> Found:
    """E010: a schedule that croniter refuses or that never comes, or an unknown time zone."""
    for _backend, path, options in _tasks():
        zone = settings.TIME_ZONE if options.timezone is None else options.timezone
        try:
            validate(options.schedule, zone, now=timezone.now())
        except InvalidSchedule as error:
            message = f"{path}: {error}"
            yield fault(Error, "E010", message, "Correct the schedule or the time zone.")


def check_task_paths(**_: Any) -> Found:
    """E011: a path that does not import, or names no task."""
    for backend, path, options in _tasks():
        try:
            recurring_task(backend, options)
        except InvalidTaskPath as error:
            yield fault(Error, "E011", f"{path}['task_path']: {error}", "Correct the path.")
        except InvalidTask:
            continue  # E012's finding.


def check_jobs(**_: Any) -> Found:
    """E012: jobs that the backend would not take: queue, priority or arguments."""
    for backend, path, options in _tasks():
        try:
            normalize_json(list(options.args), "args")
            normalize_json(dict(options.kwargs), "kwargs")
            recurring_task(backend, options)
        except (InvalidTask, NotSerializable) as error:
            yield fault(Error, "E012", f"{path}: {error}", "Correct the entry, or QUEUES.")
        except InvalidTaskPath:
            continue  # E011's finding.


def _tasks() -> Iterator[tuple[str, str, RecurringOptions]]:
    """Yield the backend, the path of the setting and the entry of each static task."""
    for each in healthy_routes():
        try:
            entries = each.options.recurring
        except InvalidOption:
            continue  # E001's finding.
        for key, options in entries:
            yield each.backend, f"TASKS[{each.backend!r}]['OPTIONS']['recurring'][{key!r}]", options
