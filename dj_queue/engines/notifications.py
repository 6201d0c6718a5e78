"""PostgreSQL's LISTEN and NOTIFY: telling workers that a queue has jobs, and being told.

Only a shortcut. What is not told, or not heard, is found by polling.
"""

from __future__ import annotations

import json
import select
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from django.db import DatabaseError, InterfaceError, OperationalError, connections

from dj_queue.engines.poolers import shares_sessions
from dj_queue.engines.selectors import selects
from dj_queue.routers import QueueDatabase
from dj_queue.routers.registry import routes

CHANNEL = "dj_queue"
MOST_QUEUES = 10
"""More in one notification are told as "any": PostgreSQL takes less than 8000 bytes."""

REPEAT_SECONDS = 0.005
"""How long a notification stands for the same one again.

NOTIFY takes a lock of the whole database at commit, so that a notification for each of many
enqueues would queue them up. A worker that was woken looks again for longer than this.
"""
MOST_TOLD = 1000

LISTENER_NAME = "dj_queue listener"
# Nobody writes on this connection, so that a dead peer is found by TCP or never.
KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
CONNECT_SECONDS = 10
NOT_ITS_OWN = (
    "expected database {alias!r} to give a connection a session of its own, got a transaction "
    "pooler. Name an alias that leads past it in {options}['listen_database_alias'], or set "
    "{options}['listen_notify'] to False; until then workers poll"
)
OLDEST_PSYCOPG = (3, 2)  # notifies(timeout=…, stop_after=…); psycopg2 has nothing of the kind


class Wake(NamedTuple):
    """What a notification says: these queues of a backend have jobs; None for any queue."""

    backend: str
    queues: frozenset[str] | None = None

    def concerns(self, backend: str, selectors: Sequence[str]) -> bool:
        """Tell whether a worker of that backend with these selectors may find a job now."""
        if backend != self.backend:
            return False
        return self.queues is None or any(
            selects(selector, name) for selector in selectors for name in self.queues
        )


def payload_of(wake: Wake) -> str:
    """Write a wake as the text of a notification, equal ones alike."""
    queues = None if wake.queues is None else sorted(wake.queues)
    return json.dumps([wake.backend, queues], ensure_ascii=False, separators=(",", ":"))


def wake_of(payload: str) -> Wake | None:
    """Read the text of a notification; None when it is not one of ours."""
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, list) or not said or not isinstance(said[0], str):
        return None
    # Whatever else another version may say of the queues: looking in vain costs little.
    queues = said[1] if len(said) > 1 else None
    if not isinstance(queues, list) or not all(isinstance(each, str) for each in queues):
        return Wake(said[0])
    return Wake(said[0], frozenset(queues))


def payload_for(db: QueueDatabase, queues: Iterable[str]) -> str | None:
    """Return the payload that says these queues have jobs; None where nobody would listen."""
    wake = _wake_for(db, queues)
    return None if wake is None else payload_of(wake)


def _wake_for(db: QueueDatabase, queues: Iterable[str]) -> Wake | None:
    names = frozenset(queues)
    route = routes().get(db.backend)
    if not names or route is None or not route.options.listen_notify:
        return None
    return Wake(db.backend, names if len(names) <= MOST_QUEUES else None)


class Suppressor:
    """Says what to notify, and keeps a process from saying the same again and again.

    Without a lock: two threads that race send one notification too many, and a forked child
    inherits nothing that is held.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[tuple[str, Wake], float] = {}

    def due(self, db: QueueDatabase, queues: Iterable[str]) -> str | None:
        """Return the payload of the notification that these queues have jobs, or None.

        None when the same was told a moment ago, for no queues, and where nobody listens. Inside
        a transaction a notification waits for the commit: it is always sent, and stands for no
        later one. PostgreSQL folds equal ones of a transaction.
        """
        wake = _wake_for(db, queues)
        if wake is None:
            return None
        connection = db.connection  # Looked up once: it is asked for by thread, at some cost.
        commits_now = not connection.in_atomic_block and connection.get_autocommit()
        if commits_now and self._is_repeated((db.alias, wake)):
            return None
        return payload_of(wake)

    def _is_repeated(self, what: tuple[str, Wake]) -> bool:
        now, last = self._clock(), self._told.get(what)
        if last is not None and now - last < REPEAT_SECONDS:
            return True
        if len(self._told) >= MOST_TOLD:
            self._told.clear()
        self._told[what] = now
        return False


due = Suppressor().due
"""The process's own."""


def listening_alias(db: QueueDatabase) -> str:
    """Return the alias whose settings the listening connection of a backend is made of."""
    return db.options.listen_database_alias or db.alias


def can_listen(db: QueueDatabase) -> bool:
    """Tell from the settings and the driver whether this backend's workers can be told."""
    alias = listening_alias(db)
    if not db.options.listen_notify or alias not in connections.databases:
        return False
    connection: Any = connections[alias]
    if connection.vendor != "postgresql" or db.vendor != "postgresql":
        return False
    return hears_notifications(connection.Database)


def hears_notifications(driver: Any) -> bool:
    """Tell whether workers can be told with this driver of PostgreSQL."""
    major, minor, *_ = driver.__version__.split(".")
    return (int(major), int(minor)) >= OLDEST_PSYCOPG


class Listening:
    """A connection that hears what is told on the channel; for the thread that made it.

    Private: not one of Django's, which are closed between jobs, and not one of a pool, where it
    would be missing. Errors of the driver are Django's OperationalError and InterfaceError.
    """

    def __init__(self, db: QueueDatabase) -> None:
        """Connect and LISTEN: what is told from now on will be heard.

        Not through a transaction pooler, where somebody else would listen.
        """
        alias = listening_alias(db)
        self._connection: Any = connections[alias].copy()
        self._connection.settings_dict.update(_private(self._connection.settings_dict))
        try:
            self._connection.ensure_connection()
            if shares_sessions(self._connection):
                options = f"TASKS[{db.backend!r}]['OPTIONS']"
                raise OperationalError(NOT_ITS_OWN.format(alias=alias, options=options))
            with self._connection.cursor() as cursor:
                # This connection is idle most of the time, and must not be ended for that.
                cursor.execute("SET idle_session_timeout = 0")
                cursor.execute(f"LISTEN {CHANNEL}")
        except BaseException:
            self.close()
            raise

    def wait(self, seconds: float) -> list[Wake]:
        """Return all that has been told as soon as there is any, [] after `seconds` of silence.

        [] sooner when the server sends anything else. Raises when the connection is lost.
        """
        with self._connection.wrap_database_errors:
            connection = self._connection.connection
            # psycopg's own wait costs twenty times as much while nothing happens.
            socket = select.poll()
            socket.register(connection.fileno(), select.POLLIN)
            if not socket.poll(seconds * 1000):
                return []
            payloads = [each.payload for each in connection.notifies(timeout=0)]
        # Equal ones of several processes are one.
        wakes = [wake_of(payload) for payload in dict.fromkeys(payloads)]
        return [wake for wake in wakes if wake is not None]

    def close(self) -> None:
        """End the connection, whatever state it is in."""
        with suppress(DatabaseError, InterfaceError):
            self._connection.close()


def _private(config: dict[str, Any]) -> dict[str, Any]:
    chosen = {name: value for name, value in config["OPTIONS"].items() if name != "pool"}
    defaults = {
        "fallback_application_name": LISTENER_NAME,
        "connect_timeout": CONNECT_SECONDS,
        **KEEPALIVE,
    }
    return {"OPTIONS": {**defaults, **chosen}, "AUTOCOMMIT": True}
