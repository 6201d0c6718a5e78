"""The base of every table: querysets that stay on their database and rows that refuse to stray."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

from django.db import models, router

from dj_queue.exceptions import CrossDatabaseRelation
from dj_queue.routers import use_backend
from dj_queue.routers.context import active_alias
from dj_queue.routers.registry import backends_on


class QueueQuerySet(models.QuerySet):
    """A queryset whose bulk_create refuses rows that refer to another database."""

    def bulk_create(self, objs: Iterable[Any], *args: Any, **kwargs: Any) -> list[Any]:
        rows = list(objs)
        for row in rows:
            row.refuse_strangers(self.db)
        return super().bulk_create(rows, *args, **kwargs)


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
        return queryset.using(alias)


class QueueModel(models.Model):
    """A table of the queue database."""

    objects = QueueManager()

    class Meta:
        abstract = True
        base_manager_name = "objects"

    def save(self, *args: Any, using: str | None = None, **kwargs: Any) -> None:
        using = using or router.db_for_write(type(self), instance=self)
        self.refuse_strangers(using)
        super().save(*args, using=using, **kwargs)

    def refuse_strangers(self, using: str) -> None:
        """Raise CrossDatabaseRelation when a related row in hand is not one of `using`."""
        for field in self._meta.concrete_fields:
            related = self._state.fields_cache.get(field.name) if field.is_relation else None
            if related is not None and related._state.db not in (None, using):
                raise CrossDatabaseRelation(
                    f"expected {self._meta.label}.{field.name} to be a row of {using!r}, where "
                    f"this row is saved, got one of {related._state.db!r}"
                )

    def validate_unique(self, exclude: Any = None) -> None:
        # Django looks for duplicates through a manager without a hint.
        backends = backends_on(self._state.db) if self._state.db else ()
        with use_backend(backends[0]) if backends else nullcontext():
            super().validate_unique(exclude)
