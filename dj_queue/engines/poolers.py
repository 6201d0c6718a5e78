"""Whether a pooler such as PgBouncer stands between us and a PostgreSQL server.

It says so itself nowhere. But it cannot tell a client at the start, as the server does, which
session will be the client's.
"""

from __future__ import annotations

from typing import Any

KEPT = "dj_queue_is_pooled"
LOOKS = 20


def is_pooled(connection: Any) -> bool:
    """Tell whether a connected wrapper of Django's leads to a pooler. Needs psycopg 3.

    Asked once for each connection of the driver.
    """
    driver = connection.connection
    known: bool | None = getattr(driver, KEPT, None)
    if known is None:
        known = _session(connection) != driver.info.backend_pid
        setattr(driver, KEPT, known)
    return known


def shares_sessions(connection: Any) -> bool:
    """Tell whether a pooler gives others what this connection's session keeps.

    A pooler in session mode does not. Looks at what a second connection gets, and what it takes
    away, between two statements of this one; often, for others use the pooler meanwhile.
    """
    if not is_pooled(connection):
        return False
    other = connection.copy()
    try:
        before = _session(connection)
        other.ensure_connection()
        other.set_autocommit(False)
        for _ in range(LOOKS):
            its = _session(other)  # It has this session until the end of its transaction.
            if its == before or _session(connection) != before:
                return True
            other.rollback()
        return False
    finally:
        other.close()


def _session(connection: Any) -> int:
    """Return the number of the server's process. A plain statement of the driver's own."""
    with connection.wrap_database_errors:
        row = connection.connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    return int(row[0])
