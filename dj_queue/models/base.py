"""The base of every table: querysets that stay on their database and rows that refuse to stray."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, ClassVar

from django.db import models, router

from dj_queue.exceptions import CrossDatabaseRelation, WrongDatabase
from dj_queue.routers import use_backend
from dj_queue.routers.context import active_alias
from dj_queue.routers.registry import backends_on, require_installed, routes

# Before the first model: Django's own error would not say what to add where.
require_installed()


class QueueQuerySet(models.QuerySet):
    """A queryset whose bulk writes refuse rows of another database.

    Its database may be pinned by the context it was built in: a row that turns up later, as
    prefetching and refresh_from_db add it, says better where to look.
    """

    _pinned = False

    def using(self, alias: str | None) -> QueueQuerySet:
        queryset = super().using(alias)
        queryset._pinned = False
        return queryset

    def bulk_create(self, objs: Iterable[Any], *args: Any, **kwargs: Any) -> list[Any]:
        rows = list(objs)
        self._for_write = True
        using = self.db if rows else ""
        for row in rows:
            row.refuse_strangers(using)
        return super().bulk_create(rows, *args, **kwargs)

    def bulk_update(self, objs: Iterable[Any], *args: Any, **kwargs: Any) -> int:
        rows = list(objs)
        self._for_write = True
        using = self.db if rows else ""
        for row in rows:
            if row._state.db not in (None, using):
                raise WrongDatabase(
                    f"expected rows of {using!r}, where they are updated, got a "
                    f"{type(row).__name__} of {row._state.db!r}"
                )
            row.refuse_strangers(using)
        return super().bulk_update(rows, *args, **kwargs)

    def _pin(self, alias: str) -> QueueQuerySet:
        """Return the queryset for `alias`, until a row says otherwise."""
        pinned = self.using(alias)
        pinned._pinned = True
        return pinned

    def _clone(self) -> QueueQuerySet:
        clone = super()._clone()  # type: ignore[misc]
        clone._pinned = self._pinned
        return clone

    def _add_hints(self, **hints: Any) -> None:
        super()._add_hints(**hints)  # type: ignore[misc]
        if self._pinned and "instance" in hints:
            self._db, self._pinned = None, False


class QueueManager(models.Manager.from_queryset(QueueQuerySet)):  # type: ignore[misc]
    """Pins the active `use_backend` when a queryset is built.

    So one made inside the block and evaluated outside stays where it was. Managers of related
    rows (they have an `instance`) and hinted ones follow their row instead: a pin would hide it.
    """

    def get_queryset(self) -> Any:
        queryset = super().get_queryset()
        alias = active_alias()
        if alias is None or self._db or self._hints or hasattr(self, "instance"):
            return queryset
        return queryset._pin(alias)


class QueueModel(models.Model):
    """A table of the queue database."""

    objects = QueueManager()

    class Meta:
        abstract = True
        base_manager_name = "objects"
        # Tables whose rows the dashboard shows have the permission to view them.
        default_permissions: ClassVar[tuple[str, ...]] = ()

    def save(self, *args: Any, using: str | None = None, **kwargs: Any) -> None:
        using = using or router.db_for_write(type(self), instance=self)
        self.refuse_strangers(using)
        super().save(*args, using=using, **kwargs)

    def refresh_from_db(
        self, using: str | None = None, fields: Any = None, from_queryset: Any = None
    ) -> None:
        if from_queryset is not None:
            from_queryset = from_queryset.all()
            from_queryset._add_hints(instance=self)
        super().refresh_from_db(using=using, fields=fields, from_queryset=from_queryset)

    def refuse_strangers(self, using: str) -> None:
        """Raise when this row, or a related row in hand, belongs elsewhere than on `using`.

        WrongDatabase for a new row of a backend that lives elsewhere, CrossDatabaseRelation for
        the related one.
        """
        is_new = self._state.adding or self._state.db != using
        route = routes().get(getattr(self, "backend", "")) if is_new else None
        if route is not None and route.alias != using:
            raise WrongDatabase(
                f"expected a {type(self).__name__} of a backend on {using!r}, where it is saved, "
                f"got one of backend {route.backend!r}, which lives on {route.alias!r}"
            )
        for field in self._meta.concrete_fields:
            related = self._state.fields_cache.get(field.name) if field.is_relation else None
            if related is not None and related._state.db not in (None, using):
                raise CrossDatabaseRelation(
                    f"expected {self._meta.label}.{field.name} to be a row of {using!r}, where "
                    f"this row is saved, got one of {related._state.db!r}"
                )

    def validate_unique(self, exclude: Any = None) -> None:
        # Django looks for duplicates through a manager without a hint.
        backends = backends_on(router.db_for_read(type(self), instance=self))
        with use_backend(backends[0]) if backends else nullcontext():
            super().validate_unique(exclude)
