"""Inheritance: a worker runs on with the next job of a key, without a claim in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from uuid import UUID

from dj_queue.engines.claims import Heir, Holder
from dj_queue.engines.clock import estimated
from dj_queue.models import ClaimedExecution
from dj_queue.models.ids import new_id
from dj_queue.operations.execute import Outcome
from dj_queue.runtime.pool import Pool
from dj_queue.runtime.process import Registration


class Inheritance:
    """What a worker's threads are handed by the finisher, whose thread calls this.

    Only as much as there are threads free: what would have to wait is better claimed by others.
    """

    def __init__(
        self,
        registration: Registration,
        pool: Pool,
        stopping: threading.Event,
        doubt: Callable[[UUID], None],
    ) -> None:
        """Run in `pool`; `doubt` takes tokens under which something may be claimed, or not."""
        self.registration = registration
        self.ledger = registration.ledger
        self._pool = pool
        self._stopping = stopping
        self._doubt = doubt

    def heir(self, batch: Sequence[Outcome]) -> Heir | None:
        """Say who may inherit from these jobs, if the worker ran any that have a key."""
        registration = self.registration
        queues = frozenset(
            each.claimed.queue_name
            for each in batch
            if each.claimed.job.concurrency_key is not None
            and each.claimed.process_id == registration.id
        )
        room = self._pool.free_count if queues else 0
        if room <= 0 or self._stopping.is_set() or not registration.is_good:
            return None
        holder = Holder(registration.id, new_id(), estimated(registration.unit.db))
        self.ledger.begin_inheriting(holder.token)
        return Heir(holder, queues, room)

    def take(self, rows: Sequence[ClaimedExecution]) -> bool:
        """Run what was inherited; false, and nothing, when the worker is to stop by now."""
        self.ledger.enter(rows)
        # Before the first of them starts, while the token says that none has.
        self.ledger.end_inheriting()
        return not rows or (not self._stopping.is_set() and self._pool.put(rows))

    def doubt(self, heir: Heir) -> None:
        """Note that the answer was lost: what may have been inherited is to be given back."""
        self._doubt(heir.holder.token)
