"""Claim: a worker process takes ready jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from dj_queue.engines import engine_for
from dj_queue.engines.claims import Holder
from dj_queue.models import ClaimedExecution, ReadyExecution, state_of
from dj_queue.models.ids import new_id
from dj_queue.operations.transitions import in_transaction, move, retried
from dj_queue.routers import QueueDatabase


def claim(
    db: QueueDatabase,
    selectors: Sequence[str],
    *,
    limit: int,
    process_id: UUID,
    now: datetime,
    token: UUID | None = None,
) -> list[ClaimedExecution]:
    """Take up to `limit` ready jobs, in claim order, each with its `job` loaded.

    Selectors are `"*"`, exact queue names or `"prefix*"`, served in the order given; paused queues
    are left alone. All under one `token`, a new one if None: who knows it can `release` a claim
    whose answer was lost. Opens a transaction.
    """
    engine, holder = engine_for(db), Holder(process_id, token or new_id(), now)
    return retried(db, lambda: engine.claim(db, selectors, limit=limit, holder=holder))


def give_back(db: QueueDatabase, claimed: Sequence[ClaimedExecution]) -> int:
    """Make claimed jobs ready again that were certainly not started; return how many.

    The same attempt waits again. Claims that were lost meanwhile are left alone. Opens a
    transaction.
    """
    ids = [row.job_id for row in claimed]
    tokens = [row.claim_token for row in claimed]

    def become(row: ClaimedExecution) -> list[ReadyExecution]:
        return [state_of(ReadyExecution, row)]

    taken = in_transaction(db, lambda: move(db, ClaimedExecution, ids, become, tokens=tokens))
    return len(taken)


def release(db: QueueDatabase, token: UUID) -> int:
    """Give back all that is claimed under this token: nobody started it. Return how many."""
    return give_back(db, list(db.objects(ClaimedExecution).filter(claim_token=token)))
