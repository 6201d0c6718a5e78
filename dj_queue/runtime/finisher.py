"""The finisher: group commit for outcomes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue

from django.db import DatabaseError, InterfaceError, OperationalError
from django.utils import timezone

from dj_queue.compat import task_backends, task_finished
from dj_queue.events import log
from dj_queue.exceptions import InvalidReturnValue
from dj_queue.operations.execute import Outcome, abandoned
from dj_queue.operations.finish import finish
from dj_queue.routers import QueueDatabase

BATCH_SIZE = 500
REFUSALS = 5
LONGEST_BACKOFF_SECONDS = 5.0


class Finisher(threading.Thread):
    """Writes the outcomes that have piled up in one transaction, then again.

    Alone, an outcome is written at once; under load the batch grows by itself. While the database
    is away outcomes are kept, until `stop` has been called and its time is over.
    """

    def __init__(self, db: QueueDatabase) -> None:
        super().__init__(name=f"finisher {db}", daemon=True)
        self.db = db
        self._outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
        self._give_up_at: float | None = None

    def hand_in(self, outcome: Outcome) -> None:
        """Record this outcome soon; returns at once. Any thread may call it."""
        self._outcomes.put(outcome)

    def stop(self, seconds: float) -> None:
        """Record what was handed in before, then end; give up after `seconds`."""
        self._give_up_at = time.monotonic() + seconds
        self._outcomes.put(None)
        self.join(seconds + 1)

    def run(self) -> None:
        more = True
        while more:
            batch = [self._outcomes.get()]
            while len(batch) < BATCH_SIZE:
                try:
                    batch.append(self._outcomes.get_nowait())
                except Empty:
                    break
            more = None not in batch
            self._record([outcome for outcome in batch if outcome is not None])
        self.db.connection.close()

    def _record(self, batch: list[Outcome]) -> None:
        if not batch:
            return
        try:
            recorded = self._finish(batch)
        except Exception as error:
            if len(batch) > 1:  # One of them cannot be stored; the others can.
                for outcome in batch:
                    self._record([outcome])
            else:
                self._refuse(batch[0], error)
            return
        kept = {id(outcome) for outcome in recorded}
        for outcome in batch:
            if id(outcome) not in kept:
                self._log("claim_lost", outcome)
        self._tell(recorded)

    def _finish(self, batch: list[Outcome]) -> list[Outcome]:
        delays = self._delays()
        while True:
            try:
                return finish(self.db, batch)
            except (OperationalError, InterfaceError) as error:
                delay = next(delays, None)
                if delay is None:
                    raise
                where = {"backend": self.db.backend, "database": self.db.alias}
                log("outcomes_waiting", **where, count=len(batch), error=repr(error))
                time.sleep(delay)

    def _delays(self) -> Iterator[float]:
        """Give the pause before each new try: for ever while the database is away, else few."""
        delay, refusals = 0.05, 0
        while refusals < REFUSALS:
            if self._give_up_at is not None and time.monotonic() > self._give_up_at:
                return
            self.db.connection.close()
            try:
                self.db.connection.ensure_connection()
                refusals += 1  # It is there, and does not take this.
            except (OperationalError, InterfaceError):
                delay = min(delay * 2, LONGEST_BACKOFF_SECONDS)
            yield delay

    def _refuse(self, outcome: Outcome, error: Exception) -> None:
        """Fail a job whose outcome cannot be stored, so that it is not held for ever."""
        self._log("outcome_refused", outcome, error=repr(error))
        reason = InvalidReturnValue(f"the outcome could not be stored: {error}")
        instead = abandoned(outcome.claimed, reason, now=timezone.now())
        try:
            self._tell(finish(self.db, [instead]))
        except (DatabaseError, InterfaceError) as again:
            self._log("outcome_refused", outcome, error=repr(again))

    def _tell(self, recorded: list[Outcome]) -> None:
        sender = type(task_backends[self.db.backend])
        for outcome in recorded:
            task_finished.send_robust(sender=sender, task_result=outcome.result)

    def _log(self, event: str, outcome: Outcome, **payload: object) -> None:
        where = {"backend": self.db.backend, "database": self.db.alias}
        log(event, **where, job=outcome.claimed.job_id, **payload)
