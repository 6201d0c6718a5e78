"""Enqueue again: a finished job is left as it is, and a new one like it is enqueued."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError

from dj_queue.models import FinishedExecution, Job
from dj_queue.operations.enqueue import enqueue
from dj_queue.routers import QueueDatabase

RANDOM_BITS = 62
UPPER_HALF = 1 << 75
"""The highest bit of an id's counter, which no id that counts from the lower half reaches."""


def enqueue_again(db: QueueDatabase, ids: Sequence[UUID], *, request: UUID, now: datetime) -> int:
    """Enqueue jobs like these finished ones, to run at once; return how many are new.

    Those that find no slot of their concurrency key and are discarded count as well. `request` is
    an id made for this one wish: whoever repeats it, as a double click does, enqueues nothing.
    Opens a transaction.
    """
    try:
        return _enqueue(db, ids, request, now)
    except IntegrityError:
        return _enqueue(db, ids, request, now)  # Repeated at the same moment.


def _enqueue(db: QueueDatabase, ids: Sequence[UUID], request: UUID, now: datetime) -> int:
    with db.atomic():
        rows = db.objects(FinishedExecution).filter(backend=db.backend, pk__in=ids)
        copies = [_copy(row.job, request, now) for row in rows.select_related("job").order_by("pk")]
        known = db.objects(Job).filter(pk__in=[job.id for job in copies])
        present = set(known.values_list("pk", flat=True))
        jobs = [job for job in copies if job.id not in present]
        enqueue(db, jobs, now=now)
    return len(jobs)


def _copy(job: Job, request: UUID, now: datetime) -> Job:
    values = {field.attname: getattr(job, field.attname) for field in Job._meta.concrete_fields}
    changed = {"id": copy_id(job.id, request), "enqueued_at": now, "run_after": None}
    return Job(**values | changed)


def copy_id(job_id: UUID, request: UUID) -> UUID:
    """Return the id of a job's copy, the same for the same wish.

    Its time, and so its place in line, is the wish's, but it is greater than the wish's own id: the
    jobs that a bulk takes are those with smaller ones.
    """
    digest = hashlib.sha256(request.bytes + job_id.bytes).digest()
    low = int.from_bytes(digest) & (1 << RANDOM_BITS) - 1
    return UUID(int=request.int >> 64 << 64 | UPPER_HALF | 0b10 << RANDOM_BITS | low)
