"""The loop that every runner shares: poll, wait, and sit out a database that is away."""

from __future__ import annotations

import threading
import time

from django.db import InterfaceError, OperationalError

from dj_queue.events import log
from dj_queue.routers import QueueDatabase

LONGEST_BACKOFF_SECONDS = 30.0


class Poller(threading.Thread):
    """A thread that calls `poll()` until it is stopped.

    `poll()` returns the seconds until the next call. An unreachable database is logged once when
    it goes and once when it is back; in between it is asked with growing pauses.
    """

    def __init__(self, db: QueueDatabase, name: str) -> None:
        super().__init__(name=f"{name} {db}", daemon=True)
        self.db = db
        self.stopping = threading.Event()
        self.wake = threading.Event()
        self._down_since: float | None = None
        self._backoff = 0.0

    def poll(self) -> float:
        """Do one round; return the delay before the next in seconds, 0 for at once."""
        raise NotImplementedError

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
        self.db.connection.close()

    def _poll_once(self) -> float:
        try:
            delay = self.poll()
        except (OperationalError, InterfaceError) as error:
            return self._database_down(error)
        except Exception as error:
            event = {"backend": self.db.backend, "database": self.db.alias, "error": repr(error)}
            log("loop_failed", **event, exc_info=True)
            return self._back_off()
        if self._down_since is not None:
            away = time.monotonic() - self._down_since
            log(
                "database_up",
                backend=self.db.backend,
                database=self.db.alias,
                seconds=round(away, 1),
            )
        self._down_since, self._backoff = None, 0.0
        return delay

    def _database_down(self, error: Exception) -> float:
        if self._down_since is None:
            self._down_since = time.monotonic()
            log("database_down", backend=self.db.backend, database=self.db.alias, error=repr(error))
        return self._back_off()

    def _back_off(self) -> float:
        self.db.connection.close()
        self._backoff = min(max(self._backoff * 2, 0.1), LONGEST_BACKOFF_SECONDS)
        return self._backoff
