"""Which queue databases are away, so that an outage is logged once, whoever notices."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError, InterfaceError, connections

from dj_queue.events import log
from dj_queue.routers import QueueDatabase

MOMENT = struct.Struct("d")
MOST_DATABASES = 1000


class Outages:
    """Since when each database is away, in a file in memory that forked children share.

    Two locks: that of the file keeps processes apart, the other the threads of each.
    """

    def __init__(self) -> None:
        self._file = _open()
        os.ftruncate(self._file, MOMENT.size * MOST_DATABASES)
        self._memory = mmap.mmap(self._file, MOMENT.size * MOST_DATABASES)
        self._lock = threading.Lock()

    def begin(self, db: QueueDatabase, error: Exception) -> None:
        """Note that the database does not answer; log it unless that is known.

        In the thread that got `error`, before it closes the connection. One that was lost alone is
        no outage: after one, every connection that slept meanwhile is found to be lost.
        """
        if _was_lost_alone(db):
            return
        place = _place(db)
        with self._locked():
            is_known = bool(self._since(place))
            if not is_known:
                MOMENT.pack_into(self._memory, place, time.monotonic())
        if not is_known:
            log("database_down", database=db.alias, error=repr(error))

    def end(self, db: QueueDatabase, *, asked_at: float) -> None:
        """Note that the database answers; log it if it was away.

        It was asked at that moment, in monotonic seconds: what it was asked before it was found to
        be away proves nothing.
        """
        place = _place(db)
        if not self._since(place):
            return
        with self._locked():
            since = self._since(place)
            is_over = 0 < since < asked_at
            if is_over:
                MOMENT.pack_into(self._memory, place, 0.0)
        if is_over:
            log("database_up", database=db.alias, seconds=round(time.monotonic() - since, 1))

    def _since(self, place: int) -> float:
        since: float = MOMENT.unpack_from(self._memory, place)[0]
        return since

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


def _open() -> int:
    if hasattr(os, "memfd_create"):  # Linux: needs no directory that can be written to.
        return os.memfd_create("dj_queue outages")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _was_lost_alone(db: QueueDatabase) -> bool:
    connection = db.connection
    if connection.connection is None or connection.is_usable():
        return False
    try:
        connection.close()
        connection.ensure_connection()
    except (DatabaseError, InterfaceError):
        return False
    return True


def _place(db: QueueDatabase) -> int:
    return list(connections.databases).index(db.alias) % MOST_DATABASES * MOMENT.size


_outages = Outages()
begin, end = _outages.begin, _outages.end
