"""Checks of how Django connects to the queue databases. They open no connection."""

from __future__ import annotations

from django.core.checks import Error
from django.db import connections

from dj_queue.checks.connections import options_of
from dj_queue.checks.routing import Found, fault, healthy_routes, known_databases


def check_autocommit(**_: object) -> Found:
    """E016: connections that commit nothing by themselves."""
    read_from = {options_of(each).read_database_alias for each in healthy_routes()}
    for alias in dict.fromkeys([*known_databases(), *sorted(filter(None, read_from))]):
        if alias not in connections.databases:
            continue
        got = connections[alias].settings_dict.get("AUTOCOMMIT", True)
        if not got:
            yield fault(
                Error,
                "E016",
                f"expected DATABASES[{alias!r}]['AUTOCOMMIT'] to be True for a queue database, "
                f"got {got!r}: nobody commits what dj_queue writes, so jobs vanish or run twice",
                "Leave it out, and use transaction.atomic(using=...) where writes belong together.",
            )
