"""Recover: what dead processes had claimed goes back, or fails. Safe to run twice, or at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet

from dj_queue.engines import engine_for
from dj_queue.engines.claims import attach, claim_of
from dj_queue.exceptions import DjQueueError
from dj_queue.models import ClaimedExecution, Job
from dj_queue.operations.claim import give_back
from dj_queue.operations.execute import Outcome, abandoned
from dj_queue.operations.finish import announce, finish
from dj_queue.operations.processes import forget
from dj_queue.operations.remains import UNKNOWN, Remains, noted_outcome
from dj_queue.operations.transitions import in_transaction
from dj_queue.routers import Database, QueueDatabase
from dj_queue.routers.registry import routes

BATCH_SIZE = 500


@dataclass
class Recovery:
    """How many claims went where; `left_count` is of those that another transaction held."""

    ready_count: int = 0
    ended: list[Outcome] = field(default_factory=list)
    left_count: int = 0


def recover(
    db: QueueDatabase,
    process_ids: Sequence[UUID],
    error: DjQueueError,
    *,
    now: datetime,
    remains: Remains = UNKNOWN,
    may_import: bool = True,
) -> Recovery:
    """Forget dead processes and take their claims, of every backend on the database.

    In this order: one that was only stopped, and continues in between, then learns with its next
    heartbeat that it was given up, and starts nothing that is given away here. Jobs that certainly
    had not started are ready again, as the same attempt; attempts that certainly had ended are
    recorded as they ended. Of the others the attempt ended with `error`: with attempts left they
    run again, otherwise they fail; those too whose task would have to be imported to say so, and
    not `may_import`. In doubt a job counts as started. Opens transactions, of up to BATCH_SIZE jobs
    each; what a crash leaves undone, or another transaction holds, is left to the next call.
    """
    recovery = Recovery()
    forget(db, process_ids)
    while batch := in_transaction(
        db, lambda: _recover_batch(db, process_ids, error, now, remains, may_import)
    ):
        recovery.ready_count += batch.ready_count
        recovery.ended += batch.ended
        _announce(db, batch)
    recovery.left_count = claims_of(db, process_ids).count()
    return recovery


def claims_of(db: Database, process_ids: Sequence[UUID]) -> QuerySet[ClaimedExecution]:
    """Return the claims of processes, of every backend on the database."""
    return db.objects(ClaimedExecution).filter(process_id__in=process_ids)


def recover_some(
    db: QueueDatabase,
    process_ids: Sequence[UUID],
    error: DjQueueError,
    *,
    now: datetime,
    remains: Remains = UNKNOWN,
) -> Recovery:
    """As `recover`, but up to BATCH_SIZE jobs only: as many where there may be more."""
    forget(db, process_ids)
    batch = in_transaction(
        db, lambda: _recover_batch(db, process_ids, error, now, remains, may_import=True)
    )
    if batch is None:
        return Recovery()
    _announce(db, batch)
    return batch


def _announce(db: Database, batch: Recovery) -> None:
    for outcome in batch.ended:
        # A backend that is in no TASKS of ours has nobody here who could be told.
        if outcome.claimed.backend in routes():
            announce(QueueDatabase(alias=db.alias, backend=outcome.claimed.backend), outcome)


def _recover_batch(
    db: QueueDatabase,
    process_ids: Sequence[UUID],
    error: DjQueueError,
    now: datetime,
    remains: Remains,
    may_import: bool,
) -> Recovery | None:
    """Recover the next claims that nobody else holds; None when there is none."""
    claims = engine_for(db).held_by(db, process_ids, BATCH_SIZE)
    if not claims:
        return None
    jobs = db.objects(Job).in_bulk([row.job_id for row in claims])
    batch = Recovery()
    for backend in sorted({row.backend for row in claims}):
        handle = QueueDatabase(alias=db.alias, backend=backend)
        own = [row for row in claims if row.backend == backend]
        for row in own:
            attach(row, jobs[row.job_id])
        unstarted = [row for row in own if row in remains.unstarted]
        batch.ready_count += give_back(handle, unstarted)
        ended = []
        for row in own:
            if claim_of(row) in remains.ended:
                ended.append(noted_outcome(row, remains.ended[claim_of(row)], error))
            elif row not in remains.unstarted:
                ended.append(abandoned(row, error, now=now, may_import=may_import))
        batch.ended += finish(handle, ended)
    return batch
