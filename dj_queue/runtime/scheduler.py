"""The scheduler: fires recurring tasks."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from dj_queue.engines.clock import present
from dj_queue.events import log
from dj_queue.operations.fire import Fingerprint, fingerprint, fire_due
from dj_queue.operations.recurring import strangers, synchronise
from dj_queue.routers import QueueDatabase
from dj_queue.routers.registry import backends_on
from dj_queue.runtime.poller import Poller
from dj_queue.runtime.process import Registration

BATCH_SIZE = 100
"""Due tasks of one round."""

ROUND_SECONDS = 1.0
"""After so long a round begins no other task: one may have hundreds of jobs to enqueue."""


class Scheduler(Poller):
    """Fires what is due on the queue database, for every backend of this project there.

    One for a database is enough; several share the work. Where no backend has recurring tasks
    (`operations.recurring.is_needed`), none is.
    """

    def __init__(self, registration: Registration) -> None:
        super().__init__(registration)
        self.options = self.db.options.scheduler
        self.is_synchronised = False
        self.passed_over: frozenset[Fingerprint] = frozenset()

    def poll(self) -> float:
        now = present(self.db)
        if not self.is_synchronised:
            self._synchronise(now)
            self.is_synchronised = True
        horizon = timedelta(seconds=self.options.polling_interval)
        deadline = time.monotonic() + ROUND_SECONDS
        found = fire_due(
            self.db,
            now=now,
            limit=BATCH_SIZE,
            horizon=horizon,
            passed_over=self.passed_over,
            is_over=lambda: self.stopping.is_set() or time.monotonic() > deadline,
        )
        self.answered()
        for plan, count in found.fired:
            where = {"backend": plan.task.backend, "database": self.db.alias, "key": plan.task.key}
            log("recurring_fired", **where, count=count)
            if plan.missed_since:
                log("recurring_missed", **where, since=plan.missed_since.isoformat())
        for row, error in found.broken:
            self._refuse(row.backend, row.key, error)
        self.passed_over |= {fingerprint(row) for row, _ in found.broken}
        if found.next_run_at is None:
            return self.options.polling_interval
        wait = (found.next_run_at - present(self.db)).total_seconds()
        return min(max(wait, 0.0), self.options.polling_interval)

    def _synchronise(self, now: datetime) -> None:
        """Make the static tasks of all our backends here those of the settings.

        Of all, because all of them fire: what one backend's settings lack any more must not.
        """
        for backend in backends_on(self.db.alias):
            done = synchronise(QueueDatabase(alias=self.db.alias, backend=backend), now=now)
            for key, error in done.refused:
                self._refuse(backend, key, error)
            if done:
                log(
                    "recurring_synchronised",
                    backend=backend,
                    database=self.db.alias,
                    inserted=done.inserted_count,
                    updated=done.updated_count,
                    deleted=done.deleted_count,
                )
        for backend, count in strangers(self.db).items():
            log("recurring_stranded", backend=backend, database=self.db.alias, count=count)

    def _refuse(self, backend: str, key: str, error: Exception) -> None:
        where = {"backend": backend, "database": self.db.alias, "key": key}
        log("recurring_refused", **where, error=str(error))
