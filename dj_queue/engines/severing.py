"""Severing: the copies that a forked child has of its parent's connections lead nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

SQLITE_FILES = ("", "-wal", "-shm", "-journal")


def sever(connections: Iterable[BaseDatabaseWrapper]) -> None:
    """Replace the sockets and files of these connections, in a child that was forked with them.

    A driver says goodbye to the server when its connection is closed, or only freed, and SQLite
    tidies up its files: both would be on the parent's. Read-only, so that SQLite cannot lock what
    it finds instead, and deletes no write-ahead log that it believes to be the last to use.
    """
    nowhere = os.open(os.devnull, os.O_RDONLY)
    for connection in connections:
        for descriptor in _descriptors(connection):
            os.dup2(nowhere, descriptor, inheritable=False)
    os.close(nowhere)


def _descriptors(connection: BaseDatabaseWrapper) -> Iterator[int]:
    if connection.vendor == "sqlite":
        yield from _of_files(str(connection.settings_dict["NAME"]))
        return
    drivers = [connection.connection, *_pooled(connection)]
    for driver in drivers:
        with suppress(Exception):  # A driver's, or of None: there is no connection any more.
            yield getattr(driver, "_sock", driver).fileno()  # PyMySQL has a socket


def _pooled(connection: BaseDatabaseWrapper) -> list[Any]:
    """Return the driver's connections that wait in the pool of this connection's alias, if any."""
    pools = getattr(connection, "_connection_pools", {})
    pool = pools.get(connection.alias)
    return list(getattr(pool, "_pool", ()))


def _of_files(name: str) -> Iterator[int]:
    paths = [f"{name}{suffix}" for suffix in SQLITE_FILES]
    files = [os.stat(path) for path in paths if os.path.exists(path)]
    known = {(each.st_dev, each.st_ino) for each in files}
    for number in os.listdir("/dev/fd"):
        with suppress(OSError):  # The listing's own is closed by now.
            each = os.fstat(int(number))
            if (each.st_dev, each.st_ino) in known:
                yield int(number)
