"""System checks: every routing mistake by its id, before the first job."""

from __future__ import annotations

from typing import Any

from django.core.checks import Tags, register
from django.core.checks.registry import registry

from dj_queue.checks import connections, drivers, live, places, queues, recurring, routing, waiting
from dj_queue.checks.live import missing_tables, repair_remedy, unapplied_migrations
from dj_queue.routers.router import APP_LABEL

__all__ = [
    "LIVE",
    "NO_BACKEND",
    "STATIC",
    "check_kwargs",
    "missing_tables",
    "register_checks",
    "repair_remedy",
    "unapplied_migrations",
]

NO_BACKEND = (
    "expected a backend in TASKS whose BACKEND is dj_queue.backend.DjQueueBackend, got none"
)

STATIC = tuple(
    value
    for module in (routing, connections, drivers, queues, recurring)
    for name, value in vars(module).items()
    if name.startswith("check_")
)
LIVE = tuple(
    value
    for module in (live, places, waiting)
    for name, value in vars(module).items()
    if name.startswith("check_")
)


def register_checks() -> None:
    """Hand all checks to Django; the live ones run where a database is named."""
    for check in STATIC:
        register(check, APP_LABEL)
    for check in LIVE:
        register(check, APP_LABEL, Tags.database)


def check_kwargs() -> dict[str, Any]:
    """Return which checks our commands run first: those that need no database and have a tag.

    Django 6.1's model checks ask every database (MySQL for its version): one that is down would
    keep the others' work from starting. Django's check of TASKS has no tag; it builds all backends
    and ends the command where one of another library does not import.
    """
    return {"databases": [], "tags": sorted(registry.tags_available())}
