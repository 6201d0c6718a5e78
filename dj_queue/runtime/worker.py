"""The worker: claims jobs, a little ahead of its threads, and runs them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID

from django.db import DatabaseError, InterfaceError, close_old_connections
from django.utils import timezone

from dj_queue.conf import WorkerOptions
from dj_queue.events import log
from dj_queue.exceptions import ProcessExited
from dj_queue.models import ClaimedExecution
from dj_queue.operations.claim import claim, give_back
from dj_queue.operations.execute import abandoned, execute
from dj_queue.routers import QueueDatabase
from dj_queue.runtime.finisher import Finisher
from dj_queue.runtime.poller import Poller
from dj_queue.runtime.pool import Pool
from dj_queue.runtime.prefetch import Prefetching

QUICK_SECONDS = 0.005
"""The first pause after work was found or told of; it doubles up to the polling interval.

So a notification that was suppressed (engines.notifications) costs no more than this.
"""
LOOK_SECONDS = 0.1
"""How often a worker with jobs in waiting looks whether they wait too long."""


class Worker(Poller):
    """One entry of a backend's `workers`: a thread that claims and a pool that runs."""

    def __init__(
        self, db: QueueDatabase, options: WorkerOptions, process_id: UUID, finisher: Finisher
    ) -> None:
        super().__init__(db, "worker")
        self.options = options
        self.process_id = process_id
        self.finisher = finisher
        self._pool = Pool(f"task {db}", options.threads, run=self._run, ended=self._ended)
        self._prefetch = Prefetching(options.threads)
        self._pause = options.polling_interval
        self._is_hungry = False  # A job that ends may make room for one that is known to be ready.
        self._low_count = 0

    def nudge(self) -> None:
        """Look for work at once, and soon again; returns at once. Any thread may call it."""
        self._pause = QUICK_SECONDS
        self.wake.set()

    def poll(self) -> float:
        """Give back what waits too long, claim what is wanted; return the delay in seconds."""
        pool, prefetch = self._pool, self._prefetch
        prefetch.see(pool.ended_count)
        waiting = pool.waiting_count
        surplus = prefetch.surplus(pool.held_count - waiting, waiting)
        if surplus > 0:
            self._give_back(pool.take_back(surplus))
        waiting = pool.waiting_count
        wanted = prefetch.wanted(pool.held_count - waiting, waiting)
        self._low_count = prefetch.depth // 2
        if not wanted:
            self._is_hungry = True
            return min(LOOK_SECONDS, self.options.polling_interval)
        self._is_hungry = False  # Should the claim fail, a job that ends must not cut its pause.
        claimed = self._claim(wanted)
        if not pool.put(claimed):
            give_back(self.db, claimed)  # The stop did not wait for this claim.
            return self.options.polling_interval
        self._is_hungry = len(claimed) == wanted
        if self._is_hungry and pool.waiting_count <= self._low_count:
            return 0
        pause = QUICK_SECONDS if claimed else self._pause
        self._pause = min(pause * 2, self.options.polling_interval)
        return min(pause, self.options.polling_interval)

    def run(self) -> None:
        try:
            super().run()
        finally:
            self._give_back(self._pool.take_back(self._pool.waiting_count))
            self.db.connection.close()

    @property
    def is_busy(self) -> bool:
        """Whether a job waits or runs."""
        return bool(self._pool.held_count)

    def close(self) -> int:
        """Fail the jobs that still run, end the pool; return how many there were.

        Such a job runs on until the process ends, but cannot finish any more.
        """
        self._give_back(self._pool.take_back(self._pool.waiting_count))
        left = self._pool.close()
        for row in left:
            where = {"backend": self.db.backend, "database": self.db.alias}
            log("job_abandoned", **where, job=row.job_id, path=row.job.task_path)
            error = ProcessExited("the worker was told to stop and the job did not end in time")
            self.finisher.hand_in(abandoned(row, error, now=timezone.now()))
        return len(left)

    def _claim(self, limit: int) -> list[ClaimedExecution]:
        started = time.monotonic()
        claimed = claim(
            self.db,
            self.options.queues,
            limit=limit,
            process_id=self.process_id,
            now=timezone.now(),
        )
        self._prefetch.took(time.monotonic() - started)
        return claimed

    def _give_back(self, rows: Sequence[ClaimedExecution]) -> None:
        """Let other workers have jobs that did not start; with no database, run them after all."""
        if not rows:
            return
        try:
            give_back(self.db, rows)
        except (DatabaseError, InterfaceError):
            self._pool.put(rows)

    def _run(self, row: ClaimedExecution) -> None:
        try:
            close_old_connections()
            outcome = execute(self.db, row, clock=timezone.now)
        except Exception as error:  # Not the task's: execute catches that. The job must not hang.
            self._log_failure(error)
            outcome = abandoned(row, error, now=timezone.now())
        self.finisher.hand_in(outcome)
        try:
            close_old_connections()
        except Exception as error:
            self._log_failure(error)

    def _ended(self) -> None:
        is_low = self._is_hungry and self._pool.waiting_count <= self._low_count
        if is_low and not self.wake.is_set():
            self.wake.set()

    def _log_failure(self, error: Exception) -> None:
        where = {"backend": self.db.backend, "database": self.db.alias}
        log("loop_failed", **where, error=repr(error), exc_info=True)
