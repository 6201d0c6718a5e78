"""The pool: threads that run claimed jobs one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from dj_queue.models import ClaimedExecution
from dj_queue.runtime.connections import close_connections

Run = Callable[[ClaimedExecution], None]


class Pool:
    """Runs jobs in the order they are put in. Knows what waits and what runs.

    Not concurrent.futures: its future, lock and wake-up for each job cost more than a small task.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        *,
        may_start: Callable[[ClaimedExecution], bool],
        run: Run,
        ended: Callable[[], None],
    ) -> None:
        """Run each job with `run`, if it `may_start`, and call `ended` after it; none may raise."""
        self._may_start = may_start
        self._run = run
        self._ended = ended
        self._waiting: SimpleQueue[ClaimedExecution | None] = SimpleQueue()
        # Both by the identity of the row, which costs less than hashing its ids.
        self._held: dict[int, ClaimedExecution] = {}
        self._running: set[int] = set()
        self._put_count = 0
        self._lock = threading.Lock()
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name} {number}", daemon=True)
            for number in range(threads)
        ]

    @property
    def threads(self) -> list[threading.Thread]:
        """All threads, those that are not started yet as well."""
        return self._threads

    @property
    def waiting_count(self) -> int:
        """How many jobs wait for a thread."""
        return self._waiting.qsize()

    @property
    def held_count(self) -> int:
        """How many jobs wait or run."""
        return len(self._held)

    @property
    def free_count(self) -> int:
        """How many more jobs could be started at once."""
        return len(self._threads) - len(self._held)

    @property
    def ended_count(self) -> int:
        """How many jobs were run to their end; those taken back do not count."""
        return self._put_count - len(self._held)

    def start(self) -> None:
        """Start the threads, once; raise RuntimeError where the system has none left.

        Before anything is claimed, so that no claim is made which nobody could run.
        """
        with self._lock:
            for thread in self._threads if not self._is_closed else ():
                if thread.ident is None:
                    thread.start()

    def put(self, rows: Sequence[ClaimedExecution]) -> bool:
        """Run these jobs as soon as threads are free; false, and nothing, after `close`."""
        with self._lock:
            if self._is_closed:
                return False
            self._put_count += len(rows)
            self._held.update((id(row), row) for row in rows)
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
                del self._held[id(row)]
            self._put_count -= len(waiting) - kept
        return waiting[kept:]

    def close(self) -> tuple[list[ClaimedExecution], list[ClaimedExecution]]:
        """Start nothing more; return the jobs that run, and those that had not started.

        The threads end after the job they run. Returns when all have, if nothing was held.
        """
        with self._lock:
            self._is_closed = True
            self._take_waiting()
            # In this order, as they are let go: what is held, and did not run before, never did.
            running, held = self._running.copy(), self._held.copy()
            self._tell_to_end()
        for thread in self._threads:
            if not held and thread.ident is not None:
                thread.join()
        return (
            [row for key, row in held.items() if key in running],
            [row for key, row in held.items() if key not in running],
        )

    def _tell_to_end(self) -> None:
        for _ in self._threads:
            self._waiting.put(None)

    def _take_waiting(self) -> list[ClaimedExecution]:
        rows = []
        with suppress(Empty):
            while (row := self._waiting.get_nowait()) is not None:
                rows.append(row)
        return rows

    def _work(self) -> None:
        while (row := self._waiting.get()) is not None:
            if self._begins(row):
                self._run(row)
            elif self._is_closed:
                continue  # `close` finds it among those held, and not among the running ones.
            self._let_go(row)
            self._ended()
        close_connections()

    def _let_go(self, row: ClaimedExecution) -> None:
        # In this order: one that ran is never held and not running, as if it had not started.
        del self._held[id(row)]
        self._running.discard(id(row))

    def _begins(self, row: ClaimedExecution) -> bool:
        if not self._may_start(row):
            return False
        with self._lock:
            if not self._is_closed:
                self._running.add(id(row))
            return not self._is_closed
