"""Units of a test's own, registered as if their hearts beat."""

import time

from dj_queue.conf import WorkerOptions
from dj_queue.routers import QueueDatabase
from dj_queue.runtime.ledger import Ledger
from dj_queue.runtime.process import Registration, Supervision
from dj_queue.runtime.units import Unit
from dj_queue.runtime.worker import Worker
from tests.waiting import until


def registered(db: QueueDatabase, options: WorkerOptions | None = None) -> Registration:
    """Give a registration that is good for ever, of a worker if there are options for one."""
    kind = "worker" if options else "dispatcher"
    unit = Unit(kind, db, f"{kind} {db.backend}", options)
    registration = Registration(unit, Supervision(), Ledger(unit), clock=lambda: 0.0)
    registration.confirm(asked_at=0.0)
    return registration


def end(worker: Worker) -> None:
    """Let a worker's jobs end, then the worker and its finisher."""
    until(lambda: not worker.is_busy)
    worker.close()
    worker.finisher.stop(time.monotonic() + 10)
    worker.finisher.join(10)
