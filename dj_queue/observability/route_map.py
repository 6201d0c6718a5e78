"""The map: backend → alias → physical database, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.core.checks import ERROR, CheckMessage
from django.db import connections
from django.db.models import Count

from dj_queue.checks import LIVE, STATIC, missing_tables, unapplied_migrations
from dj_queue.checks.live import check_reachable, unreachable
from dj_queue.checks.places import asked_place, shared_places
from dj_queue.checks.routing import who_answers
from dj_queue.engines import engine_for
from dj_queue.engines.places import Place
from dj_queue.models import FailedExecution, ReadyExecution
from dj_queue.routers import Database
from dj_queue.routers.registry import (
    APPLICATION_ALIAS,
    databases,
    is_queue_database,
    physical,
    routes,
)
from dj_queue.routers.survey import AWAY, survey


@dataclass
class DatabaseFacts:
    """One queue database: its address from the settings, the rest as it answered."""

    alias: str
    address: str | None
    is_reachable: bool = False
    server: str | None = None
    isolation: str | None = None
    missing_tables: list[str] = field(default_factory=list)
    unapplied_migrations: list[str] = field(default_factory=list)


@dataclass
class BackendFacts:
    """One backend: where its jobs live, who says so, what waits; counts are None if unknown."""

    backend: str
    database: str
    reads_answered_by: str
    writes_answered_by: str
    enqueue: str
    ready: int | None = None
    failed: int | None = None


@dataclass(frozen=True)
class Problem:
    """A finding of a system check."""

    id: str
    level: str
    message: str
    hint: str

    @classmethod
    def of(cls, found: CheckMessage) -> Problem:
        """Take it over from Django."""
        level = "error" if found.level >= ERROR else "warning"
        return cls(found.id or "", level, str(found.msg), str(found.hint or ""))


@dataclass
class RouteMap:
    """The whole map; `problems` is empty when nothing is wrong."""

    backends: list[BackendFacts]
    databases: list[DatabaseFacts]
    problems: list[Problem]

    def as_json(self) -> dict[str, Any]:
        """Return the documented form: lists of objects under three names."""
        return asdict(self)


@dataclass
class _Answer:
    """What one database's thread found out."""

    facts: DatabaseFacts
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    found: list[CheckMessage] = field(default_factory=list)
    place: Place | None = None


def draw_map(*, seconds: float) -> RouteMap:
    """Ask every database at once, each for at most `seconds`; one that is silent is a row too.

    Databases that no backend uses are asked as well: jobs may be stranded there. Checks that
    SILENCED_SYSTEM_CHECKS names are left out.
    """
    answers = _ask([*connections], seconds)
    found = [message for check in STATIC for message in check()]
    found += [message for answer in answers.values() for message in answer.found]
    found += shared_places({alias: answer.place for alias, answer in answers.items()})
    return RouteMap(
        backends=[_backend(name, answers) for name in routes()],
        databases=[
            answers[alias].facts if alias in answers else DatabaseFacts(alias, None)
            for alias in databases()
        ],
        problems=[Problem.of(message) for message in found if not message.is_silenced()],
    )


def _ask(aliases: Sequence[str], seconds: float) -> dict[str, _Answer]:
    replies = survey(aliases, _examine, seconds=seconds)
    return {
        alias: reply.answer or _unreachable(alias, reply.error) for alias, reply in replies.items()
    }


def _unreachable(alias: str, error: str) -> _Answer:
    answer = _Answer(_facts(alias))
    if is_queue_database(alias):
        answer.found = [unreachable(alias, error)]
    return answer


def _facts(alias: str) -> DatabaseFacts:
    return DatabaseFacts(alias, str(physical(alias)))


def _examine(alias: str) -> _Answer:
    answer = _Answer(_facts(alias))
    answer.found = list(check_reachable(databases=[alias]))
    if answer.found:
        return answer
    try:
        for check in LIVE:
            answer.found += check(databases=[alias])
        answer.place = asked_place(alias)
        if is_queue_database(alias):
            _describe(answer)
    except AWAY as error:
        answer.found.append(unreachable(alias, error))
    return answer


def _describe(answer: _Answer) -> None:
    facts = answer.facts
    db = Database(facts.alias)
    server = engine_for(db).server(db)
    facts.server, facts.isolation = str(server), server.isolation
    facts.missing_tables = missing_tables(facts.alias)
    facts.unapplied_migrations = unapplied_migrations(facts.alias)
    if not facts.missing_tables:
        for state in (ReadyExecution, FailedExecution):
            rows = db.objects(state).values_list("backend").annotate(Count("pk"))
            answer.counts[state.state] = dict(rows)
    facts.is_reachable = True


def _backend(name: str, answers: dict[str, _Answer]) -> BackendFacts:
    route = routes()[name]
    reader = writer = ""
    if route.alias in connections.databases:
        reader, writer = (who_answers(name, f"db_for_{it}")[0] for it in ("read", "write"))
    db = Database(route.alias).for_backend(name)
    facts = BackendFacts(name, route.alias, reader, writer, db.guarantee(APPLICATION_ALIAS))
    counts = answers[route.alias].counts if route.alias in answers else {}
    if counts:
        facts.ready = counts["ready"].get(name, 0)
        facts.failed = counts["failed"].get(name, 0)
    return facts
