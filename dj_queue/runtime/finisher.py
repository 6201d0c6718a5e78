"""The finisher: group commit for what came of claims."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from uuid import UUID

from django.db import DatabaseError, InterfaceError

from dj_queue.engines.claims import HandedOn
from dj_queue.engines.troubles import Trouble, trouble_of
from dj_queue.events import log
from dj_queue.models import ClaimedExecution
from dj_queue.operations.claim import give_back, release
from dj_queue.operations.execute import Outcome
from dj_queue.operations.finish import announce, finish, finish_and_inherit, recorded_before
from dj_queue.routers import QueueDatabase
from dj_queue.runtime import outage
from dj_queue.runtime.blame import is_refused, refusal, takes_another
from dj_queue.runtime.connections import (
    close_connection,
    close_connections,
    looked_after,
    tidy_connections,
)
from dj_queue.runtime.inheritance import Inheritance
from dj_queue.runtime.ledger import Ledger
from dj_queue.runtime.returns import Return

BATCH_SIZE = 500
FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 5.0
TRIES = 5
"""After so many a database that is there is asked whether it minds this outcome or any."""


class Finisher(threading.Thread):
    """Writes the outcomes that have piled up in one transaction, then again.

    Alone, an outcome is written at once; under load the batch grows by itself. While the database
    is away, or takes no writes, outcomes are kept, until `stop` has been called and its time is
    over. Claims to be given back go the same way: whoever hands one in has nothing to do with it
    any more, so that an answer that was lost cannot make a job run here and elsewhere.
    """

    def __init__(self, db: QueueDatabase) -> None:
        super().__init__(name=f"finisher {db}", daemon=True)
        self.db = db
        self._handed_in: SimpleQueue[Outcome | Return | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._nudges: list[Callable[[], None]] = []
        self._ledgers: list[Ledger] = []
        self._inheritances: list[Inheritance] = []
        self._pending_count = 0
        self._doubted: UUID | None = None
        self._deadline = math.inf

    @property
    def pending_count(self) -> int:
        """How many outcomes and claims were handed in and are not recorded."""
        return self._pending_count

    def serve(self, ledger: Ledger, nudge: Callable[[], None]) -> None:
        """Strike off this worker's ledger what is recorded.

        Call `nudge` whenever slots may have been handed on: to jobs that are ready at once.
        """
        self._ledgers.append(ledger)
        self._nudges.append(nudge)

    def let_inherit(self, inheritance: Inheritance) -> None:
        """Hand this worker on what its jobs' keys have next, where the transaction says it may."""
        self._inheritances.append(inheritance)

    def hand_in(self, outcome: Outcome) -> None:
        """Record this outcome soon; returns at once. Any thread may call it."""
        for ledger in self._ledgers:
            ledger.end(outcome)
        with self._lock:
            self._pending_count += 1
        self._handed_in.put(outcome)

    def hand_back(
        self, rows: Sequence[ClaimedExecution], ledger: Ledger, tokens: Sequence[UUID] = ()
    ) -> Return:
        """Make these jobs ready again soon, which certainly did not start; returns at once.

        They are struck off the ledger when that is recorded. With `tokens` those too, if any, that
        were claimed under one of them by a claim whose answer was lost.
        """
        returned = Return(rows, ledger, tokens)
        returned.is_recorded = not returned.count
        with self._lock:
            self._pending_count += returned.count
        if returned.count:
            self._handed_in.put(returned)
        return returned

    def stop(self, deadline: float) -> None:
        """End when all that was handed in is recorded, or at `deadline` (monotonic seconds)."""
        self._deadline = deadline
        self._handed_in.put(None)

    def run(self) -> None:
        more = True
        while more:
            batch = [self._handed_in.get()]
            while len(batch) < BATCH_SIZE:
                try:
                    batch.append(self._handed_in.get_nowait())
                except Empty:
                    break
            more = None not in batch
            # Outcomes first: what has ended can then be given back by nobody.
            self._record([each for each in batch if isinstance(each, Outcome)])
            for each in batch:
                if isinstance(each, Return):
                    self._give_back(each)
            tidy_connections(keep=self.db)
        close_connections()

    def _give_back(self, returned: Return) -> None:
        """Give claims back, however long it takes; return early only when told to stop."""
        delay = FIRST_DELAY_SECONDS
        while True:
            asked_at = time.monotonic()
            try:
                give_back(self.db, returned.rows)
                for token in returned.tokens:
                    release(self.db, token)
                break
            except Exception as error:
                if time.monotonic() > self._deadline:
                    where = {"backend": self.db.backend, "database": self.db.alias}
                    log("claims_left", **where, count=returned.count, error=repr(error))
                    close_connection(self.db)
                    return
                outage.begin(self.db, error)
                close_connection(self.db)
            self._pause(delay)
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)
        outage.end(self.db, asked_at=asked_at)
        for row in returned.rows:
            returned.ledger.strike(row)
        with self._lock:
            self._pending_count -= returned.count
        returned.is_recorded = True

    def _record(self, batch: list[Outcome], *, is_refusal: bool = False) -> None:
        """Record a batch, however long it takes; return early only when told to stop."""
        tries, delay, is_suspect = 0, FIRST_DELAY_SECONDS, False
        while batch:
            asked_at = time.monotonic()
            try:
                recorded, handed = self._finish(batch)
                if tries:  # An earlier try may have committed, and its answer was lost.
                    kept = set(map(id, recorded))
                    lost = [outcome for outcome in batch if id(outcome) not in kept]
                    recorded = [*recorded, *recorded_before(self.db, lost)] if lost else recorded
                self._settle(batch, recorded, handed)
                outage.end(self.db, asked_at=asked_at)
                return
            except Exception as error:
                trouble = self._note(error)
                tries += 1
                is_storable = trouble is not None or not is_refused(self.db, error)
                if is_storable and time.monotonic() > self._deadline:
                    self._log("outcome_lost", batch, error=repr(error))
                    return
                # What fails when it is busy may be what takes long: then a part is written sooner.
                is_patient = is_storable and (
                    tries < TRIES
                    or trouble not in (None, Trouble.BUSY)
                    or not self._is_there(error)
                )
                if not is_patient and len(batch) > 1:  # One of them is the trouble.
                    for outcome in batch:
                        self._record([outcome])
                    return
                if trouble is None and (is_suspect or not is_storable):
                    self._refuse(batch[0], error, is_refusal=is_refusal)
                    return
                # Tried again in any case: the database may have become willing only just now.
                is_suspect = trouble is None and not is_patient and takes_another(self.db, batch[0])
            self._pause(delay)
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    def _note(self, error: Exception) -> Trouble | None:
        """Close the connection; return the trouble that the database is in for certain."""
        trouble = trouble_of(self.db, error)
        if trouble is not None:
            outage.begin(self.db, error)
        close_connection(self.db)  # It may be what is broken.
        return trouble

    def _refuse(self, outcome: Outcome, error: Exception, *, is_refusal: bool) -> None:
        event = "outcome_lost" if is_refusal else "outcome_refused"
        self._log(event, [outcome], error=repr(error))
        if not is_refusal:
            self._record([refusal(outcome, error)], is_refusal=True)

    def _finish(self, batch: list[Outcome]) -> tuple[list[Outcome], HandedOn]:
        """Finish, and let one of the workers run on."""
        if self._doubted is not None:
            # Its ledger has room for one token: the next may replace it when this one is settled.
            release(self.db, self._doubted)
            self._doubted = None
        for inheritance in self._inheritances:
            heir = inheritance.heir(batch)
            if heir is not None:
                break
        else:
            return finish(self.db, batch), HandedOn()
        try:
            recorded, handed = finish_and_inherit(self.db, batch, heir)
        except BaseException:
            self._doubted = heir.holder.token
            inheritance.doubt(heir)
            raise
        if not inheritance.take(handed.inherited):
            with self._lock:
                self._pending_count += len(handed.inherited)
            # At once: this may be the last batch.
            self._give_back(Return(handed.inherited, inheritance.ledger))
        return recorded, handed

    def _is_there(self, error: Exception) -> bool:
        try:
            self.db.connection.ensure_connection()
        except (DatabaseError, InterfaceError):
            outage.begin(self.db, error)
            return False
        return True

    def _settle(self, batch: list[Outcome], recorded: list[Outcome], handed: HandedOn) -> None:
        for ledger in self._ledgers:
            for outcome in batch:
                ledger.strike(outcome.claimed)
        with self._lock:
            self._pending_count -= len(batch)
        keyed = [each for each in recorded if each.claimed.job.concurrency_key is not None]
        if max(len(keyed), handed.count) > len(handed.inherited):
            for nudge in self._nudges:
                nudge()
        kept = {id(outcome) for outcome in recorded}
        self._log("claim_lost", [outcome for outcome in batch if id(outcome) not in kept])
        self._announce(recorded)

    def _announce(self, recorded: list[Outcome]) -> None:
        """Call receivers, who have connections of their own; raises nothing."""
        try:
            with looked_after(self.db):
                for outcome in recorded:
                    if not self._announce_one(outcome):
                        tidy_connections(keep=self.db)  # One of theirs may be broken.
        except Exception as error:  # What they left open, or the database when one was closed.
            self._log("receiver_failed", recorded[-1:], error=repr(error))

    def _announce_one(self, outcome: Outcome) -> bool:
        try:
            return announce(self.db, outcome)
        except BaseException as error:  # A receiver may even call sys.exit().
            self._log("receiver_failed", [outcome], error=repr(error))
            return False

    def _pause(self, delay: float) -> None:
        time.sleep(delay if self._deadline == math.inf else min(delay, 0.1))

    def _log(self, event: str, outcomes: list[Outcome], **payload: object) -> None:
        where = {"backend": self.db.backend, "database": self.db.alias}
        for outcome in outcomes:
            log(event, **where, job=outcome.claimed.job_id, **payload)
