"""The server's view of connections: who waits for a lock, and how to end one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

WAITING = {
    "postgresql": (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock'"
    ),
    "mysql": (
        "SELECT p.id FROM information_schema.processlist p LEFT JOIN information_schema.innodb_trx "
        "ON trx_mysql_thread_id = p.id WHERE p.db = database() "
        "AND (p.state LIKE 'Waiting for table%%lock' OR trx_state = 'LOCK WAIT')"
    ),
}
LOCK = {
    "postgresql": ("BEGIN", "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE"),
    "mysql": ("LOCK TABLES {} WRITE",),
}
UNLOCK = {"postgresql": "ROLLBACK", "mysql": "UNLOCK TABLES"}
TERMINATE = {"postgresql": "SELECT pg_terminate_backend(%s)", "mysql": "KILL %s"}
ALL = {
    "postgresql": (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND backend_type = 'client backend'"  # Autovacuum comes and goes.
    ),
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = database()",
}
MYSELF = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}


@contextmanager
def locked_table(alias: str, table: str) -> Iterator[None]:
    """Keep everybody waiting who asks for this table, the test's own connection as well."""
    connection = connections[alias].copy()
    try:
        with connection.cursor() as cursor:
            for statement in LOCK[connection.vendor]:
                cursor.execute(statement.format(table))
            yield
            cursor.execute(UNLOCK[connection.vendor])
    finally:
        connection.close()


def waiting(alias: str) -> list[int]:
    """Give the sessions that wait for a lock."""
    return [row[0] for row in _ask(alias, WAITING)]


def sessions(alias: str) -> list[int]:
    """Give all sessions on the database."""
    return [row[0] for row in _ask(alias, ALL)]


def terminate(alias: str, session: int) -> None:
    """Have the server end a connection."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(TERMINATE[connection.vendor], [session])


def myself(alias: str) -> int:
    """Give the number of this connection."""
    return int(_ask(alias, MYSELF)[0][0])


def _ask(alias: str, statements: dict[str, str]) -> list[Any]:
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(statements[connection.vendor], [])
        return list(cursor.fetchall())
