"""The runner: units in threads of this process, from their start to the end of their drain."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dj_queue.events import log
from dj_queue.operations.receivers import signal_under_way
from dj_queue.routers import QueueDatabase
from dj_queue.runtime.dispatcher import Dispatcher
from dj_queue.runtime.finisher import Finisher
from dj_queue.runtime.forks import inherit_nothing
from dj_queue.runtime.ledger import Ledger
from dj_queue.runtime.listener import listeners_for
from dj_queue.runtime.poller import Poller
from dj_queue.runtime.process import Heartbeat, Registration, Supervision
from dj_queue.runtime.scheduler import Scheduler
from dj_queue.runtime.units import Unit
from dj_queue.runtime.worker import Worker

RECORD_SECONDS = 5.0
"""How long outcomes may take to be recorded after the last job has ended."""
LEAVE_SECONDS = 1.0
"""How long the rest may take: a thread that hangs in a connect holds nothing, and is left."""


@dataclass(frozen=True)
class Leftovers:
    """What a stop could not bring to its end; false when there is none."""

    abandoned_count: int
    lost_count: int
    hanging_count: int = 0
    signals: tuple[str, ...] = ()
    """The signals whose receivers still run, one for each thread."""

    def __bool__(self) -> bool:
        return bool(self.abandoned_count or self.lost_count or self.hanging_count or self.signals)

    def __str__(self) -> str:
        receivers = "".join(f", receivers of {each} that did not return" for each in self.signals)
        return (
            f"jobs that did not end in time: {self.abandoned_count}, "
            f"outcomes that could not be recorded: {self.lost_count}, "
            f"threads that hang in the database: {self.hanging_count}{receivers}"
        )


class Runner:
    """Some units in this process: all of a project in thread mode, one in a forked child.

    Start it, and stop it in the same process: in a signal handler's main loop, in an ASGI lifespan,
    in a test. Units whose database is away are retried by their own threads; the others work on.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        *,
        supervision: Supervision | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        """Prepare the threads of `units`; a supervisor shares the ledger of its child's one."""
        self.supervision = supervision or Supervision()
        self.registrations = [
            Registration(unit, self.supervision, ledger or Ledger.kept(unit)) for unit in units
        ]
        self.finishers: dict[QueueDatabase, Finisher] = {}
        self.workers: list[Worker] = []
        self.others: list[Poller] = []
        for registration in self.registrations:
            self._add(registration)
        self.listeners = listeners_for(self.workers)
        self.heartbeats = [Heartbeat(group) for group in self._by_database()]
        self.shutdown_timeout = max(unit.db.options.shutdown_timeout for unit in units)
        self.is_broken = False

    def start(self) -> None:
        """Start every thread; returns at once."""
        inherit_nothing(each.ledger for each in self.registrations)
        for thread in (*self.heartbeats, *self.finishers.values(), *self._pollers, *self.listeners):
            thread.start()
        self._log_workers("worker_started", is_start=True)

    def beat(self) -> bool:
        """Note that this process works; false, and logged, when one of its threads has died."""
        dead = [thread.name for thread in self._threads if thread.ident and not thread.is_alive()]
        if dead and not self.is_broken:
            self.is_broken = True
            log("process_broken", database=self.registrations[0].unit.db.alias, threads=dead)
        if not dead:
            self._beat()
        return not dead

    def stop(self, *, at_once: Callable[[], bool] = lambda: False) -> Leftovers:
        """Claim no more, let running jobs end, record what they did; say what was left.

        Waits for running jobs up to `shutdown_timeout` seconds, or until `at_once` is true. Hearts
        beat until all is over.
        """
        deadline = time.monotonic() + self.shutdown_timeout
        for poller in self._pollers:
            poller.stop()
        for listener in self.listeners:
            listener.stop()
        while self._is_draining and time.monotonic() < deadline and not at_once():
            self._beat()
            time.sleep(0.01)
        abandoned = sum(worker.close() for worker in self.workers)
        deadline = time.monotonic() + RECORD_SECONDS
        for worker in self.workers:
            # A claim that is under way hands back what it brings: before its finisher ends.
            self._join(worker, deadline)
        for finisher in self.finishers.values():
            finisher.stop(deadline)
        for thread in (*self.finishers.values(), *self._pollers):
            # Each ends by itself soon after, unless it hangs in the database.
            self._join(thread, deadline + 1)
        self._leave()
        left = self._leftovers(abandoned)
        if not left and not self.is_broken:
            for registration in self.registrations:
                registration.ledger.ends_well()
        return left

    def _beat(self) -> None:
        for registration in self.registrations:
            registration.ledger.beat()

    def _join(self, thread: threading.Thread, deadline: float) -> None:
        while thread.is_alive() and (left := deadline - time.monotonic()) > 0:
            self._beat()
            thread.join(min(left, LEAVE_SECONDS))

    def _leftovers(self, abandoned_count: int) -> Leftovers:
        lost_count = sum(finisher.pending_count for finisher in self.finishers.values())
        threads = (*self._pollers, *self.finishers.values())
        alive = [thread for thread in threads if thread.is_alive()]
        signals = tuple(filter(None, map(signal_under_way, alive)))
        return Leftovers(abandoned_count, lost_count, len(alive) - len(signals), signals)

    @property
    def _threads(self) -> list[threading.Thread]:
        """What this process needs to work, and ends only when it is told to."""
        listeners = [each for each in self.listeners if not each.stopping.is_set()]
        crews = [thread for worker in self.workers for thread in worker.threads]
        return [*self._pollers, *self.finishers.values(), *self.heartbeats, *listeners, *crews]

    @property
    def _pollers(self) -> list[Poller]:
        return [*self.workers, *self.others]

    @property
    def _is_draining(self) -> bool:
        # A poll that is under way may still bring claims.
        return any(poller.is_alive() for poller in self._pollers) or any(
            worker.is_busy for worker in self.workers
        )

    def _add(self, registration: Registration) -> None:
        unit = registration.unit
        if unit.worker is None:
            kind = {"dispatcher": Dispatcher, "scheduler": Scheduler}[unit.kind]
            self.others.append(kind(registration))
            return
        finisher = self.finishers.setdefault(unit.db, Finisher(unit.db))
        self.workers.append(Worker(registration, unit.worker, finisher))

    def _by_database(self) -> list[list[Registration]]:
        groups: dict[str, list[Registration]] = {}
        for each in self.registrations:
            groups.setdefault(each.unit.db.alias, []).append(each)
        return list(groups.values())

    def _leave(self) -> None:
        for heartbeat in self.heartbeats:
            heartbeat.stop()
        deadline = time.monotonic() + LEAVE_SECONDS
        for thread in (*self.heartbeats, *self.listeners):
            self._join(thread, deadline)
        self._log_workers("worker_stopped")

    def _log_workers(self, event: str, *, is_start: bool = False) -> None:
        for worker in self.workers:
            where = {"backend": worker.db.backend, "database": worker.db.alias}
            options = worker.options
            counts = {"threads": options.threads, "concurrency": options.concurrency}
            more = counts if is_start else {}
            log(event, **where, queues=",".join(options.queues), **more)
