"""Repair a queue database whose django_migrations claims tables that were never made."""

from __future__ import annotations

from django.db.migrations.recorder import MigrationRecorder

from dj_queue.checks.live import missing_tables, present_tables, recorded_migrations
from dj_queue.exceptions import RepairRefused
from dj_queue.routers import Database
from dj_queue.routers.router import APP_LABEL


def forget_migrations(db: Database) -> bool:
    """Forget recorded migrations of ours, where none of the tables exists; tell whether it did.

    Does nothing where all is well or nothing is recorded. Raises RepairRefused where some tables
    exist and others do not: what happened there needs a person. Needs the engine's lock.
    """
    present, missing = present_tables(db.alias), missing_tables(db.alias)
    recorded = recorded_migrations(db.alias)
    if not missing or not recorded:
        return False
    if present:
        raise RepairRefused(
            f"expected none of dj_queue's tables on database {db.alias!r} to repair it, got "
            f"{', '.join(sorted(present))} without {', '.join(missing)}"
        )
    for name in recorded:
        MigrationRecorder(db.connection).record_unapplied(APP_LABEL, name)
    return True
