"""Which characters a queue database can store: all of them, or fewer than errors may have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from dj_queue.engines.sql import marks
from dj_queue.routers import Database

# UUIDs are char(32) where there is no type for them.
NARROW_COLUMNS = """
    SELECT character_set_name, CONCAT(table_name, '.', column_name)
    FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name IN ({tables})
    AND data_type <> 'char' AND character_set_name <> 'utf8mb4' ORDER BY 1, 2
"""


def narrow_places(db: Database, tables: Iterable[str]) -> Iterator[str]:
    """Say where not every character can be stored, as "expected …, got …".

    `tables` are those of ours that exist; without any the next ones would be made with the
    database's own character set.
    """
    if db.vendor == "postgresql":
        yield from _narrow_encoding(db)
    elif db.vendor == "mysql":
        yield from _narrow_character_sets(db, list(tables))


def _narrow_encoding(db: Database) -> Iterator[str]:
    with db.cursor() as cursor:
        # Connections have UTF8 in any case: Django sees to that.
        cursor.execute("SHOW server_encoding")
        [encoding] = cursor.fetchone()
    if encoding != "UTF8":
        yield f"expected the encoding of database {db.alias!r} to be UTF8, got {encoding}"


def _narrow_character_sets(db: Database, tables: list[str]) -> Iterator[str]:
    with db.cursor() as cursor:
        cursor.execute("SELECT @@character_set_client, @@character_set_database")
        client, database = cursor.fetchone()
        if client != "utf8mb4":
            path = f"DATABASES[{db.alias!r}]['OPTIONS']['charset']"
            yield f"expected {path} to be 'utf8mb4', got connections with {client}"
        narrow: dict[str, list[str]] = defaultdict(list)
        if tables:
            cursor.execute(NARROW_COLUMNS.format(tables=marks(len(tables))), tables)
            for name, column in cursor.fetchall():
                narrow[name].append(column)
        elif database != "utf8mb4":
            yield (
                f"expected the character set of database {db.alias!r} to be utf8mb4, got {database}"
            )
    for name, columns in narrow.items():
        yield (
            f"expected columns of database {db.alias!r} to have the character set utf8mb4, got "
            f"{name} for {', '.join(columns)}"
        )
