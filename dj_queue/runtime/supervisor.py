"""The supervisor: runs every backend's workers and dispatcher, and ends them in order."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

from dj_queue.events import log
from dj_queue.models.ids import new_id
from dj_queue.routers import queue_database
from dj_queue.runtime.dispatcher import Dispatcher
from dj_queue.runtime.finisher import Finisher
from dj_queue.runtime.listener import listeners_for
from dj_queue.runtime.poller import Poller
from dj_queue.runtime.worker import Worker

SIGNAL_SECONDS = 0.05
RECORD_SECONDS = 5.0
"""How long outcomes may take to be recorded after the last job has ended."""
LISTENER_SECONDS = 1.0


@dataclass(frozen=True)
class Leftovers:
    """What a stop could not bring to its end; false when there is none."""

    abandoned_count: int
    lost_count: int
    hanging_count: int = 0

    def __bool__(self) -> bool:
        return bool(self.abandoned_count or self.lost_count or self.hanging_count)

    def __str__(self) -> str:
        return (
            f"jobs that did not end in time and are failed: {self.abandoned_count}, "
            f"outcomes that could not be recorded: {self.lost_count}, "
            f"threads that hang in the database: {self.hanging_count}"
        )


class Supervisor:
    """All backends in one process, each with threads of its own.

    Backends whose database is away are retried by their own threads; the others work on.
    """

    def __init__(self, backends: Sequence[str]) -> None:
        self.process_id = new_id()
        self.finishers: list[Finisher] = []
        self.workers: list[Worker] = []
        self.dispatchers: list[Dispatcher] = []
        self._signals = 0
        for db in map(queue_database, backends):
            finisher = Finisher(db)
            self.finishers.append(finisher)
            self.dispatchers.append(Dispatcher(db))
            for options in db.options.workers:
                self.workers.append(Worker(db, options, self.process_id, finisher))
        self.listeners = listeners_for(self.workers)
        self.shutdown_timeout = max(
            (queue_database(name).options.shutdown_timeout for name in backends), default=0.0
        )

    def start(self) -> None:
        """Start every thread; returns at once."""
        for thread in (*self.finishers, *self.dispatchers, *self.workers, *self.listeners):
            thread.start()
        for worker in self.workers:
            log(
                "worker_started",
                backend=worker.db.backend,
                database=worker.db.alias,
                queues=",".join(worker.options.queues),
                threads=worker.options.threads,
            )

    def run(self) -> Leftovers:
        """Run until TERM or INT, then stop.

        A second signal, or QUIT, ends the drain at once. Only in the main thread.
        """
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGQUIT, self._on_quit)
        self.start()
        # Not an Event: setting one in a signal handler can deadlock on its own lock.
        while not self._signals:
            time.sleep(SIGNAL_SECONDS)
        return self.stop()

    def stop(self) -> Leftovers:
        """Claim no more, let running jobs end, record what they did; say what was left."""
        pollers = [*self.workers, *self.dispatchers]
        deadline = time.monotonic() + self.shutdown_timeout
        for poller in pollers:
            poller.stop()
        for listener in self.listeners:
            listener.stop()
        while self._is_draining(pollers) and time.monotonic() < deadline and self._signals < 2:
            time.sleep(0.01)
        abandoned = sum(worker.close() for worker in self.workers)
        deadline = time.monotonic() + RECORD_SECONDS
        for finisher in self.finishers:
            finisher.stop(deadline)
        for thread in (*self.finishers, *pollers):
            # Each ends by itself soon after, unless it hangs in the database.
            thread.join(max(0.0, deadline + 1 - time.monotonic()))
        for listener in self.listeners:
            # One that hangs in a connect holds nothing, and is left behind.
            listener.join(LISTENER_SECONDS)
        for worker in self.workers:
            log(
                "worker_stopped",
                backend=worker.db.backend,
                database=worker.db.alias,
                queues=",".join(worker.options.queues),
            )
        lost = sum(finisher.pending_count for finisher in self.finishers)
        hanging = sum(thread.is_alive() for thread in (*pollers, *self.finishers))
        return Leftovers(abandoned, lost, hanging)

    def _is_draining(self, pollers: Sequence[Poller]) -> bool:
        # A poll that is under way may still bring claims.
        return any(poller.is_alive() for poller in pollers) or any(
            worker.is_busy for worker in self.workers
        )

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _on_quit(self, signum: int, frame: FrameType | None) -> None:
        self._signals = 2
