"""Forks: what a process that a task forks does not inherit. signals.py sees to signals."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, WeakValueDictionary

from django.db import connections
from django.db.backends.signals import connection_created

from dj_queue.engines.severing import sever
from dj_queue.runtime.ledger import Ledger

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

_open: WeakValueDictionary[int, BaseDatabaseWrapper] = WeakValueDictionary()
"""The connections of all threads, by their identity."""
_pools: dict[int, dict[str, Any]] = {}
"""The pools of each kind of connection that has been opened, by their identity."""
_ledgers: WeakSet[Ledger] = WeakSet()
_left: list[Any] = []
"""What a child must not free: a lock of it may be held by a thread that there is no more."""


def inherit_nothing(ledgers: Iterable[Ledger]) -> None:
    """Let no child that is forked from now on, by a task above all, use these or a connection."""
    _ledgers.update(ledgers)
    for connection in connections.all(initialized_only=True):
        _note(connection)
    _watch()


@cache
def _watch() -> None:
    held = threading.local()

    def before() -> None:
        # Python frees what the parent's other threads have before it calls `in_child`.
        held.connections = [ref() for ref in _open.valuerefs()]

    def in_parent() -> None:
        del held.connections

    def in_child() -> None:
        _begin_anew([each for each in held.connections if each is not None])

    connection_created.connect(_note, weak=False)
    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def _note(connection: BaseDatabaseWrapper, **_: Any) -> None:
    _open[id(connection)] = connection
    pools = getattr(connection, "_connection_pools", None)
    if pools is not None:
        _pools[id(pools)] = pools


def _begin_anew(inherited: list[BaseDatabaseWrapper]) -> None:
    sever(inherited)
    _left.extend(inherited)
    for ledger in _ledgers:
        ledger.close()
    for connection in connections.all(initialized_only=True):
        _left.append(connection)
        del connections[connection.alias]
        # This thread was not in the middle of anything: SQLite may forget the locks it has noted.
        if connection.connection is not None:
            with suppress(Exception):
                connection.connection.close()
            connection.connection = None
    # Only what was connected can have a pool, and to ask for the others may import a backend.
    for pools in _pools.values():
        _left.extend(pools.values())
        pools.clear()
