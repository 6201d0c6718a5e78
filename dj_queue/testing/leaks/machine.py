"""A Hypothesis state machine that shows whether a stack of routers keeps rows on their database."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from django.db import router
from django.db.models import Prefetch, QuerySet, prefetch_related_objects
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, multiple, precondition, rule

from dj_queue.models import Attempt, Job, Pause, ReadyExecution
from dj_queue.routers import use_backend
from dj_queue.testing.leaks.watch import (
    MODELS,
    TOUCH,
    Leak,
    LeakWatch,
    bare,
    columns_of,
    related,
    touch,
)

ONE = {Job: ("readyexecution",), ReadyExecution: ("job",), Attempt: ("job",), Pause: ()}
RELATIONS = {**ONE, Job: ("readyexecution", "attempts")}

EVALUATE: dict[str, Callable[[QuerySet], Any]] = {
    "list": list,
    "exists": lambda rows: rows.exists(),
    "count": lambda rows: rows.count(),
    "first": lambda rows: rows.first(),
    "iterator": lambda rows: list(rows.iterator(chunk_size=10)),
    "in_bulk": lambda rows: rows.in_bulk(),
    "update": lambda rows: rows.update(**{TOUCH[rows.model]: touch(rows.model, 8)}),
}
REFINE: dict[str, Callable[[QuerySet], QuerySet]] = {
    "all": lambda rows: rows.all(),
    "filter": lambda rows: rows.filter(pk__isnull=False),
    "order": lambda rows: rows.order_by("-pk"),
    "defer": lambda rows: rows.defer(TOUCH[rows.model]),
    "join": lambda rows: rows.select_related(*ONE[rows.model]) if ONE[rows.model] else rows,
}

a_model = st.sampled_from(MODELS)
a_number = st.integers(0, 1)
a_backend = st.runner().flatmap(lambda machine: st.sampled_from(machine.backends))
an_alias = st.runner().flatmap(lambda machine: st.sampled_from(machine.aliases))
an_application_model = st.runner().flatmap(
    lambda machine: st.sampled_from(machine.application_models)
)


class LeakMachine(LeakWatch):
    """Does with rows what Django can do; each rule says where its statements must go.

    A subclass may add rules: `at(alias, work)` does some work that must send all of its statements
    to `alias`, or be refused when that is None.
    """

    rows = Bundle("rows")
    jobs = Bundle("jobs")
    lazy = Bundle("lazy")

    # Contexts

    @initialize(backends=st.lists(a_backend, max_size=2))
    def begin(self, backends: list[str]) -> None:
        for backend in backends:
            self.enter(backend)

    @precondition(lambda self: len(self.contexts) < 4)
    @rule(backend=a_backend)
    def enter(self, backend: str) -> None:
        context = use_backend(backend)
        context.__enter__()
        self.contexts.append((context, self.home[backend]))

    @precondition(lambda self: self.contexts)
    @rule()
    def leave(self) -> None:
        self.contexts.pop()[0].__exit__(None, None, None)

    @precondition(lambda self: self.application_models)
    @rule(model=an_application_model)
    def ask_application(self, model: Any) -> None:
        """No context draws the rows of other apps into a queue database."""
        home, label = self.application_alias, model._meta.label
        if (alias := router.db_for_write(model)) != home:
            raise Leak(f"expected {label} to be written to {home}, got {alias}")
        if (alias := router.db_for_read(model)) != home and alias in self.aliases:
            raise Leak(f"expected {label} to be read from {home}, got {alias}")

    # Rows in hand

    @rule(
        target=rows,
        model=a_model,
        alias=an_alias,
        number=a_number,
        refine=st.sampled_from([*REFINE]),
    )
    def load(self, model: Any, alias: str, number: int, refine: str) -> Any:
        rows = REFINE[refine](self.known(model, alias, number))
        return self.look_at(self.at(alias, lambda: list(rows)))

    @initialize(targets=(rows, jobs), alias=an_alias, number=a_number)
    def load_first_job(self, alias: str, number: int) -> Any:
        return self.load_job(alias, number)

    @rule(targets=(rows, jobs), alias=an_alias, number=a_number)
    def load_job(self, alias: str, number: int) -> Any:
        return self.look_at(self.at(alias, lambda: list(self.known(Job, alias, number))))

    @rule(target=rows, model=a_model, number=a_number)
    def load_unnamed(self, model: Any, number: int) -> Any:
        return self.look_at(self.at(self.unnamed, lambda: list(self.known(model, None, number))))

    @rule(row=rows, value=st.integers(1, 99), partly=st.booleans())
    def save(self, row: Any, value: int, partly: bool) -> None:
        setattr(row, TOUCH[type(row)], touch(type(row), value))
        fields = [TOUCH[type(row)]] if partly else None
        self.at(row._state.db, lambda: row.save(update_fields=fields))

    @rule(row=rows, fields=st.booleans(), given=st.booleans())
    def refresh(self, row: Any, fields: bool, given: bool) -> None:
        names = [TOUCH[type(row)]] if fields else None
        rows = type(row).objects.all() if given else None
        self.at(row._state.db, lambda: row.refresh_from_db(fields=names, from_queryset=rows))
        self.look_at([row])

    @rule(row=rows)
    def read_deferred(self, row: Any) -> None:
        names = row.get_deferred_fields()
        self.at(row._state.db, lambda: [getattr(row, name) for name in names], quiet=True)

    @rule(row=rows)
    def delete(self, row: Any) -> None:
        # A copy: Django takes the primary key from what it deleted.
        self.at(row._state.db, lambda: copy.copy(row).delete())

    @rule(row=rows)
    def clean(self, row: Any) -> None:
        self.at(row._state.db, row.full_clean, quiet=True)

    @rule(backend=a_backend, model=st.sampled_from([Job, ReadyExecution]))
    def clean_new(self, backend: str, model: Any) -> None:
        alias = self.home[backend]
        row = self.build(model, alias)
        self.at(alias if self.active in (None, alias) else None, row.full_clean)

    # Relations

    @rule(target=rows, row=rows, last=st.booleans())
    def follow(self, row: Any, last: bool) -> Any:
        names = RELATIONS[type(row)]
        if not names:
            return multiple()
        row = bare(row)
        return self.look_at(self.at(row._state.db, lambda: related(row, names[-last])))

    @rule(target=rows, row=rows, last=st.booleans(), given=st.booleans())
    def prefetch(self, row: Any, last: bool, given: bool) -> Any:
        names = RELATIONS[type(row)]
        if not names:
            return multiple()
        row, name = bare(row), names[-last]
        lookup: str | Prefetch = name
        if given:  # The queryset is built here, in whatever context this is.
            model = row._meta.get_field(name).related_model
            lookup = Prefetch(name, queryset=model.objects.all())
        self.at(row._state.db, lambda: prefetch_related_objects([row], lookup))
        return self.look_at(self.at(row._state.db, lambda: related(row, name), quiet=True))

    @rule(target=rows, job=jobs, alias=an_alias)
    def create_for_job(self, job: Any, alias: str) -> Any:
        row = self.build(Attempt, job._state.db)
        row.job = job
        self.at(job._state.db, row.save)
        return self.look_at([row])

    @rule(job=jobs, how=st.sampled_from(["create", "get_or_create", "update_or_create"]))
    def create_by_job(self, job: Any, how: str) -> None:
        new = self.build(Attempt, job._state.db)
        columns = columns_of(new)
        columns.pop("job_id")
        self.at(job._state.db, lambda: getattr(job.attempts, how)(**columns))

    @rule(job=jobs, how=st.sampled_from([*EVALUATE]))
    def ask_by_job(self, job: Any, how: str) -> None:
        self.at(job._state.db, lambda: EVALUATE[how](bare(job).attempts.all()))

    @rule(job=jobs, model=st.sampled_from([ReadyExecution, Attempt]), alias=an_alias)
    def relate_to_stranger(self, job: Any, model: Any, alias: str) -> None:
        row, there = self.build(model, alias), model.objects.using(alias)
        model._meta.get_field("job").set_cached_value(row, job)
        if alias != job._state.db:
            self.at(None, lambda: row.save(using=alias))
            self.at(None, lambda: there.bulk_create([row]))

    # New rows and bulk

    @rule(target=rows, backend=a_backend, model=st.sampled_from([Job, ReadyExecution]))
    def create_by_backend(self, backend: str, model: Any) -> Any:
        alias = self.home[backend]
        row = self.build(model, alias)
        self.at(alias if self.active in (None, alias) else None, row.save)
        return self.look_at([row] if row._state.db else [])

    @rule(model=a_model, alias=an_alias, bulk=st.booleans())
    def create_unnamed(self, model: Any, alias: str, bulk: bool) -> None:
        row = self.build(model, alias)
        columns = columns_of(row)
        if self.unnamed not in (alias, None) and not hasattr(row, "backend"):
            return  # Nothing says that this row belongs elsewhere but our mark in it.
        where = alias if self.unnamed == alias else None
        if bulk:
            self.at(where, lambda: model.objects.bulk_create([row]))
        else:
            self.at(where, lambda: model.objects.create(**columns))

    @rule(row=rows, value=st.integers(1, 99))
    def bulk_update(self, row: Any, value: int) -> None:
        name, alias = TOUCH[type(row)], row._state.db
        setattr(row, name, touch(type(row), value))
        where = alias if self.unnamed == alias else None
        self.at(where, lambda: type(row).objects.bulk_update([row], [name]))
        self.at(alias, lambda: type(row).objects.using(alias).bulk_update([row], [name]))

    @rule(
        model=a_model, alias=st.none() | an_alias, number=a_number, how=st.sampled_from([*EVALUATE])
    )
    def ask(self, model: Any, alias: str | None, number: int, how: str) -> None:
        where = alias or self.unnamed
        self.at(where, lambda: EVALUATE[how](self.known(model, alias, number)))

    @rule(model=a_model, alias=st.none() | an_alias, number=a_number)
    def delete_by_query(self, model: Any, alias: str | None, number: int) -> None:
        self.at(alias or self.unnamed, lambda: self.known(model, alias, number).delete())

    # Querysets kept for later

    @rule(target=lazy, model=a_model, alias=st.none() | an_alias, number=a_number)
    def build_lazily(self, model: Any, alias: str | None, number: int) -> Any:
        return self.known(model, alias, number), alias or self.active

    @initialize(target=lazy, model=a_model, backend=a_backend, number=a_number)
    def build_lazily_inside(self, model: Any, backend: str, number: int) -> Any:
        with use_backend(backend):
            return self.known(model, None, number), self.home[backend]

    @rule(target=lazy, job=jobs)
    def build_lazily_by_job(self, job: Any) -> Any:
        return bare(job).attempts.all(), job._state.db

    @rule(target=lazy, kept=lazy, refine=st.sampled_from([*REFINE]))
    def refine(self, kept: Any, refine: str) -> Any:
        return REFINE[refine](kept[0]), kept[1]

    @rule(kept=lazy, how=st.sampled_from([*EVALUATE]))
    def evaluate(self, kept: Any, how: str) -> None:
        rows, alias = kept
        self.at(alias or self.unnamed, lambda: EVALUATE[how](rows.all()))
