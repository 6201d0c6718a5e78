"""Troubles: errors that tell something of a database, and nothing of what was written to it."""

from __future__ import annotations

from enum import Enum

from django.db import Error

from dj_queue.routers import Database


class Trouble(Enum):
    """What a database that answers may suffer from; AWAY is one that does not answer."""

    AWAY = 0
    BUSY = 1
    READ_ONLY = 2
    FULL = 3


AWAY, BUSY, READ_ONLY, FULL = Trouble

# PostgreSQL: timeouts, deadlocks, no connection left; a standby or default_transaction_read_only;
# no room on the disk, or an error of it.
SQLSTATES = {
    **dict.fromkeys(("57014", "55P03", "40001", "40P01", "53300"), BUSY),
    "25006": READ_ONLY,
    **dict.fromkeys(("53100", "58030"), FULL),
}
# MySQL and MariaDB. BUSY: lock timeout, deadlock (Galera's at COMMIT too), row changed since the
# read, interrupted, statement timeouts (each vendor has its own), no connection left, a group that
# refuses a COMMIT. READ_ONLY: read_only and super_read_only, a read-only transaction,
# innodb_read_only (each vendor has its own). FULL: a disk, a table, a temporary file, a log that
# nothing more can be written to; an error during COMMIT.
NUMBERS = {
    **dict.fromkeys((1205, 1213, 1020, 1317, 3024, 1969, 1040, 1203, 1226, 3100), BUSY),
    **dict.fromkeys((1290, 1792, 1836, 1874), READ_ONLY),
    **dict.fromkeys((1, 3, 20, 1021, 1026, 1114, 1180, 1598, 3019), FULL),
}
NO_SPACE = ("No space left on device", "Errcode: 28", "error 28 ", "Disk quota exceeded")
TEXTS = {
    "readonly database": READ_ONLY,
    "database or disk is full": FULL,
    "disk I/O error": FULL,  # A quota, or a limit on the size of a file, among others.
    "locked": BUSY,
    "busy": BUSY,
}


def trouble_of(db: Database, error: BaseException) -> Trouble | None:
    """Return the trouble that an error tells of, None where it tells of none for certain.

    None as well for a connection that was lost, which may be the doing of what was sent on it.
    """
    if not isinstance(error, Error):
        return None
    if db.vendor == "sqlite":
        return next((TEXTS[text] for text in TEXTS if text in str(error)), None)
    if any(text in str(error) for text in NO_SPACE):
        return FULL
    if db.vendor == "postgresql":
        cause = error.__cause__
        # The second is psycopg2's name.
        state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        return SQLSTATES.get(state) if state else None
    number = error.args[0] if error.args else None
    return NUMBERS.get(number) if isinstance(number, int) else None
