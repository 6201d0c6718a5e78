"""Two aliases for one database, as the servers say; W001 is what the settings alone say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from django.core.checks import Warning

from dj_queue.checks.connections import belong_together
from dj_queue.checks.routing import Found, fault
from dj_queue.engines.places import Place, place_of
from dj_queue.routers import Database
from dj_queue.routers.registry import is_queue_database, physical
from dj_queue.routers.survey import AWAY


def check_places(databases: Sequence[str] | None = None, **_: Any) -> Found:
    """W106: two aliases for one server database, one of them a queue database."""
    return shared_places({alias: asked_place(alias) for alias in databases or ()})


def shared_places(places: Mapping[str, Place | None]) -> Found:
    """Report the pairs that are one database, without those that W001 has."""
    for pair in combinations(sorted(places, key=lambda it: not is_queue_database(it)), 2):
        first, second = pair
        if places[first] is None or places[first] != places[second]:
            continue
        if not is_queue_database(first) or belong_together(first, second):
            continue
        if physical(first) != physical(second):
            yield fault(
                Warning,
                "W106",
                f"expected each alias to be a database of its own, got {first!r} and {second!r} on "
                "one and the same, as its server says: they share no transaction and can block "
                "each other",
                "Use one alias for both, or give the queue a database or a schema of its own.",
            )


def asked_place(alias: str) -> Place | None:
    """Ask a database where it is; None from one that does not answer, which is E100's finding."""
    try:
        return place_of(Database(alias))
    except AWAY:
        return None
