"""Claim: a worker process takes ready jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from dj_queue.engines import engine_for
from dj_queue.models import ClaimedExecution
from dj_queue.operations.transitions import retried
from dj_queue.routers import QueueDatabase


def claim(
    db: QueueDatabase,
    selectors: Sequence[str],
    *,
    limit: int,
    process_id: UUID,
    now: datetime,
) -> list[ClaimedExecution]:
    """Take up to `limit` ready jobs, in claim order, each with its `job` loaded.

    Selectors are `"*"`, exact queue names or `"prefix*"`, served in the order given; paused queues
    are left alone. Opens a transaction.
    """
    engine = engine_for(db)
    return retried(
        db,
        lambda: engine.claim(db, selectors, limit=limit, process_id=process_id, now=now),
    )
