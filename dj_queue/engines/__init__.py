"""The claim engine: everything that differs by database vendor, and nothing else."""

from __future__ import annotations

from django.db import DatabaseError

from dj_queue.engines.base import ClaimEngine
from dj_queue.engines.mariadb import MariaDBEngine
from dj_queue.engines.mysql import MySQLEngine
from dj_queue.engines.postgresql import PostgreSQLEngine
from dj_queue.engines.sqlite import SQLiteEngine
from dj_queue.exceptions import NotMigrated
from dj_queue.routers import Database, QueueDatabase

__all__ = ["ClaimEngine", "engine_for", "naming_tables"]

ENGINES: dict[str, ClaimEngine] = {
    "postgresql": PostgreSQLEngine(),
    "mysql": MySQLEngine(),
    "mariadb": MariaDBEngine(),
    "sqlite": SQLiteEngine(),
}


def engine_for(db: Database) -> ClaimEngine:
    """Return the engine of a queue database; unknown vendors get the portable one.

    Telling MariaDB from MySQL asks the server once per connection.
    """
    vendor = db.vendor
    if vendor == "mysql" and db.connection.mysql_is_mariadb:  # type: ignore[attr-defined]
        vendor = "mariadb"
    return ENGINES.get(vendor) or ClaimEngine()


class naming_tables:  # noqa: N801 - used like a function
    """Turn the database's complaint of a missing table into NotMigrated, with the remedy."""

    def __init__(self, db: QueueDatabase) -> None:
        self._db = db

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        db = self._db
        if isinstance(error, DatabaseError) and engine_for(db).is_missing_table(error):
            raise NotMigrated(
                f"expected dj_queue's tables on database {db.alias!r} (backend {db.backend!r}), "
                f"got: {str(error).strip()}. Create them with `manage.py dj_queue_migrate`"
            ) from error
