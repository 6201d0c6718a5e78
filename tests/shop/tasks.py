"""Tasks of the shop: what the suite enqueues."""

import time
from datetime import datetime
from threading import Event, current_thread
from typing import Any

from dj_queue.compat import TaskContext
from dj_queue.tasks import task


@task
def add(a: int, b: int) -> int:
    """Return a sum."""
    return a + b


@task
def echo(*args: Any, **kwargs: Any) -> Any:
    """Return the arguments."""
    return [list(args), kwargs]


@task
def fail(message: str) -> None:
    """Raise."""
    raise ValueError(message)


@task
def leave() -> None:
    """Raise what is no Exception."""
    raise SystemExit(3)


@task
def return_moment() -> datetime:
    """Return what is not JSON."""
    return datetime(2026, 1, 1)


@task(takes_context=True)
def tell(context: TaskContext) -> list[Any]:
    """Return what the context knows."""
    return [context.task_result.id, context.attempt, context.task_result.backend]


@task
async def add_later(a: int, b: int) -> int:
    """Return a sum, as a coroutine."""
    return a + b


@task(backend="bulk", queue_name="nightly", priority=5)
def sweep() -> None:
    """Do nothing, on the other queue database."""


def not_a_task() -> None:
    """Stand where a forged path points; must never be called."""
    raise AssertionError("a plain function was called")


GATE = Event()
"""Opened by a test that runs workers in its own process."""


ARRIVED = Event()
"""Set by a task that waits at the gate: a claimed job may not have started yet."""


@task
def wait_at_gate() -> str:
    """Return when the gate opens, but not later than in a minute."""
    ARRIVED.set()
    return "passed" if GATE.wait(60) else "the gate stayed shut"


@task
def sleep(seconds: float) -> float:
    """Take a while."""
    time.sleep(seconds)
    return seconds


@task
def who() -> str:
    """Return the backend whose worker thread runs this."""
    return current_thread().name
