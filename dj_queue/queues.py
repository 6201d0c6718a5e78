"""Queue: what the dashboard says of a queue and does to it, for code."""

from __future__ import annotations

from dataclasses import dataclass

from dj_queue import timezone
from dj_queue.engines import naming_tables
from dj_queue.models import Pause, ReadyExecution
from dj_queue.observability.queues import queue_latency
from dj_queue.operations import discard, pauses
from dj_queue.parsers import QUEUE_NAME, is_queue_name
from dj_queue.quoting import quoted
from dj_queue.routers import QueueDatabase, queue_database


@dataclass(frozen=True)
class Queue:
    """A queue of one backend: `Queue("email", backend="bulk")`.

    Its size and latency are about that backend's jobs; a pause concerns every backend on the queue
    database. Raises ValueError for what is no name of a queue; UnknownBackend when used,
    NotMigrated where the tables are missing.
    """

    name: str
    backend: str = "default"

    def __post_init__(self) -> None:
        if not is_queue_name(self.name):
            raise ValueError(f"name: expected {QUEUE_NAME}, got {quoted(self.name)}")

    @property
    def database(self) -> QueueDatabase:
        """The handle of the backend's queue database."""
        return queue_database(self.backend)

    def size(self) -> int:
        """Count the ready jobs."""
        db = self.database
        with naming_tables(db):
            ready = db.objects(ReadyExecution).filter(backend=db.backend, queue_name=self.name)
            return ready.count()

    def latency(self) -> float:
        """Return how many seconds the longest waiting ready job has been due; 0.0 for none."""
        db = self.database
        with naming_tables(db):
            return queue_latency(db, self.name, now=timezone.now()) or 0.0

    def is_paused(self) -> bool:
        """Tell whether it is paused, by whichever backend."""
        db = self.database
        with naming_tables(db):
            return db.objects(Pause).filter(queue_name=self.name).exists()

    def pause(self) -> None:
        """Stop claims from it, for every backend on the database; what is claimed runs on."""
        pauses.pause(self.database, [self.name], now=timezone.now())

    def resume(self) -> bool:
        """Let it be claimed from again; tell whether it was paused."""
        return bool(pauses.resume(self.database, [self.name]))

    def clear(self) -> int:
        """Discard the backend's ready jobs, in batches of a transaction each; return how many."""
        db = self.database
        with naming_tables(db):
            return discard.clear(db, self.name)
