"""The two handles: the values that say which database, and which backend on it, code works on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import connections, transaction
from django.utils.connection import ConnectionDoesNotExist

from dj_queue.conf import BackendOptions
from dj_queue.exceptions import UnknownBackend
from dj_queue.quoting import quoted
from dj_queue.routers import registry

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model, QuerySet

    Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True)
class Database:
    """A queue database by its alias: what its backends share.

    Pauses, semaphores, processes and recurring tasks belong to it, and so do migrations and
    recovery. Hashable, picklable, safe to hand to threads and forked children: it holds no
    connection.
    """

    alias: str

    def __str__(self) -> str:
        return self.alias

    @property
    def backends(self) -> tuple[str, ...]:
        """The names of its backends, in the order of TASKS."""
        return registry.backends_on(self.alias)

    def for_backend(self, name: str) -> QueueDatabase:
        """Return the handle of a backend on this database; raise UnknownBackend for another."""
        if name not in self.backends:
            known = ", ".join(map(repr, self.backends)) or "none"
            raise UnknownBackend(
                f"expected a backend on database {self.alias!r} ({known}), got {quoted(name)}"
            )
        return QueueDatabase(alias=self.alias, backend=name)

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """The calling thread's connection."""
        return connections[self.alias]

    @property
    def vendor(self) -> str:
        """Django's name of the database vendor."""
        return self.connection.vendor

    @property
    def in_transaction(self) -> bool:
        """Whether the calling thread has a transaction open on this database."""
        return self.connection.in_atomic_block

    def objects(self, model: type[Row]) -> QuerySet[Row]:
        """Return all rows of `model` on this database, whatever context is active."""
        return model._base_manager.using(self.alias)

    def atomic(self, *, savepoint: bool = True) -> AbstractContextManager[Any]:
        """Open a transaction on this database; inside one, a savepoint if that is wanted."""
        return transaction.atomic(using=self.alias, savepoint=savepoint)

    def on_commit(self, function: Callable[[], Any]) -> None:
        """Call `function` after this database's transaction, or at once outside one."""
        transaction.on_commit(function, using=self.alias)

    def cursor(self) -> Any:
        """Open a cursor on this database."""
        return self.connection.cursor()

    def same_connection_as(self, alias: str) -> bool:
        """Tell whether work on `alias` shares this database's transactions."""
        return alias == self.alias


@dataclass(frozen=True, kw_only=True)
class QueueDatabase(Database):
    """A queue database and one backend on it: what its jobs belong to.

    Made by `queue_database()` or `Database.for_backend()`, pickled by the backend's name.
    """

    backend: str

    def __reduce__(self) -> tuple[Callable[[str], QueueDatabase], tuple[str]]:
        return queue_database, (self.backend,)

    def __str__(self) -> str:
        return f"{self.backend}@{self.alias}"

    @property
    def options(self) -> BackendOptions:
        """The backend's checked OPTIONS."""
        return registry.route(self.backend).options

    @property
    def reader(self) -> QueueDatabase:
        """Where the dashboard's pages read: the backend's replica, or this database itself."""
        return replace(self, alias=self.options.read_database_alias or self.alias)

    def guarantee(self, using: str) -> str:
        """Say what an enqueue inside a transaction on `using` is: "atomic" or "immediate".

        Raises Django's ConnectionDoesNotExist for what is no alias of DATABASES.
        """
        if using not in list(connections.databases):
            names = ", ".join(map(repr, connections.databases))
            raise ConnectionDoesNotExist(
                f"using: expected an alias of DATABASES ({names}), got {quoted(using)}"
            )
        return "atomic" if self.same_connection_as(using) else "immediate"


def queue_database(backend: str = "default") -> QueueDatabase:
    """Return the handle of a backend's queue database.

    Raises UnknownBackend, or InvalidOption when its alias is not in DATABASES.
    """
    return Database(registry.database_for(backend)).for_backend(backend)
