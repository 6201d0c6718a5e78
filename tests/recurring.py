"""Short ways to make and look at recurring tasks."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from dj_queue.models import Job, RecurringRun, RecurringTask
from dj_queue.operations.fire import Round, fire_due
from dj_queue.routers import QueueDatabase
from tests.jobs import NOW

AHEAD = timedelta(seconds=5)


def put(db: QueueDatabase, key: str = "sweep", **columns: Any) -> RecurringTask:
    """Store a recurring task of this backend, every minute, due for the first time at NOW."""
    defaults = {
        "backend": db.backend,
        "task_path": "tests.shop.tasks.add",
        "schedule": "* * * * *",
        "timezone": "UTC",
        "misfire": "latest",
        "args": [1, 2],
        "kwargs": {},
        "queue_name": "default",
        "priority": 0,
        "is_static": False,
        "next_run_at": NOW,
    }
    [row] = db.objects(RecurringTask).bulk_create([RecurringTask(key=key, **defaults | columns)])
    return row


def fire(db: QueueDatabase, now: datetime, limit: int = 100, **more: Any) -> Round:
    """Look for due tasks once."""
    return fire_due(db, now=now, limit=limit, horizon=AHEAD, **more)


def tasks(db: QueueDatabase) -> dict[str, RecurringTask]:
    """Give the recurring tasks of the backend by key."""
    return {row.key: row for row in db.objects(RecurringTask).filter(backend=db.backend)}


def runs(db: QueueDatabase) -> list[datetime]:
    """Give the instants that fired, in order; each has a job of its own, and no other job is."""
    found = db.objects(RecurringRun).order_by("run_at").values_list("run_at", "job_id")
    jobs = [job_id for _, job_id in found]
    assert sorted(jobs) == list(db.objects(Job).order_by("id").values_list("id", flat=True))
    return [run_at for run_at, _ in found]


def minutes(*numbers: int) -> list[datetime]:
    """Give instants so many minutes after NOW."""
    return [NOW + timedelta(minutes=number) for number in numbers]


def changing(settings: Any, backend: str) -> Callable[..., None]:
    """Give a function that changes OPTIONS of a backend."""

    def change(**options: Any) -> None:
        own = settings.TASKS[backend]
        changed = {**own, "OPTIONS": {**own["OPTIONS"], **options}}
        settings.TASKS = {**settings.TASKS, backend: changed}

    return change
