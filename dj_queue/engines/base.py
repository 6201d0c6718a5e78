"""The contract of a claim engine, complete and portable: row locks and the ORM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, TypeVar
from uuid import UUID

from django.db import DatabaseError, models

from dj_queue.models import ClaimedExecution, Execution, Job, Pause, ReadyExecution
from dj_queue.models.ids import new_id
from dj_queue.routers import QueueDatabase

State = TypeVar("State", bound=Execution)


LOCK_NAME = "dj_queue_migrate"
LOCK_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """A database server as it describes itself."""

    name: str
    version: tuple[int, ...]
    isolation: str

    def __str__(self) -> str:
        return f"{self.name} {dotted(self.version)}".strip()


class ClaimEngine:
    """What a queue does in its database; stateless, one method per thing vendors differ in."""

    oldest: tuple[int, ...] = ()

    def store(
        self, db: QueueDatabase, jobs: Sequence[Job], executions: Sequence[Execution]
    ) -> None:
        """Insert new jobs and their first state (ready or scheduled) atomically.

        Opens a transaction, or joins the one that is open.
        """
        with db.atomic():
            self.insert(db, [*jobs, *executions])

    def insert(self, db: QueueDatabase, rows: Iterable[models.Model]) -> None:
        """Insert rows, one statement per table. Needs an open transaction."""
        for model, group in groupby(sorted(rows, key=_table), key=type):
            self._insert_into(db, model, list(group))

    def claim(
        self,
        db: QueueDatabase,
        selectors: Sequence[str],
        *,
        limit: int,
        process_id: UUID,
        now: datetime,
    ) -> list[ClaimedExecution]:
        """Move up to `limit` ready jobs of the backend to claimed, and return them.

        In claim order: selectors as given, then priority high to low, then id; each has its `job`
        loaded. Never from a paused queue. Opens a transaction of its own.
        """
        token = new_id()
        with db.atomic():
            ready: list[ReadyExecution] = []
            for selector in distinct_selectors(selectors):
                if len(ready) < limit:
                    ready += self._take_ready(db, selector, limit - len(ready))
            if not ready:
                return []
            claimed = [held(row, row.job_id, process_id, token, now) for row in ready]
            self.insert(db, claimed)
            jobs = db.objects(Job).in_bulk([row.job_id for row in ready])
        for row in claimed:
            attach(row, jobs[row.job_id])
        return claimed

    def take(
        self,
        db: QueueDatabase,
        state: type[State],
        ids: Sequence[UUID],
        tokens: Sequence[UUID] | None = None,
    ) -> list[State]:
        """Delete this backend's state rows of these jobs; return those really deleted, unordered.

        With `tokens` (one per id) a claim is only taken by who holds its token. Waits for rows
        that another transaction holds. Needs an open transaction.
        """
        rows = self._lock(db, state, ids)
        if tokens is not None:
            holders = set(zip(ids, tokens, strict=True))
            rows = [row for row in rows if (row.pk, row.claim_token) in holders]  # type: ignore[attr-defined]
        self._delete(db, state, [row.pk for row in rows])
        return rows

    def server(self, db: QueueDatabase) -> Server:
        """Ask the server for its name, version and isolation level."""
        return Server(db.vendor, (), "")

    def unfit(self, server: Server) -> str | None:
        """Say what keeps this server from holding queues, or None."""
        if server.version >= self.oldest:
            return None
        return f"expected {server.name} {dotted(self.oldest)} or later, got {server}"

    @contextmanager
    def locked(self, db: QueueDatabase) -> Iterator[None]:
        """Keep other migrations of dj_queue off this database inside the block, on any host."""
        yield

    def is_transient(self, error: DatabaseError) -> bool:
        """Tell whether repeating the whole transaction may help: deadlock, lock timeout, busy."""
        return False

    def is_missing_table(self, error: DatabaseError) -> bool:
        """Tell whether a statement failed because a table does not exist."""
        return False

    def _take_ready(self, db: QueueDatabase, selector: str, limit: int) -> list[ReadyExecution]:
        skip = self._skips_locked(db)
        rows = list(
            db.objects(ReadyExecution)
            .filter(backend=db.backend, **_matching(selector))
            .exclude(queue_name__in=db.objects(Pause).values("queue_name"))
            .order_by("-priority", "job_id")
            .select_for_update(skip_locked=skip)[:limit]
        )
        self._delete(db, ReadyExecution, [row.pk for row in rows])
        return rows

    def _lock(self, db: QueueDatabase, state: type[State], ids: Sequence[UUID]) -> list[State]:
        own = db.objects(state).filter(pk__in=ids, backend=db.backend)
        return list(own.order_by("pk").select_for_update())

    def _skips_locked(self, db: QueueDatabase) -> bool:
        can = db.connection.features.has_select_for_update_skip_locked
        return can and db.options.use_skip_locked

    def _insert_into(self, db: QueueDatabase, model: type[models.Model], rows: list[Any]) -> None:
        db.objects(model).bulk_create(rows)

    def _delete(self, db: QueueDatabase, state: type[Execution], ids: Sequence[UUID]) -> None:
        # Not .delete(): with any signal receiver in the project that would load every row first.
        if ids:
            db.objects(state).filter(pk__in=ids)._raw_delete(db.alias)


def dotted(version: tuple[int, ...]) -> str:
    """Write a version as people do."""
    return ".".join(map(str, version))


def distinct_selectors(selectors: Sequence[str]) -> tuple[str, ...]:
    """Return selectors in order without repeats; what follows "*" can match nothing more."""
    distinct = tuple(dict.fromkeys(selectors))
    return distinct[: distinct.index("*") + 1] if "*" in distinct else distinct


def held(row: Any, job_id: UUID, process_id: UUID, token: UUID, now: datetime) -> ClaimedExecution:
    """Build the claimed row of a job from a row with its backend, queue, priority and attempt."""
    return ClaimedExecution(
        job_id=job_id,
        backend=row.backend,
        queue_name=row.queue_name,
        priority=row.priority,
        attempt=row.attempt,
        process_id=process_id,
        claim_token=token,
        claimed_at=now,
    )


def attach(claimed: ClaimedExecution, job: Job) -> None:
    """Give a claimed row the job that was loaded with it."""
    claimed._state.db = job._state.db
    ClaimedExecution._meta.get_field("job").set_cached_value(claimed, job)


def _table(row: models.Model) -> str:
    return row._meta.db_table


def _matching(selector: str) -> dict[str, str]:
    if selector == "*":
        return {}
    if selector.endswith("*"):
        return {"queue_name__startswith": selector[:-1]}
    return {"queue_name": selector}
