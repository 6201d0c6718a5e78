"""Enqueue: new jobs, ready or scheduled."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dj_queue.engines import engine_for, naming_tables
from dj_queue.models import Execution, Job, ReadyExecution, ScheduledExecution
from dj_queue.operations.transitions import state_of
from dj_queue.routers import QueueDatabase


def enqueue(db: QueueDatabase, jobs: Sequence[Job], *, now: datetime) -> None:
    """Store new jobs of this backend: all or none, in a constant number of statements.

    A job is scheduled when its `run_after` lies after `now`, else ready. Joins the queue
    database's open transaction, otherwise commits at once. Raises NotMigrated.
    """
    if not jobs:
        return
    with naming_tables(db):
        engine_for(db).store(db, jobs, [_first_state(job, now) for job in jobs])


def _first_state(job: Job, now: datetime) -> Execution:
    if job.run_after is not None and job.run_after > now:
        return state_of(ScheduledExecution, job, run_after=job.run_after)
    return state_of(ReadyExecution, job)
