"""A spy that lets statements pass to the databases it is told, and to no other."""

from __future__ import annotations

from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

SQL_LENGTH = 1000


class Statement(NamedTuple):
    """A statement as it was sent: to which alias, and its SQL without parameters."""

    alias: str
    sql: str


class StrayStatement(AssertionError):
    """A statement was sent to a database that was to be left alone. It did not get there."""


class statements_only_on:  # noqa: N801 - reads as a verb, as `override_settings` does
    """Refuse each statement to another database than these inside the block.

    It raises StrayStatement where the statement is sent and, should that be caught, again at the
    end of the block. Savepoints are statements. Gives the list of those that passed. Nestable.

    Watches the connections of the calling thread and those that other threads open meanwhile. With
    `async with` it is the thread in which Django's asynchronous ORM runs that counts as calling.
    """

    def __init__(self, *aliases: str) -> None:
        for alias in aliases:
            connections[alias]  # Raises ConnectionDoesNotExist.
        self.aliases = aliases
        self.passed: list[Statement] = []
        self.strays: list[Statement] = []
        self._watched: list[BaseDatabaseWrapper] = []

    def __enter__(self) -> list[Statement]:
        connection_created.connect(self._watch)
        for alias in connections:
            self._watch(connections[alias])
        return self.passed

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        connection_created.disconnect(self._watch)
        for connection in self._watched:
            connection.execute_wrappers.remove(self._hear)
        self._watched.clear()
        if not self.strays or isinstance(error, StrayStatement):
            return
        if error is None:
            raise StrayStatement(self._complaint())
        error.add_note(self._complaint())

    async def __aenter__(self) -> list[Statement]:
        return await sync_to_async(self.__enter__)()

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        await sync_to_async(self.__exit__)(kind, error, trace)

    def _watch(self, connection: BaseDatabaseWrapper, **_: Any) -> None:
        if self._hear not in connection.execute_wrappers:
            # In front: leaving connection.execute_wrapper() takes the last one away.
            connection.execute_wrappers.insert(0, self._hear)
            self._watched.append(connection)

    def _hear(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        statement = Statement(context["connection"].alias, str(sql))
        if statement.alias not in self.aliases:
            self.strays.append(statement)
            raise StrayStatement(self._complaint())
        self.passed.append(statement)
        return execute(sql, params, many, context)

    def _complaint(self) -> str:
        only = f" but on {', '.join(map(repr, self.aliases))}" if self.aliases else ""
        stray = self.strays[0]
        return f"expected no statement{only}, got one on {stray.alias!r}: {stray.sql[:SQL_LENGTH]}"


def no_statements() -> statements_only_on:
    """Refuse every statement inside the block, as statements_only_on with no alias."""
    return statements_only_on()
