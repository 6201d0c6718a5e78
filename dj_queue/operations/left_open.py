"""Left open: transactions that a task has begun and not ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, connections

from dj_queue.exceptions import TransactionLeftOpen

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


@contextmanager
def ended_transactions() -> Iterator[None]:
    """Raise TransactionLeftOpen when the block leaves one open, and roll that back in any case.

    The next job in this thread would be part of it, and on SQLite nobody else could write.
    """
    depths = {each.alias: len(each.atomic_blocks) for each in _open_connections()}
    try:
        yield
    except BaseException:
        with suppress(TransactionLeftOpen):  # What the task raised says more.
            end_transactions(depths)
        raise
    end_transactions(depths)


def end_transactions(depths: Mapping[str, int] | None = None) -> None:
    """Roll back this thread's open transactions; raise TransactionLeftOpen if there were any.

    But for so many outer blocks of each alias, which stay.
    """
    depths = depths or {}
    left = [each for each in _open_connections() if _end_open(each, depths.get(each.alias, 0))]
    if left:
        where = ", ".join(repr(each.alias) for each in left)
        raise TransactionLeftOpen(
            f"expected the task to end every transaction it begins, got one left open on {where}"
        )


def _open_connections() -> Sequence[BaseDatabaseWrapper]:
    return connections.all(initialized_only=True)


def _end_open(connection: BaseDatabaseWrapper, depth: int) -> bool:
    """Roll back what is open beyond so many blocks; tell whether anything was."""
    blocks, has_left = connection.atomic_blocks, False
    with suppress(DatabaseError, InterfaceError):
        while len(blocks) > depth:
            has_left = True
            blocks[-1].__exit__(TransactionLeftOpen, TransactionLeftOpen(), None)
        expected = connection.settings_dict["AUTOCOMMIT"]
        if connection.connection is not None and not blocks and connection.autocommit != expected:
            has_left = True
            connection.close()
    return has_left
