"""The dispatcher: makes due jobs ready, and looks after the queue database."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dj_queue.engines.clock import present
from dj_queue.events import log
from dj_queue.operations.dispatch import dispatch_due
from dj_queue.runtime.dead import FIND_SECONDS, find_dead, recovers
from dj_queue.runtime.lost import LostProcesses
from dj_queue.runtime.poller import Poller
from dj_queue.runtime.process import Registration
from dj_queue.runtime.pruner import Pruner
from dj_queue.runtime.slots import SlotKeeper

PRUNING_SECONDS = 60.0
SLOTS_SECONDS = 15.0
BUSY_SECONDS = 0.05
"""The pause between two steps of a duty that has more to do."""


@dataclass
class Duty:
    """Something to do every so many seconds, a little at a time; `work` tells if there is more."""

    interval_seconds: float
    work: Callable[[], object]
    next_at: float = 0.0

    def do_if_due(self, now: float) -> None:
        """Do some of it, if it is time; monotonic seconds."""
        if now >= self.next_at:
            self.next_at = now + self.interval_seconds  # Also where it fails.
            if self.work():
                self.next_at = now + BUSY_SECONDS


class Dispatcher(Poller):
    """Promotes a backend's due jobs, a batch at a time, and does what keeps its database tidy."""

    def __init__(self, registration: Registration) -> None:
        super().__init__(registration)
        self.options = self.db.options.dispatcher
        lost = LostProcesses(self.db)
        self.duties = [
            Duty(lost.look_seconds, lost.give_up),
            Duty(PRUNING_SECONDS, Pruner(self.db).step),
            Duty(SLOTS_SECONDS, SlotKeeper(self.db).step),
        ]
        if registration.supervision.is_here:
            self._found: set[Path] = set()
            self.duties.append(Duty(FIND_SECONDS, self._recover_dead))

    def poll(self) -> float:
        count = dispatch_due(self.db, now=present(self.db), limit=self.options.batch_size)
        self.answered(has_written=bool(count))
        if count:
            log("jobs_dispatched", backend=self.db.backend, database=self.db.alias, count=count)
        if count == self.options.batch_size:
            return 0
        for duty in self.duties:
            duty.do_if_due(time.monotonic())
        now = time.monotonic()
        due = min(duty.next_at for duty in self.duties) - now
        return max(0.0, min(self.options.polling_interval, due))

    def _recover_dead(self) -> None:
        """Recover what others have left on this host: there is no supervisor that would."""
        for dead in find_dead(self.db, but=self._found):
            if recovers(dead) and dead.file:
                self._found.add(dead.file.path)
            dead.close()
