"""Retry: a failed job gets another attempt."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from dj_queue.models import FailedExecution, ReadyExecution, state_of
from dj_queue.operations.transitions import in_transaction, move
from dj_queue.routers import QueueDatabase


def retry(db: QueueDatabase, ids: Sequence[UUID]) -> int:
    """Make failed jobs ready again; return how many were failed. Opens a transaction."""
    moved = in_transaction(
        db,
        lambda: move(
            db,
            FailedExecution,
            ids,
            lambda row: [state_of(ReadyExecution, row, attempt=row.attempt + 1)],
        ),
    )
    return len(moved)
