"""A PgBouncer in transaction mode before the server of the queue database."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connections

from tests import databases
from tests.processes.throwaway import Missing, poolers


@contextmanager
def pooler(**options: int) -> Iterator[dict[str, Any]]:
    """Run one; give where Django finds it. Idle connections to the server stay open."""
    if connections["queue"].vendor != "postgresql":
        pytest.skip("needs a transaction pooler: there is none for this database")
    address = databases.address_of("postgresql", os.environ)
    assert address is not None
    try:
        server = poolers.start_pgbouncer(address, Path(sys.executable), idle_seconds=60, **options)
    except Missing as missing:
        pytest.skip(f"needs a transaction pooler: {missing}")
    url = urlsplit(server.url)
    try:
        yield {"HOST": url.hostname, "PORT": url.port, "USER": url.username, "PASSWORD": ""}
    finally:
        server.stop()


@contextmanager
def behind(place: dict[str, Any], **options: Any) -> Iterator[None]:
    """Reach the queue database there, in every thread of this process."""
    connection = connections["queue"]
    before = connection.settings_dict.copy()
    connection.close()
    connection.settings_dict.update(place, OPTIONS={**before["OPTIONS"], **options})
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(before)
