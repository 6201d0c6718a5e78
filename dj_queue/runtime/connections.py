"""Connections of the project's code in the runtime's threads, looked after as in a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import connections

from dj_queue.operations.forked import ForkedProcessesEndHere
from dj_queue.operations.left_open import ended_transactions
from dj_queue.routers import Database


@contextmanager
def looked_after(db: Database) -> Iterator[None]:
    """Let receivers and other code of the project run inside the block, as in a request.

    Connections that are stale or too old are closed before and after, but for the thread's own to
    `db`, which its loop looks after. A transaction that is left open is rolled back, for what the
    thread writes next would be part of it; raises TransactionLeftOpen when nothing else was raised.
    A process that is forked inside the block ends where it leaves the block.
    """
    tidy_connections(keep=db)
    try:
        with ended_transactions(), ForkedProcessesEndHere():
            yield
    finally:
        tidy_connections(keep=db)


def tidy_connections(*, keep: Database | None = None) -> None:
    """Do what Django does between requests, with this thread's connections.

    Forget the statements that are kept with DEBUG, and close what is stale or too old; but for the
    connection to the database `keep`.
    """
    for connection in connections.all(initialized_only=True):
        connection.queries_log.clear()
        if keep is None or connection.alias != keep.alias:
            # A driver may say that there is nothing to close any more: then Django forgets it.
            with suppress(Exception):
                connection.close_if_unusable_or_obsolete()


def close_connection(db: Database) -> None:
    """Close this thread's connection to it, whatever a driver says of one that is broken."""
    # Django forgets the connection all the same.
    with suppress(Exception):
        db.connection.close()


def close_connections() -> None:
    """Close all connections of this thread, each of them whatever becomes of the others."""
    for connection in connections.all(initialized_only=True):
        with suppress(Exception):
            connection.close()
