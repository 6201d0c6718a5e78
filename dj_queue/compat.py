"""Django's Tasks, wherever they live: `django.tasks` (6.0+) or the `django_tasks` backport (5.2).

The only module that knows there are two.
"""

from __future__ import annotations

import django
from django.core.exceptions import ImproperlyConfigured

if django.VERSION >= (6, 0):
    from django.tasks import task_backends
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.backends.dummy import DummyBackend
    from django.tasks.backends.immediate import ImmediateBackend
    from django.tasks.base import Task, TaskContext, TaskError, TaskResult, TaskResultStatus, task
    from django.tasks.exceptions import InvalidTask, InvalidTaskBackend, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
else:
    try:
        import django_tasks  # noqa: F401
    except ModuleNotFoundError as error:
        # Another module may be the one that is missing: that error says all there is to say.
        if error.name != "django_tasks":
            raise
        raise ImproperlyConfigured(
            f"expected the django-tasks package, because Django {django.get_version()} has no "
            "Tasks framework of its own, got none: pip install django-tasks"
        ) from error

    from django_tasks import task_backends
    from django_tasks.backends.base import BaseTaskBackend
    from django_tasks.backends.dummy import DummyBackend
    from django_tasks.backends.immediate import ImmediateBackend
    from django_tasks.base import (
        Task,
        TaskContext,
        TaskError,
        TaskResult,
        TaskResultStatus,
        task,
    )
    from django_tasks.exceptions import TaskResultDoesNotExist
    from django_tasks.signals import task_enqueued, task_finished, task_started

    # After 0.12 the backport calls its exceptions as Django does.
    try:
        from django_tasks.exceptions import InvalidTask
    except ImportError:
        from django_tasks.exceptions import InvalidTaskError as InvalidTask
    try:
        from django_tasks.exceptions import InvalidTaskBackend
    except ImportError:
        from django_tasks.exceptions import InvalidTaskBackendError as InvalidTaskBackend

__all__ = [
    "BaseTaskBackend",
    "DummyBackend",
    "ImmediateBackend",
    "InvalidTask",
    "InvalidTaskBackend",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultStatus",
    "task",
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
]
