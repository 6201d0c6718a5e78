"""Names and values for statements written by hand."""

from __future__ import annotations

from typing import Any

from django.db.models import Model

from dj_queue.routers import QueueDatabase


def table(model: type[Model]) -> str:
    """Return the table's name; ours need no quotes on any vendor."""
    return model._meta.db_table


def columns(model: type[Model], prefix: str = "") -> str:
    """Return all columns, separated by commas, each behind `prefix`."""
    return ", ".join(f"{prefix}{field.column}" for field in model._meta.concrete_fields)


def prepared(db: QueueDatabase, model: type[Model], field: str, value: Any) -> Any:
    """Return a Python value as the driver of `db` wants it for that field."""
    return model._meta.get_field(field).get_db_prep_save(value, db.connection)  # type: ignore[union-attr]


def row_of(db: QueueDatabase, row: Model) -> tuple[Any, ...]:
    """Return a row's values in the order of `columns`, as the driver wants them."""
    return tuple(
        field.get_db_prep_save(getattr(row, field.attname), db.connection)
        for field in row._meta.concrete_fields
    )
