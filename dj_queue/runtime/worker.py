"""The worker: claims jobs, a little ahead of its threads and coroutines, and runs them."""

from __future__ import annotations

import threading
import time
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from dj_queue.conf import WorkerOptions
from dj_queue.engines.clock import estimated
from dj_queue.events import log
from dj_queue.exceptions import ProcessExited
from dj_queue.models import ClaimedExecution
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim, release
from dj_queue.operations.execute import Outcome, abandoned, begin, execute
from dj_queue.results import is_coroutine, is_loaded
from dj_queue.runtime.connections import tidy_connections
from dj_queue.runtime.coroutines import Ending, Loop
from dj_queue.runtime.crews import Crew, Mixture
from dj_queue.runtime.finisher import Finisher
from dj_queue.runtime.inheritance import Inheritance
from dj_queue.runtime.lanes import JobLane
from dj_queue.runtime.ledger import MAX_PENDING
from dj_queue.runtime.poller import Poller
from dj_queue.runtime.pool import Pool
from dj_queue.runtime.process import Registration
from dj_queue.runtime.returns import Return

QUICK_SECONDS = 0.005
"""The first pause after work was found or told of; it doubles up to the polling interval.

So a notification that was suppressed (engines.notifications) costs no more than this.
"""
LOOK_SECONDS = 0.1
"""How often a worker with jobs in waiting looks whether they wait too long."""
LATE = "the worker was told to stop and the job did not end in time"


