"""The line in which SQLite's writers wait for each other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from dj_queue.routers import Database

try:
    import fcntl
except ImportError:  # Windows: no workers run there, and nobody stands in line.
    fcntl = None  # type: ignore[assignment]

LINE_NAME = "dj_queue_line"
LINE_SECONDS, LOOK_SECONDS = 1.0, 0.001


@contextmanager
def in_line(db: Database) -> Iterator[None]:
    """Wait until no other worker writes, and keep the others waiting.

    SQLite's own wait for its lock sleeps up to 100 ms between two looks, which costs a drain a
    third of its rate. Only a courtesy: who is not let in goes on and waits as SQLite does, so that
    a process that was stopped here holds nobody up.
    """
    path = file_of(db)
    if fcntl is None or path is None or db.in_transaction:
        yield
        return
    try:
        file = open(f"{path}.{LINE_NAME}", "w")  # noqa: SIM115 - errors of the block are not these
    except OSError:  # Another user's, or no descriptor is left: without it, it is only slower.
        yield
        return
    with file:
        _wait_in(file)
        try:
            yield
        finally:
            # Not left to the close: a process that a task has forked meanwhile has a copy.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)


def _wait_in(file: IO[str]) -> None:
    give_up_at = time.monotonic() + LINE_SECONDS
    while time.monotonic() < give_up_at:
        if is_alone(file):
            return
        time.sleep(LOOK_SECONDS)


def is_alone(file: IO[str]) -> bool:
    """Lock the file until it is closed, unless another process has it locked; tell whether it is.

    Does not wait. True as well where the system has no such locks.
    """
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # This file system has no such locks.
        pass
    return True


def file_of(db: Database) -> str | None:
    """Return the database's file; None for one that no other process can reach."""
    path = str(db.connection.settings_dict["NAME"])
    return None if path == ":memory:" or path.startswith("file:") else path
