"""A runner's row in the database, and the heartbeat that keeps it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from dj_queue import __version__, timezone
from dj_queue.engines.clock import present, seconds_of_life
from dj_queue.events import log
from dj_queue.models import Process
from dj_queue.models.ids import new_id
from dj_queue.operations.processes import beat, deregister, register
from dj_queue.routers import QueueDatabase
from dj_queue.runtime import outage
from dj_queue.runtime.connections import close_connection, tidy_connections
from dj_queue.runtime.ledger import Ledger
from dj_queue.runtime.units import Unit

FIRST_RETRY_SECONDS = 0.05
LONGEST_RETRY_SECONDS = 5.0
LOOK_SECONDS = 0.05
LEAVE_PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Between tries to delete the rows at the end; the runner waits a second for all of them."""


@dataclass(frozen=True)
class Supervision:
    """The supervisor of this process: its parent, or the process itself."""

    id: UUID = field(default_factory=new_id)
    pid: int = field(default_factory=os.getpid)
    started_at: datetime = field(default_factory=timezone.now)

    @property
    def is_here(self) -> bool:
        """Whether it is this process."""
        return self.pid == os.getpid()

    @property
    def is_alive(self) -> bool:
        """Whether the supervisor runs; a parent that died has left its child to another."""
        return self.pid in (os.getpid(), os.getppid())

    def row(self, now: datetime) -> Process:
        """Build the supervisor's row."""
        metadata: Any = {"version": __version__}
        return Process(
            id=self.id,
            kind="supervisor",
            name="supervisor",
            pid=self.pid,
            hostname=_hostname(),
            metadata=metadata,
            started_at=self.started_at,
            last_heartbeat_at=now,
        )


class Registration:
    """A unit as the database knows it. Its id is new at every start, and when it was given up.

    It is good for a while after each heartbeat: somewhat shorter than others wait before they give
    it up, so that whoever was stopped for long starts nothing that may be another's by now.
    """

    def __init__(
        self,
        unit: Unit,
        supervision: Supervision,
        ledger: Ledger,
        clock: Callable[[], float] = seconds_of_life,
    ) -> None:
        """Note the id in the ledger, where a supervisor finds it when the process has died."""
        self.unit = unit
        self.supervision = supervision
        self.ledger = ledger
        self.id = new_id()
        self.started_at = timezone.now()
        self.ended = threading.Event()
        self._clock = clock
        self._good_until = -1.0
        ledger.is_process(self.id)
        options = unit.db.options
        self._good_seconds = (
            options.process_heartbeat_interval + options.process_alive_threshold
        ) / 2

    @property
    def is_good(self) -> bool:
        """Whether what this process claims, and claimed, is still its own for certain."""
        return self._clock() < self._good_until

    def confirm(self, asked_at: float) -> None:
        """Note that the row was there, asked for at that time of `seconds_of_life`."""
        self._good_until = asked_at + self._good_seconds

    def begin_again(self) -> None:
        """Take a new id, for the old one was given up and its claims with it."""
        self.id = new_id()
        self.ledger.is_process(self.id)

    def owns(self, process_id: UUID) -> bool:
        """Tell whether a claim made under that id is this process's; wait until that is certain.

        False as well when the process is told to end meanwhile.
        """
        while not self.is_good:
            if self.ended.wait(LOOK_SECONDS):
                return False
        return process_id == self.id

    def row(self, now: datetime) -> Process:
        """Build the row."""
        metadata: Any = {"version": __version__, **self.unit.facts}
        return Process(
            id=self.id,
            kind=self.unit.kind,
            name=self.unit.name,
            backend=self.unit.db.backend,
            pid=os.getpid(),
            hostname=_hostname(),
            supervisor_id=self.supervision.id,
            metadata=metadata,
            started_at=self.started_at,
            last_heartbeat_at=now,
        )


class Heartbeat(threading.Thread):
    """Keeps the rows of this process's units on one database, and their supervisor's.

    A thread of its own, so that nothing a task does delays it; it beats until the drain is over.
    Every process of a supervisor beats for it too: a supervisor has no connection.
    """

    def __init__(self, registrations: Sequence[Registration]) -> None:
        self.registrations = list(registrations)
        self.db: QueueDatabase = self.registrations[0].unit.db
        super().__init__(name=f"heartbeat {self.db.alias}", daemon=True)
        self.supervision = self.registrations[0].supervision
        self.interval = min(
            each.unit.db.options.process_heartbeat_interval for each in self.registrations
        )
        self._ending = threading.Event()
        self._unknown = {each.id for each in self.registrations}

    def stop(self) -> None:
        """Delete the rows and end; returns at once."""
        self._ending.set()

    def run(self) -> None:
        wait = retry = FIRST_RETRY_SECONDS
        while not self._ending.is_set():
            asked_at = time.monotonic()
            try:
                self.beat()
                tidy_connections(keep=self.db)
                is_well = outage.end(self.db, asked_at=asked_at)
                # An outage that is nearly over ends with some answer: also where nothing else asks.
                wait = self.interval if is_well else min(LONGEST_RETRY_SECONDS, self.interval)
                retry = FIRST_RETRY_SECONDS
            except Exception as error:
                outage.note(self.db, error)
                close_connection(self.db)
                wait = min(retry, self.interval)
                retry = min(retry * 2, LONGEST_RETRY_SECONDS)
            self._sleep(wait)
        self._leave()

    def beat(self) -> None:
        """Beat once: register who is new or was given up, and confirm all."""
        asked_at = seconds_of_life()
        now = present(self.db)
        ids = {each.id for each in self.registrations} - self._unknown
        supervisor = [self.supervision] if self.supervision.is_alive else []
        gone = beat(self.db, [*ids, *(each.id for each in supervisor)], now=now)
        for each in self.registrations:
            if each.id in gone:
                who = {"process": each.id, "name": each.unit.name}
                log("process_given_up", database=self.db.alias, **who)
                each.begin_again()
                self._unknown.add(each.id)
        if self._unknown or gone:
            new = [each for each in self.registrations if each.id in self._unknown]
            rows = [each.row(now) for each in supervisor] + [each.row(now) for each in new]
            register(self.db, rows)
            self._unknown.clear()
        for each in self.registrations:
            each.confirm(asked_at)

    def _sleep(self, seconds: float) -> None:
        # In short steps: a machine that slept wakes with its clock of waits where it was.
        until = seconds_of_life() + seconds
        while (left := until - seconds_of_life()) > 0 and not self._ending.is_set():
            self._ending.wait(min(left, LONGEST_RETRY_SECONDS))

    def _leave(self) -> None:
        """Delete the rows, or leave them to others, who will find the processes silent."""
        ids = [each.id for each in self.registrations]
        for pause in (*LEAVE_PAUSES_SECONDS, None):
            # Idle since the last beat, it may have been cut meanwhile; and so may each of a pool.
            close_connection(self.db)
            try:
                deregister(self.db, ids)
                break
            except Exception as error:
                if pause is None:
                    outage.note(self.db, error)
                else:
                    time.sleep(pause)
        close_connection(self.db)


def _hostname() -> str:
    """Return the host's name, with bytes escaped that are no UTF-8: they could not be stored."""
    return os.fsencode(socket.gethostname()).decode("utf-8", "backslashreplace")
