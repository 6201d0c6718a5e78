"""The claim engine: everything that differs by database vendor, and nothing else."""

from __future__ import annotations

from dj_queue.engines.base import ClaimEngine
from dj_queue.engines.mariadb import MariaDBEngine
from dj_queue.engines.mysql import MySQLEngine
from dj_queue.engines.postgresql import PostgreSQLEngine
from dj_queue.engines.sqlite import SQLiteEngine
from dj_queue.routers import QueueDatabase

__all__ = ["ClaimEngine", "engine_for"]

ENGINES: dict[str, ClaimEngine] = {
    "postgresql": PostgreSQLEngine(),
    "mysql": MySQLEngine(),
    "mariadb": MariaDBEngine(),
    "sqlite": SQLiteEngine(),
}


def engine_for(db: QueueDatabase) -> ClaimEngine:
    """Return the engine of a queue database; unknown vendors get the portable one.

    Telling MariaDB from MySQL asks the server once per connection.
    """
    vendor = db.vendor
    if vendor == "mysql" and db.connection.mysql_is_mariadb:  # type: ignore[attr-defined]
        vendor = "mariadb"
    return ENGINES.get(vendor) or ClaimEngine()