class Worker(Poller):
    """One entry of a backend's `workers`: a thread that claims, a pool and a loop that run.

    The loop is there with `concurrency` only: else a coroutine runs in a thread like any function.
    """

    def __init__(
        self, registration: Registration, options: WorkerOptions, finisher: Finisher
    ) -> None:
        """Claim as the registered process; note in its ledger what waits to be started."""
        super().__init__(registration)
        self.options = options
        self.finisher = finisher
        self.ledger = registration.ledger
        self._crews = [Crew(self._make_pool(), options.threads)]
        if options.concurrency:
            self._crews.append(Crew(self._make_loop(), options.concurrency))
        self._mixture = Mixture()
        self._pause = options.polling_interval
        self._is_hungry = False  # A job that ends may make room for one that is known to be ready.
        self._doubts: dict[UUID, float] = {}
        self._returned = Return([], self.ledger, is_recorded=True)
        finisher.serve(self.ledger, self.nudge)
        if not options.concurrency:
            pool = self._crews[0].pool
            finisher.let_inherit(Inheritance(registration, pool, self.stopping, self._doubt))

    def nudge(self) -> None:
        """Look for work at once, and soon again; returns at once. Any thread may call it."""
        self._pause = QUICK_SECONDS
        self.wake.set()

    def poll(self) -> float:
        """Give back what waits too long, claim what is wanted; return the delay in seconds."""
        # Before the claim, so that a nudge during it is not forgotten.
        pause = self._pause
        self._pause = min(pause * 2, self.options.polling_interval)
        if self.finisher.pending_count >= MAX_PENDING:
            return LOOK_SECONDS
        self._release_doubts()
        for crew in self._crews:
            self._give_back(crew, crew.look())
        if not self._returned.is_recorded:
            return QUICK_SECONDS  # A claim would let later jobs overtake those that are returned.
        wanted = self._wanted()
        if not wanted:
            self._is_hungry = True
            return min(LOOK_SECONDS, self.options.polling_interval)
        self._is_hungry = False  # Should the claim fail, a job that ends must not cut its pause.
        claimed, fits = self._claim(wanted)
        # What there was no room for is ready again in a moment: not to overtake it, wait for that.
        self._is_hungry = len(claimed) == wanted and fits
        if self._is_hungry and any(crew.is_low for crew in self._crews):
            return 0
        if claimed:
            pause, self._pause = QUICK_SECONDS, 2 * QUICK_SECONDS
        return min(pause, self.options.polling_interval)

    def run(self) -> None:
        try:
            super().run()
        finally:
            for crew in self._crews:
                self._give_back(crew, crew.waiting_count)
            # No poll comes any more that would ask for them.
            self.finisher.hand_back([], self.ledger, list(self._doubts))

    @property
    def threads(self) -> list[threading.Thread]:
        """Those that run its jobs."""
        return [thread for crew in self._crews for thread in crew.pool.threads]

    @property
    def is_busy(self) -> bool:
        """Whether a job waits or runs."""
        return any(crew.pool.held_count for crew in self._crews)

    def close(self) -> int:
        """End the attempts that still run, and the crews; return how many there were.

        Such a job runs on until the process ends, but cannot finish any more; a coroutine is
        cancelled. One that has no attempts left fails now. One that will run again stays claimed:
        only when this process is dead may another start it, and who buries the process sees to
        that.
        """
        self.registration.ended.set()
        abandoned_count = 0
        for crew in self._crews:
            self._give_back(crew, crew.waiting_count)
            running, unstarted = crew.pool.close()
            self.ledger.enter(unstarted)  # Again: one may have been about to start.
            self.finisher.hand_back(unstarted, self.ledger)
            self._abandon(running)
            abandoned_count += len(running)
        return abandoned_count

    def _abandon(self, rows: Sequence[ClaimedExecution]) -> None:
        for row in rows:
            where = {"backend": self.db.backend, "database": self.db.alias}
            log("job_abandoned", **where, job=row.job_id, path=row.job.task_path)
            outcome = abandoned(row, ProcessExited(LATE), now=estimated(self.db))
            if outcome.retry_at is None:
                self.finisher.hand_in(outcome)

    def _make_pool(self) -> Pool:
        return Pool(
            f"task {self.db}",
            self.options.threads,
            may_start=self._may_start,
            run=self._run,
            ended=lambda: self._ended(self._crews[0]),
        )

    def _make_loop(self) -> Loop:
        return Loop(
            f"task {self.db}",
            self.options.concurrency,
            may_start=self._may_start,
            begin=self._begin,
            end=self._end,
            ended=lambda: self._ended(self._crews[1]),
        )

    def _wanted(self) -> int:
        wanted = [crew.wanted() for crew in self._crews]
        if len(wanted) == 1:
            return wanted[0]
        return self._mixture.limit(wanted, [crew.room() for crew in self._crews])

    def _claim(self, limit: int) -> tuple[list[ClaimedExecution], bool]:
        for crew in self._crews:
            crew.pool.start()
        token, started = new_id(), time.monotonic()
        self.ledger.begin_claim(token)
        self._doubts[token] = 0.0
        claimed = claim(
            self.db,
            self.options.queues,
            limit=limit,
            process_id=self.registration.id,
            now=estimated(self.db),
            token=token,
        )
        self.answered(has_written=bool(claimed))
        del self._doubts[token]
        seconds = time.monotonic() - started
        self.ledger.enter(claimed)
        # Before the first of them starts, while the token says that none has.
        self.ledger.end_claim()
        fits = self._put(claimed)
        for crew in self._crews:
            crew.prefetch.took(seconds)
        return claimed, fits

    def _put(self, claimed: Sequence[ClaimedExecution]) -> bool:
        """Give each crew its jobs, and back what there is no room for; tell whether there was."""
        shares: list[list[ClaimedExecution]] = [[] for _ in self._crews]
        for row in claimed:
            shares[len(shares) > 1 and self._is_coroutine(row)].append(row)
        surplus = []
        for crew, rows in zip(self._crews, shares, strict=True):
            room = crew.room()
            surplus += rows[room:]
            if not crew.pool.put(rows[:room]):  # The stop did not wait for this claim.
                surplus += rows[:room]
        self._hand_back(surplus)
        self._mixture.see([len(rows) for rows in shares], fits=not surplus)
        return not surplus

    def _is_coroutine(self, row: ClaimedExecution) -> bool:
        if is_loaded(row.job):
            return is_coroutine(row.job)
        # Its import may end the process: it counts as started meanwhile, or would do so for ever.
        self.ledger.start(row)
        answer = is_coroutine(row.job)
        self.ledger.enter([row])
        return answer

    def _release_doubts(self) -> None:
        """Give back what claims took whose answer never came.

        Asked again for a while: the server may still be at such a claim, and commit it later.
        """
        now = time.monotonic()
        for token, asked_at in list(self._doubts.items()):
            if now < asked_at:
                continue
            release(self.db, token)
            if asked_at:
                del self._doubts[token]
            else:
                self._doubts[token] = now + self.db.options.process_alive_threshold

    def _doubt(self, token: UUID) -> None:
        self._doubts[token] = 0.0
        self.nudge()

    def _give_back(self, crew: Crew, count: int) -> None:
        """Let other workers have jobs that did not start, the last ones."""
        if count > 0:
            self._hand_back(crew.pool.take_back(count))

    def _hand_back(self, rows: Sequence[ClaimedExecution]) -> None:
        if rows:  # The finisher records them in their order: the last one is enough to know.
            self._returned = self.finisher.hand_back(rows, self.ledger)

    def _may_start(self, row: ClaimedExecution) -> bool:
        is_full = self.finisher.pending_count >= MAX_PENDING
        if (not is_full or self._has_room()) and self.registration.owns(row.process_id):
            self.ledger.start(row)
            return True
        self.finisher.hand_back([row], self.ledger)
        if row.process_id != self.registration.id:
            # It was given up meanwhile, and is another's; or was claimed just after that, and is
            # nobody's who knows of it.
            where = {"backend": self.db.backend, "database": self.db.alias}
            log("claim_lost", **where, job=row.job_id)
        return False

    def _has_room(self) -> bool:
        while is_full := self.finisher.pending_count >= MAX_PENDING:
            if self.registration.ended.wait(QUICK_SECONDS):
                break
        return not is_full

    def _run(self, row: ClaimedExecution) -> None:
        try:
            tidy_connections()
            outcome = execute(self.db, row, clock=partial(estimated, self.db))
        except Exception as error:  # Not the task's: execute catches that. The job must not hang.
            self._log_failure(error)
            outcome = abandoned(row, error, now=estimated(self.db))
        self.finisher.hand_in(outcome)
        tidy_connections()

    def _begin(self, row: ClaimedExecution, lane: JobLane) -> Coroutine[Any, Any, Outcome]:
        tidy_connections()
        coroutine = begin(self.db, row, clock=partial(estimated, self.db), last=lane.last)
        tidy_connections()
        return coroutine

    def _end(self, row: ClaimedExecution, ending: Ending) -> None:
        try:
            outcome = ending.result()
        except BaseException as error:  # Cancelled before its first step, or not the task's.
            self._log_failure(error)
            outcome = abandoned(row, error, now=estimated(self.db))
        self.finisher.hand_in(outcome)

    def _ended(self, crew: Crew) -> None:
        if self._is_hungry and crew.is_low and not self.wake.is_set():
            self.wake.set()

    def _log_failure(self, error: BaseException) -> None:
        where = {"backend": self.db.backend, "database": self.db.alias}
        log("loop_failed", **where, error=repr(error), exc_info=True)
