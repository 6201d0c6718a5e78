"""The one primitive that moves a job between states, and the transaction around it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from django.db import OperationalError

from dj_queue.engines import engine_for
from dj_queue.models import Attempt, Job, ReadyExecution, State
from dj_queue.routers import Database, QueueDatabase

Result = TypeVar("Result")

RETRIES = 8


def move(
    db: QueueDatabase,
    source: type[State],
    ids: Sequence[UUID],
    become: Callable[[State], Iterable[Any]],
    *,
    tokens: Sequence[UUID] | None = None,
    skip_locked: bool = False,
) -> list[State]:
    """Take jobs out of `source`, insert what each became, return the rows really taken.

    Who deletes the row owns the transition: jobs that somebody else moved first are left out.
    `become` gives the rows to insert for one row taken: its new state, and what goes with it. The
    workers of queues that have a new ready job are woken.
    With `tokens`, one per id, a claim is only taken by its holder. With `skip_locked`, jobs that
    another transaction holds at this moment are left out as well, where the vendor can tell; else
    it is waited for. Needs an open transaction.
    """
    engine = engine_for(db)
    taken = engine.take(db, source, ids, tokens, skip_locked)
    rows = [new for row in taken for new in become(row)]
    engine.insert(db, rows)
    ready = {row.queue_name for row in rows if isinstance(row, ReadyExecution)}
    if ready:
        engine.wake(db, ready)
    return taken


def delete_jobs(db: Database, ids: Sequence[UUID]) -> None:
    """Delete jobs and what was recorded of them, all but their state. Needs a transaction."""
    db.objects(Attempt).filter(job_id__in=ids)._raw_delete(db.alias)
    db.objects(Job).filter(pk__in=ids)._raw_delete(db.alias)


def in_transaction(db: Database, work: Callable[[], Result]) -> Result:
    """Run `work` in a transaction, and all of it again when the database says that may help."""

    def transaction() -> Result:
        with db.atomic():
            return work()

    return retried(db, transaction)


def retried(db: Database, transaction: Callable[[], Result]) -> Result:
    """Run a function that opens its own transaction, again after a deadlock or lock timeout.

    Inside somebody else's transaction it runs once: only they can repeat theirs.
    """
    for attempt in range(RETRIES):
        try:
            return transaction()
        except OperationalError as error:
            if db.in_transaction or not engine_for(db).is_transient(error):
                raise
            time.sleep(random.uniform(0, 0.01 * 2**attempt))
    return transaction()
