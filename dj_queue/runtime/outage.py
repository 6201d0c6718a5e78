"""Which queue databases are in trouble, so that an outage is logged once, whoever notices."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from django.db import DatabaseError, InterfaceError, OperationalError, connections

from dj_queue.engines.troubles import Trouble, trouble_of
from dj_queue.events import log
from dj_queue.routers import Database, QueueDatabase

EVENTS = {
    Trouble.AWAY: ("database_down", "database_up"),
    Trouble.BUSY: ("database_busy", "database_answers"),
    Trouble.READ_ONLY: ("database_read_only", "database_writable"),
    Trouble.FULL: ("database_full", "database_writable"),
}
WRITES_ONLY = {Trouble.READ_ONLY, Trouble.FULL}
"""A read that succeeds says nothing of these."""
QUIET_SECONDS = 6.0
"""Longer than any pause before an outcome or a heartbeat is written again."""
INITIAL_FLAP_SECONDS, MAX_FLAP_SECONDS = 1.0, 60.0
MAX_DATABASES = 1000


class Outage(NamedTuple):
    """An outage as it is kept in memory, all in monotonic seconds; one that is over has no since.

    `quiet` is how long nobody must have noticed it before it is over, `noticed_by` the thread that
    noticed it last.
    """

    since: float = 0.0
    noticed_at: float = 0.0
    ended_at: float = 0.0
    quiet: float = 0.0
    noticed_by: float = 0.0

    def is_ended_by(self, trouble: Trouble, asked_at: float) -> bool:
        """Tell whether an answer to this thread ends it, to what was asked at that moment."""
        if trouble is Trouble.AWAY and not self.quiet:
            return 0 < self.since < asked_at
        # To one who has met no trouble, as a heartbeat beside claims that take too long, an answer
        # is no news.
        is_news = trouble is Trouble.AWAY or self.noticed_by == threading.get_native_id()
        quiet = self.quiet if is_news else max(self.quiet, QUIET_SECONDS)
        return self.since > 0 and self.noticed_at + quiet < asked_at


SLOT = struct.Struct("5d")
PLACE = struct.Struct(f"{5 * len(Trouble)}d")


class Outages:
    """The outages of each database, in a file in memory that forked children share.

    Two locks: that of the file keeps processes apart, the other the threads of each.
    """

    def __init__(self) -> None:
        self._file = _open()
        os.ftruncate(self._file, PLACE.size * MAX_DATABASES)
        self._memory = mmap.mmap(self._file, PLACE.size * MAX_DATABASES)
        self._lock = threading.Lock()

    def begin(self, db: Database, error: Exception) -> None:
        """Note that the database is in trouble; log it unless that is known.

        In the thread that got `error`, before it closes the connection. One that was lost alone is
        no outage: after one, every connection that slept meanwhile is found to be lost.
        """
        trouble = trouble_of(db, error) or Trouble.AWAY
        if trouble is Trouble.AWAY and _was_lost_alone(db):
            return
        if trouble is Trouble.READ_ONLY:
            _discard(db)
        now, place = time.monotonic(), _place(db) + trouble.value * SLOT.size
        with self._locked():
            known = Outage(*SLOT.unpack_from(self._memory, place))
            noted = known._replace(noticed_at=now, noticed_by=threading.get_native_id())
            if not known.since:
                noted = noted._replace(since=now, quiet=_quiet(known, now))
            SLOT.pack_into(self._memory, place, *noted)
        if not known.since:
            log(EVENTS[trouble][0], database=db.alias, error=repr(error))

    def end(self, db: Database, *, asked_at: float, has_written: bool = True) -> bool:
        """Note that the database answers; log it if that ends an outage; tell whether all is well.

        It was asked at that moment, in monotonic seconds: what it was asked before it was found to
        be in trouble proves nothing. Nor does a read, or what another thread could do all the
        time, for an outage that leaves some things possible. One that begins again soon after its
        end lasts until nobody has noticed it for longer and longer.
        """
        place = _place(db)
        numbers = PLACE.unpack_from(self._memory, place)
        is_well = True
        for trouble in Trouble:
            if not numbers[5 * trouble.value]:
                continue
            may_end = has_written or trouble not in WRITES_ONLY
            is_over = may_end and self._end(
                db, trouble, place + trouble.value * SLOT.size, asked_at
            )
            is_well = is_well and is_over
        return is_well

    def _end(self, db: Database, trouble: Trouble, place: int, asked_at: float) -> bool:
        with self._locked():
            known = Outage(*SLOT.unpack_from(self._memory, place))
            is_over = known.is_ended_by(trouble, asked_at)
            if is_over:
                ended = known._replace(since=0.0, ended_at=time.monotonic())
                SLOT.pack_into(self._memory, place, *ended)
        if is_over:
            seconds = round(ended.ended_at - known.since, 1)
            log(EVENTS[trouble][1], database=db.alias, seconds=seconds)
        return is_over or not known.since

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


def note(db: QueueDatabase, error: Exception) -> None:
    """Note an error that ended a round of a loop; one that is no trouble of the database is logged.

    In its except clause.
    """
    if isinstance(error, OperationalError | InterfaceError) or trouble_of(db, error) is not None:
        begin(db, error)
    else:
        where = {"backend": db.backend, "database": db.alias}
        log("loop_failed", **where, error=repr(error), exc_info=True)


def _open() -> int:
    if hasattr(os, "memfd_create"):  # Linux: needs no directory that can be written to.
        return os.memfd_create("dj_queue outages")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _quiet(last: Outage, now: float) -> float:
    """Return how long nobody must notice a new outage before it is over; `last` is the last one."""
    if not last.ended_at or now - last.ended_at > MAX_FLAP_SECONDS:
        return 0.0
    return min(max(2 * last.quiet, INITIAL_FLAP_SECONDS), MAX_FLAP_SECONDS)


def _was_lost_alone(db: Database) -> bool:
    connection = db.connection
    if connection.connection is None or connection.is_usable():
        return False
    try:
        connection.close()
        connection.ensure_connection()
    except (DatabaseError, InterfaceError):
        return False
    return True


def _discard(db: Database) -> None:
    """Close the driver's connection: a pool would give it out again, and there may be a failover.

    Its server may have become a replica, while its name leads to the new primary by now.
    """
    with suppress(Exception):
        db.connection.connection.close()


def _place(db: Database) -> int:
    return list(connections.databases).index(db.alias) % MAX_DATABASES * PLACE.size


_outages = Outages()
begin, end = _outages.begin, _outages.end
