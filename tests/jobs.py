"""Short ways to make and look at jobs."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from dj_queue.models import STATES, Execution, Job, state_of
from dj_queue.models.ids import new_id
from dj_queue.operations.enqueue import enqueue
from dj_queue.routers import QueueDatabase, queue_database

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ME = new_id()
EVERY = {"databases": "__all__"}


def build(db: QueueDatabase, **columns: Any) -> Job:
    """Build a job of this backend, not stored yet."""
    defaults = {
        "backend": db.backend,
        "queue_name": "default",
        "task_path": "tests.shop.tasks.add",
        "args": [1, 2],
        "kwargs": {},
        "priority": 0,
        "enqueued_at": NOW,
    }
    return Job(**defaults | columns)


def store(db: QueueDatabase, count: int = 1, **columns: Any) -> list[Job]:
    """Enqueue jobs alike."""
    jobs = [build(db, **columns) for _ in range(count)]
    enqueue(db, jobs, now=NOW)
    return jobs


def states(db: QueueDatabase) -> dict[UUID, list[str]]:
    """Give the states of each job, by id: the audit. Rows without a job show up as well."""
    found: dict[UUID, list[str]] = {job_id: [] for job_id in ids(db)}
    for state in STATES:
        for job_id in db.objects(state).values_list("job_id", flat=True):
            found.setdefault(job_id, ["no job"]).append(state.state)
    return found


def counts(db: QueueDatabase) -> dict[str, int]:
    """Count the rows of each state that has any."""
    totals = {state.state: db.objects(state).count() for state in STATES}
    return {name: count for name, count in totals.items() if count}


def totals() -> dict[str, dict[str, int]]:
    """Count the rows of each state on both queue databases."""
    return {db.alias: counts(db) for db in map(queue_database, ("default", "bulk"))}


def ids(db: QueueDatabase) -> Sequence[UUID]:
    """Give the ids of all jobs, in order."""
    return list(db.objects(Job).order_by("id").values_list("id", flat=True))


def sibling_of(db: QueueDatabase) -> QueueDatabase:
    """Give a handle of another backend on the same database; on `bulk` one that TASKS has not."""
    return QueueDatabase(alias=db.alias, backend="alerts" if db.backend == "default" else "sibling")


def in_state(
    db: QueueDatabase, state: type[Execution], count: int = 1, **columns: Any
) -> list[Job]:
    """Store jobs in any state, as if they had come there."""
    jobs = [build(db, **columns) for _ in range(count)]
    own = {
        "scheduled": {"run_after": LATER},
        "blocked": {
            "concurrency_key": "key",
            "concurrency_limit": 1,
            "concurrency_seconds": 60,
            "expires_at": LATER,
        },
        "claimed": {"process_id": ME, "claim_token": new_id(), "claimed_at": NOW},
        "failed": {"failed_at": NOW, "exception_path": "builtins.KeyError", "message": "'total'"},
        "finished": {
            "worker_id": ME,
            "started_at": NOW,
            "finished_at": LATER,
            "return_value": None,
        },
    }
    with db.atomic():
        db.objects(Job).bulk_create(jobs)
        rows = [state_of(state, job, **own.get(state.state, {})) for job in jobs]
        db.objects(state).bulk_create(rows)
    return jobs
