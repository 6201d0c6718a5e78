"""All queue databases at a glance: each asked in a thread of its own, within a time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from django.db import connections

from dj_queue.checks.live import AWAY
from dj_queue.engines import engine_for
from dj_queue.engines.base import Server
from dj_queue.engines.tallies import Count, longest_waiting, tally
from dj_queue.models import FailedExecution, ReadyExecution
from dj_queue.observability.control import read_processes
from dj_queue.observability.queues import CAP, waiting_seconds
from dj_queue.observability.rows import ProcessRow, total
from dj_queue.routers import QueueDatabase
from dj_queue.routers.registry import APPLICATION_ALIAS, backends_on, databases, routes

SECONDS = 1.5
"""How long a page waits for a database."""


@dataclass(frozen=True)
class Outage:
    """A database that gave no answer: since when, as this process knows it, and what it said."""

    since: datetime
    error: str


@dataclass(frozen=True)
class BackendRow:
    """A backend and its database; without numbers while the database is away."""

    backend: str
    database: str
    guarantee: str
    server: str = ""
    outage: Outage | None = None
    ready: Count | None = None
    failed: Count | None = None
    latency_seconds: float | None = None
    live_worker_count: int | None = None

    @property
    def is_reachable(self) -> bool:
        """Whether the database answered in time."""
        return self.outage is None


@dataclass
class Answer:
    """What one database's thread found out."""

    server: Server | None = None
    rows: dict[str, BackendRow] = field(default_factory=dict)
    error: str = ""


Question = Callable[[str, datetime], Answer]
"""Asks the database of an alias."""

_lock = threading.Lock()
_asking: dict[str, threading.Thread] = {}
_away_since: dict[str, datetime] = {}


def backend_rows(
    *, now: datetime, seconds: float = SECONDS, but: str | None = None
) -> list[BackendRow]:
    """Ask every queue database at once, each for at most `seconds`; a row for each backend.

    The backend `but` is not counted: who knows its numbers anyway fills them in.
    """
    answers = ask(databases(), partial(_look, but=but), now=now, seconds=seconds)
    rows = []
    for route in routes().values():
        answer = answers[route.alias]
        if isinstance(answer, Outage):
            db = QueueDatabase(route.backend, route.alias)
            guarantee = db.guarantee(APPLICATION_ALIAS)
            rows.append(BackendRow(route.backend, route.alias, guarantee, outage=answer))
        else:
            rows.append(answer.rows[route.backend])
    return rows


def outage_of(db: QueueDatabase, *, now: datetime, seconds: float = SECONDS) -> Outage | None:
    """Tell whether a database answers, without waiting for it longer than `seconds`."""
    answer = ask([db.alias], partial(_greet, backend=db.backend), now=now, seconds=seconds)[
        db.alias
    ]
    return answer if isinstance(answer, Outage) else None


def ask(
    aliases: Sequence[str], question: Question, *, now: datetime, seconds: float
) -> Mapping[str, Answer | Outage]:
    """Ask several databases at the same time; one that is still being asked is not asked again."""
    published: dict[str, Answer] = {}

    def work(alias: str) -> None:
        try:
            published[alias] = _asked(alias, question, now)
        finally:
            with _lock:
                _asking.pop(alias, None)

    started = []
    for alias in aliases:
        with _lock:
            if alias in _asking:
                continue
            # A daemon: one that hangs in a connect must not keep the process from ending.
            thread = threading.Thread(target=work, args=[alias], daemon=True)
            _asking[alias] = thread
        thread.start()
        started.append(thread)
    deadline = time.monotonic() + seconds
    for thread in started:
        thread.join(max(0.0, deadline - time.monotonic()))
    in_time = dict(published)
    return {alias: _judged(alias, in_time.get(alias), now, seconds) for alias in aliases}


def _asked(alias: str, question: Question, now: datetime) -> Answer:
    try:
        return question(alias, now)
    except AWAY as error:
        return Answer(error=" ".join(str(error).split()) or type(error).__name__)
    finally:
        connections[alias].close()


def _judged(alias: str, answer: Answer | None, now: datetime, seconds: float) -> Answer | Outage:
    if answer is not None and not answer.error:
        _away_since.pop(alias, None)
        return answer
    said = f"nothing within {seconds:g} s" if answer is None else answer.error
    return Outage(_away_since.setdefault(alias, now), said)


def _greet(alias: str, now: datetime, *, backend: str) -> Answer:
    QueueDatabase(backend, alias).objects(ReadyExecution).filter(backend=backend).exists()
    return Answer()


def _look(alias: str, now: datetime, *, but: str | None) -> Answer:
    first = QueueDatabase(backends_on(alias)[0], alias)
    answer = Answer(engine_for(first).server(first))
    processes = read_processes(first, now=now)
    for backend in backends_on(alias):
        db = QueueDatabase(backend, alias)
        row = BackendRow(
            backend,
            alias,
            db.guarantee(APPLICATION_ALIAS),
            server=str(answer.server),
            live_worker_count=live_workers(db, processes),
        )
        answer.rows[backend] = row if backend == but else _counted(db, row, now)
    return answer


def _counted(db: QueueDatabase, row: BackendRow, now: datetime) -> BackendRow:
    waiting = waiting_seconds(longest_waiting(db), now=now)
    return replace(
        row,
        ready=total(list(tally(db, ReadyExecution, cap=CAP).values())),
        failed=total(list(tally(db, FailedExecution, cap=CAP).values())),
        latency_seconds=max(waiting.values(), default=None),
    )


def live_workers(db: QueueDatabase, processes: Sequence[ProcessRow]) -> int:
    """Count the live workers of the backend."""
    return sum(
        each.is_live and each.kind == "worker" and each.backend == db.backend for each in processes
    )
