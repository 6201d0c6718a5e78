"""Receivers: the project's code that is called when something has become of a job."""

from __future__ import annotations

import threading
from contextvars import copy_context
from typing import Any

from django.dispatch import Signal

from dj_queue.compat import (
    TaskResult,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from dj_queue.operations.forked import ForkedProcessesEndHere
from dj_queue.routers import QueueDatabase
from dj_queue.signals import attempt_failed

NAMES = {
    task_enqueued: "task_enqueued",
    task_started: "task_started",
    task_finished: "task_finished",
    attempt_failed: "attempt_failed",
}

_under_way: dict[int, str] = {}
"""The signals whose receivers run now, by thread."""


def tell(signal: Signal, db: QueueDatabase, result: TaskResult, **more: Any) -> bool:
    """Send a signal of a job, in a context of its own; tell whether all receivers returned.

    What they raise is logged by Django. Raises nothing but what no receiver should raise:
    SystemExit and its like.
    """
    return copy_context().run(tell_here, signal, sender_of(db), result, **more)


def sender_of(db: QueueDatabase) -> type:
    """Return the class that sends a backend's signals.

    Ask in the thread's own context: each context in which a backend is asked for makes another.
    """
    return type(task_backends[db.backend])


def tell_here(signal: Signal, sender: type, result: TaskResult, **more: Any) -> bool:
    """As `tell`, in the caller's context: what receivers set is for what comes next."""
    thread = threading.get_ident()
    _under_way[thread] = NAMES[signal]
    try:
        with ForkedProcessesEndHere():
            answers = signal.send_robust(sender=sender, task_result=result, **more)
    finally:
        del _under_way[thread]
    return not any(isinstance(answer, Exception) for _, answer in answers)


def signal_under_way(thread: threading.Thread) -> str | None:
    """Return the name of the signal whose receivers run in this thread now, if they do."""
    return _under_way.get(thread.ident or 0)
