"""The loop that every runner shares: poll, wait, and sit out a database that is away."""

from __future__ import annotations

import threading
import time
from contextvars import copy_context

from dj_queue.runtime import outage
from dj_queue.runtime.connections import close_connection, close_connections, looked_after
from dj_queue.runtime.process import LOOK_SECONDS, Registration

LONGEST_BACKOFF_SECONDS = 30.0


class Poller(threading.Thread):
    """A thread that calls `poll()` until it is stopped.

    `poll()` returns the seconds until the next call, and is only called while the process is
    registered for certain. A database that does not answer, and an error
    that nobody expected, are met with growing pauses; neither ends the loop.
    """

    def __init__(self, registration: Registration) -> None:
        unit = registration.unit
        super().__init__(name=f"{unit.name}@{unit.db.alias}", daemon=True)
        self.registration = registration
        self.db = unit.db
        self.stopping = threading.Event()
        self.wake = threading.Event()
        self._backoff = 0.0
        self._asked_at = 0.0

    def poll(self) -> float:
        """Do one round; return the delay before the next in seconds, 0 for at once."""
        raise NotImplementedError

    def answered(self, *, has_written: bool = False) -> None:
        """Note that the database has answered: for `poll`, which need not ask it each time."""
        outage.end(self.db, asked_at=self._asked_at, has_written=has_written)

    def stop(self) -> None:
        """Ask the loop to end after the current round; returns at once."""
        self.stopping.set()
        self.wake.set()

    def run(self) -> None:
        while not self.stopping.is_set():
            self.wake.clear()
            delay = self._poll_once()
            if delay and not self.stopping.is_set():
                self.wake.wait(delay)
        close_connections()

    def _poll_once(self) -> float:
        if not self.registration.is_good:  # Not registered yet, or maybe given up.
            return LOOK_SECONDS
        self._asked_at = time.monotonic()
        try:
            with looked_after(self.db):  # The project's code may run in it.
                delay = copy_context().run(self.poll)
        except Exception as error:
            outage.note(self.db, error)
            return self._back_off()
        self.registration.ledger.is_well()
        self._backoff = 0.0
        return delay

    def _back_off(self) -> float:
        close_connection(self.db)
        self._backoff = min(max(self._backoff * 2, 0.1), LONGEST_BACKOFF_SECONDS)
        return self._backoff
