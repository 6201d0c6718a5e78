"""Names and values for statements written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

from django.db.models import Model, UUIDField

from dj_queue.models.fields import (
    JSONTextField,
    MomentField,
    UTCDateTimeField,
    readable_moment,
)
from dj_queue.routers import Database

Row = TypeVar("Row", bound=Model)

KEPT_CONVERTERS = "dj_queue_converters"
CONVERTED = (UUIDField, UTCDateTimeField, JSONTextField)
"""The columns whose Python value is not what every driver takes."""


def table(model: type[Model]) -> str:
    """Return the table's name; ours need no quotes on any vendor."""
    return model._meta.db_table


@cache
def columns(model: type[Model], prefix: str = "") -> str:
    """Return all columns, separated by commas, each behind `prefix`."""
    return ", ".join(f"{prefix}{field.column}" for field in model._meta.concrete_fields)


@cache
def readable_columns(model: type[Model], prefix: str = "") -> str:
    """Return all columns as `columns`, for reading on PostgreSQL: moments within the calendar."""
    return ", ".join(
        f"{readable_moment(f'{prefix}{field.column}')} AS {field.column}"
        if isinstance(field, MomentField)
        else f"{prefix}{field.column}"
        for field in model._meta.concrete_fields
    )


def marks(count: int) -> str:
    """Return that many placeholders, separated by commas."""
    return ", ".join(["%s"] * count)


def prepared(db: Database, model: type[Model], name: str, values: Iterable[Any]) -> list[Any]:
    """Return Python values as the driver of `db` wants them for that field."""
    [(_, converting)] = _fields(model, (name,))
    return _prepared(converting, values, db.connection)


def prepared_columns(
    db: Database, model: type[Model], rows: Sequence[Model], names: tuple[str, ...] = ()
) -> list[list[Any]]:
    """Return the rows' values as the driver wants them, a list per column.

    In the order of `names`, or of `columns`.
    """
    connection, found = db.connection, [vars(row) for row in rows]
    return [
        _prepared(converting, [row[name] for row in found], connection)
        for name, converting in _fields(model, names)
    ]


def fetched(db: Database, model: type[Row], sql: str, params: Sequence[Any]) -> list[Row]:
    """Run a statement that gives the `columns` of a model; return the rows.

    Not the manager's raw(): finding out what the columns are costs it as much as a round trip.
    """
    with db.cursor() as cursor:
        cursor.execute(sql, params)
        return list(rows_of(db, model, cursor.fetchall()))


def rows_of(db: Database, model: type[Row], values: Iterable[Sequence[Any]]) -> Iterator[Row]:
    """Make rows of what the driver of `db` gave, in the order of `columns`."""
    connection = db.connection
    converters = _converters(db, model, connection).items()
    names = [field.attname for field in model._meta.concrete_fields]
    for row in map(list, values):
        for place, (functions, column) in converters:
            for function in functions:
                row[place] = function(row[place], column, connection)
        yield model.from_db(db.alias, names, row)


def _converters(db: Database, model: type[Model], connection: Any) -> dict[int, Any]:
    """Return Django's converters of the columns of a model, by place.

    Kept with the connection that they belong to: to find them costs a tenth of a finish.
    """
    known: dict[type[Model], Any] = vars(connection).setdefault(KEPT_CONVERTERS, {})
    if model not in known:
        compiler = db.objects(model).query.get_compiler(db.alias)
        fields = model._meta.concrete_fields
        known[model] = compiler.get_converters([each.get_col(table(model)) for each in fields])
    return known[model]


@cache
def _fields(model: type[Model], names: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Return attributes of a model, each with the field that converts its values, if one has to."""
    fields: Sequence[Any] = model._meta.concrete_fields
    if names:
        fields = [model._meta.get_field(name) for name in names]
    targets = [field.target_field if field.is_relation else field for field in fields]
    return [
        (field.attname, target if isinstance(target, CONVERTED) else None)
        for field, target in zip(fields, targets, strict=True)
    ]


def _prepared(converting: Any, values: Iterable[Any], connection: Any) -> list[Any]:
    if converting is None:
        return list(values)
    return [converting.get_db_prep_save(value, connection) for value in values]
