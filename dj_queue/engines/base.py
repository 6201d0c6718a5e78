"""The contract of a claim engine, complete and portable: row locks and the ORM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import DatabaseError, models
from django.db.models import F, Q

from dj_queue.engines.claims import Claim, Holder, attach, claim_of, held
from dj_queue.engines.minutes import SUMS, Ended, minutes_of
from dj_queue.engines.notifications import Listening
from dj_queue.engines.selectors import Turn, turns_of
from dj_queue.engines.semaphores import SemaphoreLocks
from dj_queue.models import (
    ClaimedExecution,
    Execution,
    FinishedExecution,
    Job,
    Pause,
    QueueMinute,
    ReadyExecution,
    ScheduledExecution,
    State,
    state_of,
)
from dj_queue.routers import Database, QueueDatabase

LOCK_NAME = "dj_queue_migrate"


@dataclass(frozen=True)
class Server:
    """A database server as it describes itself."""

    name: str
    version: tuple[int, ...]
    isolation: str

    def __str__(self) -> str:
        return f"{self.name} {dotted(self.version)}".strip()


class ClaimEngine(SemaphoreLocks):
    """What a queue does in its database; stateless, one method per thing vendors differ in."""

    oldest: tuple[int, ...] = ()
    can_notify = False
    clock_statement: str | None = None
    """Selects the microseconds since 1970 by the server's clock; None where the host's is it."""

    skips_by_recursion = False
    """Whether a query may step through an index by itself, and a SELECT in FROM see its steps.

    Otherwise the optimizer is trusted to skip for a DISTINCT.
    """

    def store(self, db: QueueDatabase, ready: Sequence[Job], scheduled: Sequence[Job]) -> None:
        """Insert new jobs of this backend in their first state, all or none, and wake workers.

        Opens a transaction, or joins the one that is open.
        """
        with db.atomic():
            self.insert(db, new_rows(ready, scheduled))

    def insert(self, db: Database, rows: Iterable[models.Model]) -> None:
        """Insert rows, one statement per table. Needs an open transaction."""
        for model, group in by_table(rows):
            db.objects(model).bulk_create(group)

    def claim(
        self,
        db: QueueDatabase,
        selectors: Sequence[str],
        *,
        limit: int,
        holder: Holder,
    ) -> list[ClaimedExecution]:
        """Move up to `limit` ready jobs of the backend to claimed, and return them.

        In claim order: selectors as given, then priority high to low, then id; each has its `job`
        loaded. Never from a paused queue. Opens a transaction of its own.
        """
        # An idle worker only reads, one statement and no transaction.
        turns = self._turns(db, selectors)
        if not turns:
            return []
        with db.atomic():
            ready = self._take_ready(db, turns, limit)
            if not ready:
                return []
            claimed = [held(row, holder) for row in ready]
            self.insert(db, claimed)
            self.load_jobs(db, claimed)
        return claimed

    def load_jobs(self, db: Database, claimed: Sequence[ClaimedExecution]) -> None:
        """Give claims their jobs. One statement."""
        jobs = {job.id: job for job in self._payloads(db, _ids(claimed))}
        for row in claimed:
            attach(row, jobs[row.job_id])

    def finish(
        self,
        db: QueueDatabase,
        rows: Sequence[FinishedExecution],
        tokens: Sequence[UUID],
        waits: Sequence[float],
    ) -> set[Claim]:
        """Move claims to finished: those whose token, one per row, still holds; return these.

        They are added to their queues' minutes; `waits` are the seconds that each had waited.
        Opens a transaction, or joins the one that is open.
        """
        with db.atomic(savepoint=False):
            taken = self.take(db, ClaimedExecution, _ids(rows), tokens)
            held = set(map(claim_of, taken))
            by_claim = zip(rows, tokens, waits, strict=True)
            recorded = [(row, wait) for row, token, wait in by_claim if (row.pk, token) in held]
            minutes = minutes_of(Ended.well(row, wait) for row, wait in recorded)
            self.record(db, [row for row, _ in recorded], minutes)
        return held

    def record(
        self, db: Database, rows: Sequence[FinishedExecution], minutes: Sequence[QueueMinute]
    ) -> None:
        """Insert rows of jobs that ended, and add their minutes. Needs an open transaction."""
        self.insert(db, rows)
        self.add_minutes(db, minutes)

    def add_minutes(self, db: Database, rows: Sequence[QueueMinute]) -> None:
        """Add rows to what their queues' minutes hold already. Needs an open transaction."""
        for row in rows:
            known = db.objects(QueueMinute).filter(
                backend=row.backend,
                minute=row.minute,
                queue_name=row.queue_name,
                process_id=row.process_id,
            )
            if not known.update(**{name: F(name) + getattr(row, name) for name in SUMS}):
                db.objects(QueueMinute).bulk_create([row])

    def take(
        self,
        db: QueueDatabase,
        state: type[State],
        ids: Sequence[UUID],
        tokens: Sequence[UUID] | None = None,
        skip_locked: bool = False,
    ) -> list[State]:
        """Delete this backend's state rows of these jobs; return those really deleted, unordered.

        With `tokens` (one per id) a claim is only taken by who holds its token. Waits for rows
        that another transaction holds, or skips them where that is asked for and the vendor can;
        only one of the two may be asked for. Needs an open transaction.
        """
        rows = self._lock(db, state, ids, skip_locked)
        if tokens is not None:
            holders = set(zip(ids, tokens, strict=True))
            rows = [row for row in rows if (row.pk, row.claim_token) in holders]  # type: ignore[attr-defined]
        self._delete(db, state, [row.pk for row in rows])
        return rows

    def held_by(
        self, db: QueueDatabase, processes: Sequence[UUID], limit: int
    ) -> list[ClaimedExecution]:
        """Lock and return up to `limit` claims of these processes, of every backend, by id.

        Leaves out those that another transaction holds: a process that was stopped in the middle
        of one keeps its locks. Needs an open transaction.
        """
        rows = db.objects(ClaimedExecution).filter(process_id__in=processes)
        return list(
            rows.select_for_update(skip_locked=self._skips_locked(db)).order_by("pk")[:limit]
        )

    def wake(self, db: QueueDatabase, queues: Iterable[str]) -> None:
        """Tell the backend's workers, wherever they are, that these queues have ready jobs.

        Joins an open transaction, and is told when that commits. A vendor that cannot: nothing.
        """

    def listen(self, db: QueueDatabase) -> Listening | None:
        """Open a connection that hears what is told; None where workers can only poll."""
        return None

    def server(self, db: Database) -> Server:
        """Ask the server for its name, version and isolation level."""
        return Server(db.vendor, (), "")

    def unfit(self, server: Server) -> str | None:
        """Say what keeps this server from holding queues, or None."""
        if server.version >= self.oldest:
            return None
        return f"expected {server.name} {dotted(self.oldest)} or later, got {server}"

    @contextmanager
    def locked(self, db: Database) -> Iterator[bool]:
        """Try to keep other migrations off this database inside the block; give whether it does.

        Does not wait. No lock of a session: a transaction pooler would let others have it.
        """
        yield True

    def is_transient(self, error: DatabaseError) -> bool:
        """Tell whether repeating the whole transaction may help: deadlock, lock timeout, busy."""
        return False

    def is_untranslatable(self, error: Exception) -> bool:
        """Tell whether a text has characters that the database, or its connection, cannot store."""
        return isinstance(error, UnicodeEncodeError)

    def is_missing_table(self, error: DatabaseError) -> bool:
        """Tell whether a statement failed because a table does not exist."""
        return False

    def _turns(self, db: QueueDatabase, selectors: Sequence[str]) -> list[Turn]:
        """Look, without a lock, which queues have jobs for these selectors."""
        names = db.objects(ReadyExecution).filter(backend=db.backend).values_list("queue_name")
        paused = set(db.objects(Pause).values_list("queue_name", flat=True))
        ready = {name: name in paused for (name,) in names.distinct()}
        return turns_of(selectors, ready)

    def _take_ready(
        self, db: QueueDatabase, turns: Sequence[Turn], limit: int
    ) -> list[ReadyExecution]:
        """Delete up to `limit` rows, in claim order, of queues that are not paused by now."""
        rows: list[ReadyExecution] = []
        for turn in turns:
            own = db.objects(ReadyExecution).filter(backend=db.backend)
            own = own.exclude(queue_name__in=db.objects(Pause).values("queue_name"))
            queues = Q() if turn.names is None else Q(queue_name__in=turn.names)
            own = own.filter(queues).exclude(queue_name__in=turn.but)
            locked = own.select_for_update(skip_locked=self._skips_locked(db))
            rows += locked.order_by("-priority", "job_id")[: limit - len(rows)]
            if len(rows) == limit:
                break
        self._delete(db, ReadyExecution, _ids(rows))
        return rows

    def _payloads(self, db: Database, ids: Sequence[UUID]) -> Iterable[Job]:
        return db.objects(Job).filter(pk__in=ids)

    def _lock(
        self, db: QueueDatabase, state: type[State], ids: Sequence[UUID], skip_locked: bool
    ) -> list[State]:
        own = db.objects(state).filter(pk__in=ids, backend=db.backend)
        skip_locked = skip_locked and self._skips_locked(db)
        return list(own.order_by("pk").select_for_update(skip_locked=skip_locked))

    def _delete(self, db: Database, state: type[Execution], ids: Sequence[UUID]) -> None:
        # Not .delete(): with any signal receiver in the project that would load every row first.
        if ids:
            db.objects(state).filter(pk__in=ids)._raw_delete(db.alias)


def dotted(version: tuple[int, ...]) -> str:
    """Write a version as people do."""
    return ".".join(map(str, version))


def new_rows(ready: Sequence[Job], scheduled: Sequence[Job]) -> list[models.Model]:
    """Return the rows of new jobs: theirs and their first state's."""
    states: list[Execution] = [state_of(ReadyExecution, job) for job in ready]
    states += [state_of(ScheduledExecution, job, run_after=job.run_after) for job in scheduled]
    return [*ready, *scheduled, *states]


def by_table(rows: Iterable[models.Model]) -> Iterator[tuple[type[models.Model], list[Any]]]:
    """Put the rows of each table together, the tables always in the same order."""
    tables: dict[type[models.Model], list[Any]] = {}
    for row in rows:
        tables.setdefault(type(row), []).append(row)
    yield from sorted(tables.items(), key=lambda item: item[0]._meta.db_table)


def _ids(rows: Iterable[Execution]) -> list[UUID]:
    return [row.job_id for row in rows]
