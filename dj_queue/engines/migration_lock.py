"""The lock of `dj_queue_migrate`: who finds it taken waits for a while, and is told so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dj_queue.engines import engine_for
from dj_queue.exceptions import MigrationInProgress
from dj_queue.routers import Database

LOCK_SECONDS = 60.0
LOOK_SECONDS = 0.25


@contextmanager
def migration_lock(db: Database, *, say: Callable[[str], object]) -> Iterator[None]:
    """Keep other runs of dj_queue_migrate off this database inside the block, on any host.

    On PostgreSQL the block is one transaction. Raises MigrationInProgress after LOCK_SECONDS;
    `say` gets a line for the person who waits.
    """
    deadline, waits = time.monotonic() + LOCK_SECONDS, False
    while True:
        with engine_for(db).locked(db) as is_ours:
            if is_ours:
                yield
                return
        if time.monotonic() >= deadline:
            raise MigrationInProgress(
                f"expected no other dj_queue_migrate on database {db.alias!r}, got one that has "
                f"its lock, after {LOCK_SECONDS:g} s. Run it again when that one has ended"
            )
        if not waits:
            say(f"another dj_queue_migrate is running, waiting up to {LOCK_SECONDS:g} s for it")
        waits = True
        time.sleep(LOOK_SECONDS)
