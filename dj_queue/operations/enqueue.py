"""Enqueue: new jobs, ready or scheduled; with a concurrency key blocked, until a slot is theirs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from dj_queue.engines import engine_for, naming_tables
from dj_queue.engines.base import new_rows
from dj_queue.models import Job
from dj_queue.operations.concurrency import full_keys, settle_arrived, settle_soon, waiting_state
from dj_queue.operations.transitions import in_transaction
from dj_queue.routers import QueueDatabase


def enqueue(db: QueueDatabase, jobs: Sequence[Job], *, now: datetime) -> set[UUID]:
    """Store new jobs of this backend: all or none, in a constant number of statements.

    A job is scheduled when its `run_after` lies after `now`, else ready; one with a concurrency key
    is ready when it gets a slot. Returns the ids of those that get none and are discarded then:
    they are not stored. Joins the queue database's open transaction, otherwise commits at once.
    Raises NotMigrated.
    """
    if not jobs:
        return set()
    scheduled = [job for job in jobs if job.run_after is not None and job.run_after > now]
    later = {job.id for job in scheduled}
    due = [job for job in jobs if job.id not in later]
    with naming_tables(db):
        keyed = [job for job in due if job.concurrency_key is not None]
        if keyed:
            plain = [job for job in due if job.concurrency_key is None]
            return _enqueue_keyed(db, plain, keyed, scheduled, now)
        engine_for(db).store(db, due, scheduled)
        return set()


def _enqueue_keyed(
    db: QueueDatabase,
    plain: Sequence[Job],
    keyed: Sequence[Job],
    scheduled: Sequence[Job],
    now: datetime,
) -> set[UUID]:
    engine = engine_for(db)
    may_discard = [job for job in keyed if job.discards_on_conflict]
    full = full_keys(db, may_discard) if may_discard else set()
    refused = {job.id for job in may_discard if job.concurrency_key in full}
    arriving = [job for job in keyed if job.id not in refused]
    if len(refused) == len(keyed) and not plain and not scheduled:
        return refused
    discarding = [job.id for job in arriving if job.discards_on_conflict]
    # A semaphore is not kept locked until somebody else's transaction ends.
    is_joined = db.in_transaction

    def transaction() -> set[UUID]:
        blocked = [waiting_state(job, job, now=now) for job in arriving]
        engine.insert(db, [*new_rows(plain, scheduled), *arriving, *blocked])
        if plain:
            engine.wake(db, {job.queue_name for job in plain})
        if is_joined:
            settle_soon(db, arriving, discarding=discarding, now=now)
            return set()
        return settle_arrived(db, arriving, discarding=discarding, now=now)

    return refused | in_transaction(db, transaction)
