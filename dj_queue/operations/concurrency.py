"""Concurrency keys: a job with a key is blocked until it is its turn to hold one of the slots.

A slot is held by a job that is ready or claimed; operations.slots hands them on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import Any
from uuid import UUID

from django.db import DatabaseError, InterfaceError

from dj_queue.compat import Task
from dj_queue.events import log
from dj_queue.keys import Concurrency, key_of
from dj_queue.models import (
    BlockedExecution,
    Execution,
    Job,
    ReadyExecution,
    Semaphore,
    state_of,
)
from dj_queue.operations.slots import settle
from dj_queue.operations.transitions import delete_jobs, in_transaction, move
from dj_queue.routers import Database, QueueDatabase


def assign_key(task: Task, job: Job, default_seconds: float, path: str = "") -> None:
    """Give a new job the key and limit of its task, if that has any.

    Raises InvalidTask, which begins with `path`, where its arguments make no key.
    """
    rule: Concurrency | None = getattr(task, "concurrency", None)
    if rule is None:
        return
    args: Any = job.args
    kwargs: Any = job.kwargs
    job.concurrency_key = key_of(task, rule, args, kwargs, path)
    job.concurrency_limit = rule.limit
    job.concurrency_seconds = ceil(rule.duration or default_seconds)
    job.discards_on_conflict = rule.on_conflict == "discard"


def waiting_state(row: Job | Execution, job: Job, *, now: datetime, **columns: Any) -> Execution:
    """Build the state of a job that may run and holds no slot: ready, or with a key blocked.

    The keys of blocked jobs are to be settled in the same transaction, or soon after it.
    """
    if job.concurrency_key is None:
        return state_of(ReadyExecution, row, **columns)
    seconds = job.concurrency_seconds or 0
    return state_of(
        BlockedExecution,
        row,
        concurrency_key=job.concurrency_key,
        concurrency_limit=job.concurrency_limit,
        concurrency_seconds=seconds,
        expires_at=now + timedelta(seconds=seconds),
        **columns,
    )


def let_wait(
    db: QueueDatabase,
    source: type[Execution],
    ids: Sequence[UUID],
    *,
    now: datetime,
    attempt_step: int = 0,
    skip_locked: bool = False,
) -> int:
    """Make jobs ready that are in a state without slots; return how many were.

    Those with a key are blocked until a slot is theirs, or discarded if they ask for that and were
    never attempted. The attempt they wait for is `attempt_step` further. Opens a transaction.
    """
    jobs = db.objects(Job).filter(pk__in=ids, concurrency_key__isnull=False)
    keyed = {job.id: job for job in jobs.defer("args", "kwargs")}
    plain = Job()
    is_joined = db.in_transaction

    def become(row: Execution) -> list[Execution]:
        attempt = row.attempt + attempt_step
        return [waiting_state(row, keyed.get(row.job_id, plain), now=now, attempt=attempt)]

    def transaction() -> tuple[int, list[Job]]:
        taken = move(db, source, ids, become, skip_locked=skip_locked)
        arrived = [keyed[row.job_id] for row in taken if row.job_id in keyed]
        first = {row.job_id for row in taken if row.attempt + attempt_step == 1}
        discarding = [job.id for job in arrived if job.discards_on_conflict and job.id in first]
        if is_joined:
            settle_soon(db, arrived, discarding=discarding, now=now)
        elif arrived:
            dropped = settle_arrived(db, arrived, discarding=discarding, now=now)
            return len(taken), [job for job in arrived if job.id in dropped]
        return len(taken), []

    count, dropped = in_transaction(db, transaction)
    log_discarded(db, dropped)
    return count


def settle_arrived(
    db: QueueDatabase, jobs: Collection[Job], *, discarding: Sequence[UUID], now: datetime
) -> set[UUID]:
    """Settle the keys of jobs that have just been blocked; return the ids of those discarded.

    Of the ids in `discarding` those that have to wait are deleted. Needs an open transaction of our
    own.
    """
    settle(db, [str(job.concurrency_key) for job in jobs], now=now)
    dropped = move(db, BlockedExecution, discarding, lambda row: []) if discarding else []
    ids = [row.job_id for row in dropped]
    if ids:
        delete_jobs(db, ids)
        # One with a lower limit may have held up those behind it.
        settle(db, {row.concurrency_key for row in dropped}, now=now)
    return set(ids)


def settle_soon(
    db: QueueDatabase, jobs: Collection[Job], *, discarding: Sequence[UUID], now: datetime
) -> None:
    """Settle the keys of blocked jobs as soon as somebody else's open transaction has committed.

    Should that fail, a dispatcher does it.
    """

    def settle_now() -> None:
        try:
            dropped = in_transaction(
                db, lambda: settle_arrived(db, jobs, discarding=discarding, now=now)
            )
        except (DatabaseError, InterfaceError) as error:
            log("slots_left", backend=db.backend, database=db.alias, error=repr(error))
        else:
            log_discarded(db, [job for job in jobs if job.id in dropped])

    if jobs:
        db.on_commit(settle_now)


def full_keys(db: Database, jobs: Collection[Job]) -> set[str]:
    """Return the keys of these jobs of which all slots are held, without waiting for anybody."""
    limits = {job.concurrency_key: job.concurrency_limit or 0 for job in jobs}
    held = db.objects(Semaphore).filter(pk__in=list(limits)).values_list("key", "held")
    return {key for key, count in held if count >= limits[key]}


def log_discarded(db: QueueDatabase, jobs: Iterable[Job]) -> None:
    """Say of jobs that were stored, or due, that they found no slot and are deleted."""
    for job in jobs:
        where = {"backend": db.backend, "database": db.alias}
        log("job_discarded", **where, job=job.id, path=job.task_path, key=job.concurrency_key)
