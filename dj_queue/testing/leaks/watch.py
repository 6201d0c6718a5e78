"""What a leak machine stands on: marked rows in every queue database and an ear on each alias."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import DatabaseError, connections, router, transaction
from django.db.models import Model, QuerySet
from hypothesis.stateful import RuleBasedStateMachine, multiple

from dj_queue.exceptions import AmbiguousRoute, CrossDatabaseRelation, WrongDatabase
from dj_queue.models import Attempt, Job, Pause, ReadyExecution
from dj_queue.models.ids import new_id
from dj_queue.routers import queue_database, use_backend
from dj_queue.routers.registry import routes, sole_database

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MODELS = (Job, ReadyExecution, Attempt, Pause)
MARK = {Job: "task_path", ReadyExecution: "queue_name", Attempt: "message", Pause: "queue_name"}
TOUCH = {Job: "priority", ReadyExecution: "priority", Attempt: "number", Pause: "paused_at"}
TRANSACTION = ("SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "START TRANSACTION", "COMMIT")


class Leak(AssertionError):
    """A statement, a row or a refusal where another database's was expected."""


class LeakWatch(RuleBasedStateMachine):
    """Puts rows with the same ids into every queue database and watches each statement.

    `backends` are the backends to use, all of TASKS when empty; `application_alias` is where the
    other apps' rows go, all or some of them. Each run is rolled back.
    """

    backends: Sequence[str] = ()
    application_alias: str = "default"

    def __init__(self) -> None:
        super().__init__()
        self.backends = list(self.backends or routes())
        self.application_models = application_models(self.application_alias)
        self.home = {name: queue_database(name).alias for name in self.backends}
        self.aliases = list(dict.fromkeys(self.home.values()))
        self.contexts: list[tuple[use_backend, str]] = []
        self.keys = [(new_id(), new_id(), new_id()) for _ in range(2)]
        self.heard: list[tuple[str, str]] = []
        with ExitStack() as stack:
            for alias in self.aliases:
                stack.enter_context(rolled_back(alias))
                for model in MODELS:
                    rows = [self.build(model, alias, number) for number in range(2)]
                    model.objects.using(alias).bulk_create(rows)
            for alias in connections:
                stack.enter_context(connections[alias].execute_wrapper(self.hear))
            self.stack = stack.pop_all()

    def teardown(self) -> None:
        """Leave every context and look for rows that strayed, then undo all that was done."""
        with self.stack:
            while self.contexts:
                self.contexts.pop()[0].__exit__(None, None, None)
            for alias in self.aliases:
                for model in MODELS:
                    self.look_at(model._base_manager.using(alias))

    def hear(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Note the database of a statement; transactions may be opened anywhere."""
        if not str(sql).startswith(TRANSACTION):
            self.heard.append((context["connection"].alias, str(sql)))
        return execute(sql, params, many, context)

    def at(self, alias: str | None, work: Callable[[], Any], *, quiet: bool = False) -> Any:
        """Do `work` and return its result; all of its statements must go to `alias`.

        When `alias` is None it must be refused without a statement. `quiet` allows none.
        """
        self.heard.clear()
        refused = False
        try:
            with transaction.atomic(using=alias or self.aliases[0]):
                return work()
        except (AmbiguousRoute, CrossDatabaseRelation, WrongDatabase) as error:
            refused = True
            if alias is not None:
                raise Leak(f"expected an answer from {alias}, got a refusal: {error}") from error
        except (ObjectDoesNotExist, ValidationError, DatabaseError):
            return None  # The row was deleted before; where it was looked for is what counts.
        finally:
            self.check(alias, refused=refused, quiet=quiet)

    def check(self, alias: str | None, *, refused: bool, quiet: bool) -> None:
        for heard, sql in self.heard:
            if heard != alias:
                raise Leak(f"expected {alias or 'a refusal'}, got a statement on {heard}: {sql}")
        if alias is None and not refused:
            raise Leak("expected a refusal, got an answer")
        if alias and not (self.heard or quiet or refused):
            raise Leak(f"expected a statement on {alias}, got none")

    def look_at(self, rows: Any) -> Any:
        """Give the rows as a bundle's values; the mark in each must be its database's."""
        found = [row for row in rows or () if isinstance(row, MODELS)]
        for row in found:
            mark = row.__dict__.get(MARK[type(row)], "deferred").rpartition(" ")[0]
            if mark in self.aliases and mark != row._state.db:
                raise Leak(f"expected a row of {row._state.db}, got one written for {mark}")
        return multiple(*found)

    @property
    def active(self) -> str | None:
        """The database of the innermost context."""
        return self.contexts[-1][1] if self.contexts else None

    @property
    def unnamed(self) -> str | None:
        """Where a statement goes that nothing gives a hint; None when it is refused."""
        return self.active or sole_database()

    def build(self, model: type[Model], alias: str, number: int | None = None) -> Any:
        """Give an unsaved row for `alias`: one of the two known ones, or a new one."""
        job, own, name = (new_id(), new_id(), new_id()) if number is None else self.keys[number]
        backend = next(each for each in self.backends if self.home[each] == alias)
        # The end of an id is its random part; the whole one leaves too little room for the alias.
        return unsaved(model, f"{alias} {name.hex[-12:]}", backend, job, own)

    def known(self, model: Any, alias: str | None = None, number: int = 0) -> QuerySet:
        """Give the lazy queryset of a known row, on `alias` or without saying where."""
        manager = model.objects.using(alias) if alias else model.objects
        return manager.filter(pk=self.build(model, self.aliases[0], number).pk)


def application_models(alias: str) -> list[type[Model]]:
    """Give the other apps' models whose rows go to `alias`; raise Leak when none does."""
    others = [model for model in apps.get_models() if model._meta.app_label != Job._meta.app_label]
    found = [model for model in others if router.db_for_write(model) == alias]
    if others and not found:
        astray = f"{others[0]._meta.label} goes to {router.db_for_write(others[0])}"
        raise Leak(f"expected rows of other apps on {alias}, got none of any: {astray}")
    return found


@contextmanager
def rolled_back(alias: str) -> Iterator[None]:
    """Undo what the block did on `alias`."""
    with transaction.atomic(using=alias):
        try:
            yield
        finally:
            transaction.set_rollback(True, using=alias)


def touch(model: type[Model], value: int) -> Any:
    """Give a value for the column that the machine changes."""
    return NOW + timedelta(seconds=value) if model is Pause else value


def bare(row: Any) -> Any:
    """Give a copy of a row that remembers no related one."""
    row = copy.copy(row)
    row._state.fields_cache = {}
    row.__dict__.pop("_prefetched_objects_cache", None)
    return row


def related(row: Any, name: str) -> list[Any]:
    """Load what a relation leads to."""
    value = getattr(row, name)
    return [value] if isinstance(value, Model) else list(value.all())


def columns_of(row: Model) -> dict[str, Any]:
    """Give what a row's columns hold, by name."""
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def unsaved(model: type[Model], mark: str, backend: str, job: UUID, own: UUID) -> Any:
    """Give a row that has `mark` in one of its columns."""
    queued = {"backend": backend, "priority": 0}
    times = {"started_at": NOW, "ended_at": NOW}
    if model is Job:
        call: dict[str, Any] = {"task_path": mark, "args": [mark], "kwargs": {"a": 1}}
        return Job(id=job, queue_name="q", enqueued_at=NOW, **call, **queued)
    if model is ReadyExecution:
        return ReadyExecution(job_id=job, queue_name=mark, **queued)
    if model is Pause:
        return Pause(id=own, queue_name=mark, paused_at=NOW)
    text = {"exception_path": "x", "message": mark, "traceback": "x"}
    return Attempt(id=own, job_id=job, number=1, worker_id=own, **times, **text)
