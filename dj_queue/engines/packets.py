"""Inserts as MySQL and MariaDB take them: none too long, and several in one round trip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.db import Error, models

from dj_queue.engines.base import by_table
from dj_queue.engines.open_transactions import has_ended
from dj_queue.engines.sql import columns, marks, prepared_columns, table
from dj_queue.routers import Database

# What is sent at once must fit into max_allowed_packet: 16 MB where MariaDB is not told otherwise,
# less on some servers.
MOST_BYTES = 4_000_000
SHORT = 32  # what a number, a time or NULL needs at most


@dataclass(frozen=True)
class Statement:
    """SQL and its parameters, and the bytes of both on the wire, at most."""

    sql: str
    params: list[Any]
    size: int

    @classmethod
    def of(cls, sql: str, params: list[Any]) -> Statement:
        """Return a statement that is not cut: the caller knows it to be short."""
        return cls(sql, params, len(sql) + sum(map(_size, params)))


START, COMMIT = (Statement(word, [], SHORT) for word in ("START TRANSACTION", "COMMIT"))


def inserts(db: Database, rows: Iterable[models.Model]) -> Iterator[Statement]:
    """Return statements that insert these rows: one per table, more where it would be too long."""
    for model, group in by_table(rows):
        into = f"INSERT INTO {table(model)} ({columns(model)}) VALUES "
        values = zip(*prepared_columns(db, model, group), strict=True)
        for slice_, size in _slices(values):
            row = f"({marks(len(slice_[0]))})"
            sql = into + ", ".join([row] * len(slice_))
            yield Statement(sql, [each for row in slice_ for each in row], len(into) + size)


def send(db: Database, statements: Sequence[Statement]) -> None:
    """Run statements in one round trip where they fit into it. Needs an open transaction."""
    for group in [statements] if _fit(db, statements) else [[each] for each in statements]:
        if group:
            _send_at_once(db, group)


def may_send_as_transaction(db: Database, statements: Sequence[Statement]) -> bool:
    """Tell whether statements fit into one round trip, and no transaction has to be joined."""
    connection = db.connection
    is_alone = not connection.in_atomic_block and connection.get_autocommit()
    return is_alone and _fit(db, statements)


def send_as_transaction(db: Database, statements: Sequence[Statement]) -> None:
    """Run statements as one transaction, in one round trip instead of one for each and three."""
    try:
        _send_at_once(db, [START, *statements, COMMIT])
    except BaseException:
        _roll_back(db)
        raise
    has_ended(db.connection)


def _fit(db: Database, statements: Sequence[Statement]) -> bool:
    is_multi = db.connection.settings_dict["OPTIONS"].get("multi_statements", True)
    return is_multi and sum(each.size for each in statements) <= MOST_BYTES


def _send_at_once(db: Database, statements: Sequence[Statement]) -> None:
    """Run statements in one round trip. The server stops at the first that fails."""
    with db.cursor() as cursor:
        cursor.execute(
            "; ".join(each.sql for each in statements),
            [value for each in statements for value in each.params],
        )
        while cursor.nextset():
            pass


def _roll_back(db: Database) -> None:
    """Leave no transaction open, of which Django does not know."""
    is_undone = False
    try:
        with suppress(Error):
            db.connection.rollback()
            is_undone = True
    finally:
        if not is_undone:  # The server does it, when the connection is gone.
            db.connection.close()


def _slices(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[list[tuple[Any, ...]], int]]:
    """Cut rows into lists that fit into one statement, with the bytes of each; mostly one."""
    slice_: list[tuple[Any, ...]] = []
    total = 0
    for row in rows:
        size = sum(map(_size, row))
        if slice_ and total + size > MOST_BYTES:
            yield slice_, total
            slice_, total = [], 0
        slice_.append(row)
        total += size
    if slice_:
        yield slice_, total


def _size(value: Any) -> int:
    if not isinstance(value, str):
        return SHORT
    # With quotes, comma and parenthesis; each byte may be escaped with another. What cannot be
    # encoded fails where it is sent.
    return 2 * len(value.encode(errors="surrogatepass")) + 6
