"""Left open: transactions that a task has begun and not ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, InterfaceError, connections
from django.db.backends.signals import connection_created

from dj_queue.engines.open_transactions import is_open, watch
from dj_queue.events import log
from dj_queue.exceptions import TransactionLeftOpen

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


@contextmanager
def ended_transactions() -> Iterator[None]:
    """Raise TransactionLeftOpen when the block leaves one open, and roll that back in any case.

    The next job in this thread would be part of it, and on SQLite nobody else could write.
    """
    _watch_new_connections()
    depths = {}
    for each in _open_connections():
        depths[each.alias] = len(each.atomic_blocks)
        watch(each)
    try:
        yield
    except BaseException:
        end_and_log_transactions(depths)  # What the task raised says more.
        raise
    end_transactions(depths)


def end_transactions(depths: Mapping[str, int] | None = None) -> None:
    """Roll back this thread's open transactions; raise TransactionLeftOpen if there were any.

    But for so many outer blocks of each alias, which stay.
    """
    left = _end_all(depths or {})
    if left:
        where = ", ".join(map(repr, left))
        raise TransactionLeftOpen(
            f"expected the task to end every transaction it begins, got one left open on {where}"
        )


def end_and_log_transactions(depths: Mapping[str, int] | None = None) -> None:
    """As `end_transactions`, but raise nothing: for where something else is raised."""
    for alias in _end_all(depths or {}):
        log("transaction_left_open", database=alias)


def _end_all(depths: Mapping[str, int]) -> list[str]:
    """Roll back what is open; return on which aliases."""
    all_open = _open_connections()
    return [each.alias for each in all_open if _end_open(each, depths.get(each.alias, 0))]


@cache
def _watch_new_connections() -> None:
    connection_created.connect(_watch, weak=False)


def _watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
    watch(connection)


def _open_connections() -> Sequence[BaseDatabaseWrapper]:
    return connections.all(initialized_only=True)


def _end_open(connection: BaseDatabaseWrapper, depth: int) -> bool:
    """Roll back what is open beyond so many blocks; tell whether anything was."""
    blocks, has_left = connection.atomic_blocks, False
    with suppress(DatabaseError, InterfaceError):
        while len(blocks) > depth:
            has_left = True
            blocks[-1].__exit__(TransactionLeftOpen, TransactionLeftOpen(), None)
        if connection.connection is not None and not blocks and _is_left_open(connection):
            has_left = True
            with suppress(Exception):  # Not left to the close: a database in memory stays open.
                connection.connection.rollback()
                connection.set_autocommit(connection.settings_dict["AUTOCOMMIT"])
            connection.close()
    return has_left


def _is_left_open(connection: BaseDatabaseWrapper) -> bool:
    # Ask the driver as well: a task may begin a transaction of which Django does not know.
    expected = connection.settings_dict["AUTOCOMMIT"]
    return connection.autocommit != expected or (expected and is_open(connection))
