"""Enqueue: new jobs, ready or scheduled."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dj_queue.engines import engine_for, naming_tables
from dj_queue.models import Job
from dj_queue.routers import QueueDatabase


def enqueue(db: QueueDatabase, jobs: Sequence[Job], *, now: datetime) -> None:
    """Store new jobs of this backend: all or none, in a constant number of statements.

    A job is scheduled when its `run_after` lies after `now`, else ready. Joins the queue
    database's open transaction, otherwise commits at once. Raises NotMigrated.
    """
    if not jobs:
        return
    scheduled = [job for job in jobs if job.run_after is not None and job.run_after > now]
    later = {job.id for job in scheduled}
    with naming_tables(db):
        engine_for(db).store(db, [job for job in jobs if job.id not in later], scheduled)
