"""The slot keeper: what a dispatcher does for concurrency keys, a step at a time."""

from __future__ import annotations

from dj_queue.engines.clock import present
from dj_queue.operations.slots import hand_on_missed, recount_expired
from dj_queue.routers import QueueDatabase

STEP_SIZE = 100


class SlotKeeper:
    """Counts again who holds expired slots, and looks whether free ones were not handed on."""

    def __init__(self, db: QueueDatabase) -> None:
        self.db = db
        self._after_key = ""

    def step(self) -> bool:
        """Look at some keys; tell whether there are more."""
        now = present(self.db)
        count = recount_expired(self.db, now=now, limit=STEP_SIZE)
        self._after_key = hand_on_missed(
            self.db, now=now, after_key=self._after_key, limit=STEP_SIZE
        )
        return count == STEP_SIZE or bool(self._after_key)
