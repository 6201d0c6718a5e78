"""Which database a connection really leads to, as its server says: settings do not always tell."""

from __future__ import annotations

import os

from dj_queue.routers import Database

QUESTIONS = {
    # Anybody may ask for the start; the system's identifier needs privileges. The schema counts:
    # search_path may come from OPTIONS, the service file, the role or the database.
    # The start as a number: as text it depends on the connection's time zone.
    "postgresql": "SELECT extract(epoch FROM pg_postmaster_start_time())::text, "
    "current_database(), current_schema()",
    # MariaDB has no @@server_uuid.
    "mysql": "SELECT @@hostname, @@port, @@datadir, DATABASE()",
    "sqlite": "SELECT file FROM pragma_database_list WHERE name = 'main'",
}

Place = tuple[str, ...]


def place_of(db: Database) -> Place | None:
    """Return what is the same for two connections to one database, and for no others.

    None where there is nothing to compare: a database in memory, or of another vendor.
    """
    question = QUESTIONS.get(db.vendor)
    if question is None:
        return None
    with db.cursor() as cursor:
        cursor.execute(question)
        answer = cursor.fetchone()
    if db.vendor == "sqlite":
        if not answer[0]:
            return None
        file = os.stat(answer[0])
        answer = (file.st_dev, file.st_ino)
    return (db.vendor, *map(str, answer))
