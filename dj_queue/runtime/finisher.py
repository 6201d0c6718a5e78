"""The finisher: group commit for outcomes."""

from __future__ import annotations

import math
import threading
import time
from queue import Empty, SimpleQueue

from django.db import InterfaceError, OperationalError
from django.utils import timezone

from dj_queue.compat import task_backends, task_finished
from dj_queue.events import log
from dj_queue.exceptions import InvalidReturnValue
from dj_queue.operations.execute import Outcome, abandoned
from dj_queue.operations.finish import finish
from dj_queue.routers import QueueDatabase
from dj_queue.runtime import outage

BATCH_SIZE = 500
REFUSALS = 5
LONGEST_BACKOFF_SECONDS = 5.0


class GaveUp(Exception):
    """The time to stop is over and the database has not come back."""


class Finisher(threading.Thread):
    """Writes the outcomes that have piled up in one transaction, then again.

    Alone, an outcome is written at once; under load the batch grows by itself. While the database
    is away outcomes are kept, until `stop` has been called and its time is over.
    """

    def __init__(self, db: QueueDatabase) -> None:
        super().__init__(name=f"finisher {db}", daemon=True)
        self.db = db
        self.lost_count = 0
        self._outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
        self._deadline = math.inf

    def hand_in(self, outcome: Outcome) -> None:
        """Record this outcome soon; returns at once. Any thread may call it."""
        self._outcomes.put(outcome)

    def stop(self, deadline: float) -> None:
        """End when all that was handed in is recorded, or at `deadline` (monotonic seconds)."""
        self._deadline = deadline
        self._outcomes.put(None)

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
        except GaveUp as error:
            self.lost_count += len(batch)
            self._log("outcome_lost", batch, error=repr(error.__cause__))
        except Exception as error:
            if len(batch) > 1:  # One of them cannot be stored; the others can.
                for outcome in batch:
                    self._record([outcome])
            else:
                self._refuse(batch[0], error)
        else:
            kept = {id(outcome) for outcome in recorded}
            self._log("claim_lost", [each for each in batch if id(each) not in kept])
            self._tell(recorded)

    def _finish(self, batch: list[Outcome]) -> list[Outcome]:
        delay, refusals = 0.05, 0
        while True:
            try:
                recorded = finish(self.db, batch)
            except (OperationalError, InterfaceError) as error:
                if time.monotonic() > self._deadline:
                    raise GaveUp from error
                if self._is_away(error):
                    delay = min(delay * 2, LONGEST_BACKOFF_SECONDS)
                else:
                    refusals += 1  # It is there, and does not take this.
                if refusals == REFUSALS:
                    raise
                time.sleep(min(delay, 0.1) if self._deadline < math.inf else delay)
            else:
                outage.end(self.db)
                return recorded

    def _is_away(self, error: Exception) -> bool:
        self.db.connection.close()
        try:
            self.db.connection.ensure_connection()
        except (OperationalError, InterfaceError):
            outage.begin(self.db, error)
            return True
        return False

    def _refuse(self, outcome: Outcome, error: Exception) -> None:
        """Fail a job whose outcome cannot be stored, so that it is not held for ever."""
        self._log("outcome_refused", [outcome], error=repr(error))
        reason = InvalidReturnValue(f"the outcome could not be stored: {error}")
        instead = abandoned(outcome.claimed, reason, now=timezone.now())
        try:
            self._tell(finish(self.db, [instead]))
        except Exception as again:
            self.lost_count += 1
            self._log("outcome_lost", [outcome], error=repr(again))

    def _tell(self, recorded: list[Outcome]) -> None:
        sender = type(task_backends[self.db.backend])
        for outcome in recorded:
            task_finished.send_robust(sender=sender, task_result=outcome.result)

    def _log(self, event: str, outcomes: list[Outcome], **payload: object) -> None:
        where = {"backend": self.db.backend, "database": self.db.alias}
        for outcome in outcomes:
            log(event, **where, job=outcome.claimed.job_id, **payload)
