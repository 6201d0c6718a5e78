"""What a task path names: a Task, or the error that says why not."""

from __future__ import annotations

from typing import Any

from django.utils.module_loading import import_string

from dj_queue.compat import InvalidTask, Task
from dj_queue.conf import RecurringOptions
from dj_queue.exceptions import InvalidTaskPath
from dj_queue.keys import key_of
from dj_queue.quoting import quoted, quoted_error
from dj_queue.signatures import require_arguments

NOT_KEPT = ("max_attempts", "concurrency", "run_after")


def task_at(path: str) -> Task:
    """Import the Task a path names.

    Raises InvalidTaskPath when the path does not import or names no Task; nothing is called.
    """
    try:
        task = import_string(path)
    except BaseException as error:  # A module may even call sys.exit() when imported.
        raise InvalidTaskPath(f"expected {path!r} to import, got {quoted_error(error)}") from error
    if not isinstance(task, Task):
        raise InvalidTaskPath(
            f"expected {path!r} to be a Task, got {type(task).__name__}: nothing was called"
        )
    return task


def recurring_task(backend: str, options: RecurringOptions) -> Task:
    """Return the Task of a recurring one, with the backend, queue and priority its jobs will have.

    Raises InvalidTaskPath, or InvalidTask where the backend does not take such jobs, the function
    does not take the arguments, they make no concurrency key, or the path's task is changed by
    `using()` in what no row keeps.
    """
    own = {"queue_name": options.queue_name, "priority": options.priority}
    given: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
    declared = task_at(options.task_path)
    require_declared(declared)
    task = declared.using(backend=backend, **given)
    rule = getattr(task, "concurrency", None)
    if rule is not None:
        key_of(task, rule, options.args, options.kwargs)
    require_arguments(task, options.args, options.kwargs)
    return task


def require_declared(task: Task) -> None:
    """Raise InvalidTask where a task differs from the declared one in what no recurring row keeps.

    Its path leads to the function's own task, whatever `using()` has changed.
    """
    declared = task_at(task.module_path)
    for name in NOT_KEPT:
        expected, got = getattr(declared, name, None), getattr(task, name, None)
        if got != expected:
            raise InvalidTask(
                f"task.{name}: expected {quoted(expected)}, as {task.module_path} is declared, "
                f"got {quoted(got)} from using(): a recurring task keeps its backend, queue and "
                "priority only"
            )
