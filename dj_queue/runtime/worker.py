"""The worker: claims jobs for its free threads and runs them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from django.db import close_old_connections
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


class Worker(Poller):
    """One entry of a backend's `workers`: a thread that claims and a pool that runs."""

    def __init__(
        self, db: QueueDatabase, options: WorkerOptions, process_id: UUID, finisher: Finisher
    ) -> None:
        super().__init__(db, "worker")
        self.options = options
        self.process_id = process_id
        self.finisher = finisher
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix=f"task {db}")
        self._lock = threading.Lock()
        self._held: dict[UUID, ClaimedExecution] = {}
        self._is_closed = False

    def poll(self) -> float:
        """Claim as many jobs as threads are free; a job that ends wakes the loop at once."""
        with self._lock:
            free = self.options.threads - len(self._held)
        if not free:
            return self.options.polling_interval
        claimed = claim(
            self.db,
            self.options.queues,
            limit=free,
            process_id=self.process_id,
            now=timezone.now(),
        )
        with self._lock:
            if not self._is_closed:
                self._held.update((row.job_id, row) for row in claimed)
                for row in claimed:
                    self._pool.submit(self._run, row)
                return self.options.polling_interval
        give_back(self.db, claimed)  # The stop did not wait for this claim.
        return self.options.polling_interval

    @property
    def is_busy(self) -> bool:
        """Whether a job is running."""
        return bool(self._held)

    def close(self) -> int:
        """Fail the jobs that still run, end the pool; return how many there were.

        Such a job runs on until the process ends, but cannot finish any more.
        """
        with self._lock:
            self._is_closed = True
            left = list(self._held.values())
        for row in left:
            where = {"backend": self.db.backend, "database": self.db.alias}
            log("job_abandoned", **where, job=row.job_id, path=row.job.task_path)
            error = ProcessExited("the worker was told to stop and the job did not end in time")
            self.finisher.hand_in(abandoned(row, error, now=timezone.now()))
        self._pool.shutdown(wait=not left, cancel_futures=True)
        return len(left)

    def _run(self, row: ClaimedExecution) -> None:
        try:
            close_old_connections()
            outcome = execute(self.db, row, clock=timezone.now)
        except Exception as error:  # Not the task's: execute catches that. The job must not hang.
            where = {"backend": self.db.backend, "database": self.db.alias}
            log("loop_failed", **where, error=repr(error), exc_info=True)
            outcome = abandoned(row, error, now=timezone.now())
        self.finisher.hand_in(outcome)
        with self._lock:
            self._held.pop(row.job_id, None)
        self.wake.set()
        close_old_connections()
