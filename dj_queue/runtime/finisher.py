"""The finisher: group commit for outcomes."""

from __future__ import annotations

import math
import threading
import time
from queue import Empty, SimpleQueue

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError
from django.utils import timezone

from dj_queue.events import log
from dj_queue.exceptions import InvalidReturnValue
from dj_queue.operations.execute import Outcome, abandoned
from dj_queue.operations.finish import announce, finish
from dj_queue.routers import QueueDatabase
from dj_queue.runtime import outage

BATCH_SIZE = 500
FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 5.0
TRIES = 5
"""After so many a database that is there is asked whether it minds this outcome or any."""

NOT_STORABLE = (DataError, IntegrityError, TypeError, ValueError)


class Undone(Exception):
    """Rolls back a trial."""


class Finisher(threading.Thread):
    """Writes the outcomes that have piled up in one transaction, then again.

    Alone, an outcome is written at once; under load the batch grows by itself. While the database
    is away, or takes no writes, outcomes are kept, until `stop` has been called and its time is
    over.
    """

    def __init__(self, db: QueueDatabase) -> None:
        super().__init__(name=f"finisher {db}", daemon=True)
        self.db = db
        self._outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._pending_count = 0
        self._deadline = math.inf

    @property
    def pending_count(self) -> int:
        """How many outcomes were handed in and are not recorded."""
        return self._pending_count

    def hand_in(self, outcome: Outcome) -> None:
        """Record this outcome soon; returns at once. Any thread may call it."""
        with self._lock:
            self._pending_count += 1
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
        """Record a batch, however long it takes; return early only when told to stop."""
        tries, delay, is_suspect = 0, FIRST_DELAY_SECONDS, False
        while batch:
            try:
                self._settle(batch, finish(self.db, batch))
                outage.end(self.db)
                return
            except Exception as error:
                self.db.connection.close()  # It may be what is broken.
                tries += 1
                is_storable = not isinstance(error, NOT_STORABLE)
                if is_storable and time.monotonic() > self._deadline:
                    self._log("outcome_lost", batch, error=repr(error))
                    return
                is_patient = is_storable and (tries < TRIES or not self._is_there(error))
                if not is_patient and len(batch) > 1:  # One of them is the trouble.
                    for outcome in batch:
                        self._record([outcome])
                    return
                if is_suspect or not is_storable:
                    self._refuse(batch[0], error)
                    return
                # Tried again in any case: the database may have become willing only just now.
                is_suspect = not is_patient and self._takes_another(batch[0])
            self._pause(delay)
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    def _is_there(self, error: Exception) -> bool:
        try:
            self.db.connection.ensure_connection()
        except (DatabaseError, InterfaceError):
            outage.begin(self.db, error)
            return False
        return True

    def _takes_another(self, outcome: Outcome) -> bool:
        """Try to write a small outcome instead, and undo it."""
        instead = abandoned(outcome.claimed, InvalidReturnValue(), now=timezone.now())
        try:
            with self.db.atomic():
                finish(self.db, [instead])
                raise Undone
        except Undone:
            return True
        except Exception:
            return False

    def _refuse(self, outcome: Outcome, error: Exception) -> None:
        """Fail a job whose outcome cannot be stored, so that it is not held for ever."""
        self._log("outcome_refused", [outcome], error=repr(error))
        reason = InvalidReturnValue(f"the outcome could not be stored: {error}")
        instead = abandoned(outcome.claimed, reason, now=timezone.now())
        try:
            self._settle([instead], finish(self.db, [instead]))
        except Exception as again:
            self._log("outcome_lost", [outcome], error=repr(again))

    def _settle(self, batch: list[Outcome], recorded: list[Outcome]) -> None:
        with self._lock:
            self._pending_count -= len(batch)
        kept = {id(outcome) for outcome in recorded}
        self._log("claim_lost", [outcome for outcome in batch if id(outcome) not in kept])
        for outcome in recorded:
            try:
                announce(self.db, outcome)
            except BaseException as error:  # A receiver may even call sys.exit().
                self._log("receiver_failed", [outcome], error=repr(error))

    def _pause(self, delay: float) -> None:
        time.sleep(delay if self._deadline == math.inf else min(delay, 0.1))

    def _log(self, event: str, outcomes: list[Outcome], **payload: object) -> None:
        where = {"backend": self.db.backend, "database": self.db.alias}
        for outcome in outcomes:
            log(event, **where, job=outcome.claimed.job_id, **payload)
