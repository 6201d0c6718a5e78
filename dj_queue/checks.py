"""System checks of settings and databases, one small function each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.db import connections, router

from dj_queue.conf import read_options
from dj_queue.exceptions import InvalidOption
from dj_queue.routers import DjQueueRouter, queue_database
from dj_queue.routers.registry import databases, routes

NO_BACKEND = (
    "expected a backend in TASKS whose BACKEND is dj_queue.backend.DjQueueBackend, got none"
)


def check_options(**_: Any) -> Iterable[CheckMessage]:
    """E001: a wrong option. E002: a database that DATABASES does not have."""
    for route in routes().values():
        try:
            read_options(route.backend, route.params)
        except InvalidOption as error:
            yield from (Error(line, id="dj_queue.E001") for line in str(error).splitlines())
            continue
        try:
            queue_database(route.backend)
        except InvalidOption as error:
            hint = "Add the alias to DATABASES, or name one that is there."
            yield Error(str(error), hint=hint, id="dj_queue.E002")


def check_routes(**_: Any) -> Iterable[CheckMessage]:
    """E003: queue databases beside the default one, but no router that leads there."""
    apart = [alias for alias in databases() if alias != "default"]
    if apart and not any(isinstance(each, DjQueueRouter) for each in router.routers):
        yield Error(
            "expected DATABASE_ROUTERS to have dj_queue's router, because queue databases "
            f"({', '.join(map(repr, apart))}) are not 'default', got {router.routers!r}",
            hint='Put "dj_queue.routers.DjQueueRouter" first in DATABASE_ROUTERS.',
            id="dj_queue.E003",
        )


def missing_tables(alias: str) -> list[str]:
    """Return the names of our tables that the database `alias` lacks, sorted; asks the database."""
    wanted = {
        model._meta.db_table
        for model in apps.get_app_config("dj_queue").get_models()
        if model._meta.managed
    }
    with connections[alias].cursor() as cursor:
        return sorted(wanted - set(connections[alias].introspection.table_names(cursor)))
