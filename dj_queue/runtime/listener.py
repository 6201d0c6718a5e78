"""The listener: wakes this process's workers when their queue database says there is work."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from django.db import DatabaseError, InterfaceError

from dj_queue.engines import engine_for
from dj_queue.engines.notifications import Listening, can_listen, listening_alias
from dj_queue.events import log
from dj_queue.routers import QueueDatabase
from dj_queue.runtime.worker import Worker

SLICE_SECONDS = 0.2
"""How long a stop may go unnoticed."""

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 30.0


class Listener(threading.Thread):
    """A thread with one connection, however many workers and backends it serves.

    While the connection is lost the workers poll. It is opened again with growing pauses.
    """

    def __init__(self, db: QueueDatabase, workers: Iterable[Worker]) -> None:
        """Serve `workers`, whose backends all listen where `db` does."""
        self.alias = listening_alias(db)
        super().__init__(name=f"listener {self.alias}", daemon=True)
        self.db = db
        self.workers = list(workers)
        self.stopping = threading.Event()
        self._since: float | None = None
        self._lost_at: float | None = None
        self._pause = 0.0

    def stop(self) -> None:
        """Ask the thread to end, within `SLICE_SECONDS`; returns at once."""
        self.stopping.set()

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                listening = engine_for(self.db).listen(self.db)
                if listening is None:
                    self.stopping.set()  # Nobody misses the thread.
                    return
                self._hear(listening)
            except Exception as error:
                self._lose(error)
                self.stopping.wait(self._pause)

    def _hear(self, listening: Listening) -> None:
        try:
            self._find()
            while not self.stopping.is_set():
                wakes = listening.wait(SLICE_SECONDS)
                for worker in self.workers:
                    queues = worker.options.queues
                    if any(wake.concerns(worker.db.backend, queues) for wake in wakes):
                        worker.nudge()
        finally:
            listening.close()

    def _find(self) -> None:
        """Note that there is a connection."""
        self._since = time.monotonic()
        if self._lost_at is not None:
            seconds = round(self._since - self._lost_at, 1)
            log("listener_up", database=self.alias, seconds=seconds)
            self._lost_at = None
        for worker in self.workers:  # Something may have been told to nobody.
            worker.nudge()

    def _lose(self, error: Exception) -> None:
        """Note that there is no connection, and how long to wait for the next."""
        now, since, self._since = time.monotonic(), self._since, None
        # One that is closed soon after each opening shall not be opened ten times a second.
        is_first = since is not None and now - since > LONGEST_PAUSE_SECONDS
        pause = 0.0 if is_first else self._pause * 2
        self._pause = min(max(pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        if self._lost_at is None:
            self._lost_at = now
            surprise = not isinstance(error, DatabaseError | InterfaceError)
            log("listener_down", database=self.alias, error=repr(error), exc_info=surprise)


def listeners_for(workers: Iterable[Worker]) -> list[Listener]:
    """Return a listener for each connection that these workers can be told on, not started."""
    shared: dict[str, list[Worker]] = {}
    for worker in workers:
        if can_listen(worker.db):
            shared.setdefault(listening_alias(worker.db), []).append(worker)
    return [Listener(group[0].db, group) for group in shared.values()]
