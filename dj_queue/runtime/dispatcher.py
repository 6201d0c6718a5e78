"""The dispatcher: makes due jobs ready."""

from __future__ import annotations

from django.utils import timezone

from dj_queue.events import log
from dj_queue.operations.dispatch import dispatch_due
from dj_queue.routers import QueueDatabase
from dj_queue.runtime.poller import Poller


class Dispatcher(Poller):
    """Promotes a backend's due jobs, a batch at a time."""

    def __init__(self, db: QueueDatabase) -> None:
        super().__init__(db, "dispatcher")
        self.options = db.options.dispatcher

    def poll(self) -> float:
        count = dispatch_due(self.db, now=timezone.now(), limit=self.options.batch_size)
        if count:
            log("jobs_dispatched", backend=self.db.backend, database=self.db.alias, count=count)
        return 0 if count == self.options.batch_size else self.options.polling_interval
