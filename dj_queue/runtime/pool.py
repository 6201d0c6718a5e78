"""The pool: threads that run claimed jobs one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from django.db import connections

from dj_queue.engines.base import Claim, claim_of
from dj_queue.models import ClaimedExecution


class Pool:
    """Runs jobs in the order they are put in. Knows what waits and what runs.

    Not concurrent.futures: its future, lock and wake-up for each job cost more than a small task.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        *,
        run: Callable[[ClaimedExecution], None],
        ended: Callable[[], None],
    ) -> None:
        """Run each job with `run`, which raises nothing, and call `ended` after it."""
        self._run = run
        self._ended = ended
        self._waiting: SimpleQueue[ClaimedExecution | None] = SimpleQueue()
        self._held: dict[Claim, ClaimedExecution] = {}
        self._put_count = 0
        self._lock = threading.Lock()
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name} {number}", daemon=True)
            for number in range(threads)
        ]

    @property
    def waiting_count(self) -> int:
        """How many jobs wait for a thread."""
        return self._waiting.qsize()

    @property
    def held_count(self) -> int:
        """How many jobs wait or run."""
        return len(self._held)

    @property
    def ended_count(self) -> int:
        """How many jobs were run to their end; those taken back do not count."""
        return self._put_count - len(self._held)

    def put(self, rows: Sequence[ClaimedExecution]) -> bool:
        """Run these jobs as soon as threads are free; false, and nothing, after `close`."""
        with self._lock:
            if self._is_closed:
                return False
            if self._threads[0].ident is None:
                for thread in self._threads:
                    thread.start()
            self._put_count += len(rows)
            self._held.update((claim_of(row), row) for row in rows)
            for row in rows:
                self._waiting.put(row)
        return True

    def take_back(self, count: int) -> list[ClaimedExecution]:
        """Return up to `count` jobs that have not started and now will not, the last ones."""
        with self._lock:
            if self._is_closed:
                return []  # What is left in the queue tells the threads to end.
            waiting = self._take_waiting()
            kept = max(0, len(waiting) - count)
            for row in waiting[:kept]:
                self._waiting.put(row)
            for row in waiting[kept:]:
                del self._held[claim_of(row)]
            self._put_count -= len(waiting) - kept
        return waiting[kept:]

    def close(self) -> list[ClaimedExecution]:
        """Start nothing more; return the jobs that were held, running and waiting.

        The threads end after the job they run. Returns when all have, if nothing was held.
        """
        with self._lock:
            self._is_closed = True
            self._take_waiting()
            held = list(self._held.values())
            for _ in self._threads:
                self._waiting.put(None)
        for thread in self._threads:
            if not held and thread.ident is not None:
                thread.join()
        return held

    def _take_waiting(self) -> list[ClaimedExecution]:
        rows = []
        with suppress(Empty):
            while (row := self._waiting.get_nowait()) is not None:
                rows.append(row)
        return rows

    def _work(self) -> None:
        while (row := self._waiting.get()) is not None:
            self._run(row)
            del self._held[claim_of(row)]
            self._ended()
        connections.close_all()
