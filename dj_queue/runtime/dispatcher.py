"""The dispatcher: makes due jobs ready, and looks after the queue database."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
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
"""The pause between two steps of a duty that has more to do, but for dispatch."""


@dataclass
class Duty:
    """Something to do every so many seconds, a step at a time; `step` tells if there is more.

    The next step of one that has more comes after `busy_seconds`.
    """

    interval_seconds: float
    step: Callable[[], object]
    busy_seconds: float = BUSY_SECONDS
    next_at: float = 0.0

    def do_if_due(self, now: float) -> bool:
        """Do a step if it is time, in monotonic seconds; tell whether it was."""
        if now < self.next_at:
            return False
        self.next_at = now + self.interval_seconds  # Also where it fails.
        if self.step():
            self.next_at = now + self.busy_seconds
        return True


class Dispatcher(Poller):
    """Promotes a backend's due jobs, a batch at a time, and does what keeps its database tidy.

    Between two batches every other duty gets its turn, however many jobs are due.
    """

    def __init__(self, registration: Registration) -> None:
        super().__init__(registration)
        self.options = self.db.options.dispatcher
        lost = LostProcesses(self.db)
        self.duties = [
            Duty(self.options.polling_interval, self._dispatch, busy_seconds=0.0),
            Duty(lost.look_seconds, lost.step),
            Duty(PRUNING_SECONDS, Pruner(self.db).step),
            Duty(SLOTS_SECONDS, SlotKeeper(self.db).step),
        ]
        if registration.supervision.is_here:
            self._found: set[Path] = set()
            self.duties.append(Duty(FIND_SECONDS, self._recover_dead))

    def poll(self) -> float:
        # The longest overdue first: one that fails ends the round, and the next begins with others.
        for duty in sorted(self.duties, key=attrgetter("next_at")):
            if duty.do_if_due(time.monotonic()):
                self.answered()
        due = min(duty.next_at for duty in self.duties)
        return max(0.0, due - time.monotonic())

    def _dispatch(self) -> bool:
        count = dispatch_due(self.db, now=present(self.db), limit=self.options.batch_size)
        if count:
            self.answered(has_written=True)
            log("jobs_dispatched", backend=self.db.backend, database=self.db.alias, count=count)
        return count == self.options.batch_size

    def _recover_dead(self) -> None:
        """Recover what others have left on this host: there is no supervisor that would."""
        for dead in find_dead(self.db, but=self._found):
            if recovers(dead) and dead.file:
                self._found.add(dead.file.path)
            dead.close()
