"""Lost processes: who is silent for too long is given up, and what it had claimed recovered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from dj_queue.engines.clock import present, seconds_of_life
from dj_queue.events import log
from dj_queue.exceptions import ProcessPruned
from dj_queue.models import Process
from dj_queue.operations.processes import give_up, silent_processes
from dj_queue.operations.recover import BATCH_SIZE, claims_of, recover_some
from dj_queue.operations.remains import UNKNOWN
from dj_queue.routers import QueueDatabase, queue_database
from dj_queue.routers.registry import backends_on
from dj_queue.runtime.dead import dead_here
from dj_queue.runtime.process import LONGEST_RETRY_SECONDS


@dataclass
class GivenUp:
    """A process whose claims are being recovered, and how many were."""

    id: UUID
    name: str
    error: ProcessPruned
    ready_count: int = 0
    ended_count: int = 0


class LostProcesses:
    """Gives up the silent processes of a queue database, and recovers their claims batch by batch.

    Not at first sight: after an outage every heart has been silent, and beats again soon; and of
    one whose clock is slow every heartbeat is old. So the same last heartbeat must have been seen
    for longer than a heart ever pauses, by one who looked all the time.
    """

    def __init__(self, db: QueueDatabase) -> None:
        self.db = db
        options = [queue_database(name).options for name in backends_on(db.alias)]
        # Processes of every backend are looked at: the most patient one decides.
        self.alive_threshold_seconds = max(each.process_alive_threshold for each in options)
        interval = max(each.process_heartbeat_interval for each in options)
        # The longest pause of a heart that tries again after an outage.
        self.look_seconds = min(interval, LONGEST_RETRY_SECONDS)
        # Whatever the clocks of two hosts say of each other, a living one has beaten by then.
        self.confirm_seconds = interval + 2 * self.look_seconds
        self._seen: dict[UUID, tuple[datetime | None, float]] = {}
        self._looked_at = 0.0
        self._given_up: GivenUp | None = None

    def step(self) -> bool:
        """Recover some claims of one that is lost for certain; tell whether there may be more."""
        lost = self._look()
        if self._given_up is None:
            self._given_up = next(filter(None, map(self._give_up, lost)), None)
        if self._given_up is None:
            return False
        self._recover(self._given_up)
        return True

    def _look(self) -> list[UUID]:
        """Return who has been seen silent for long enough."""
        now, at = present(self.db), seconds_of_life()
        silent = silent_processes(
            self.db, now=now, alive_threshold_seconds=self.alive_threshold_seconds
        )
        if self._given_up is not None:
            silent.pop(self._given_up.id, None)
        has_watched = at - self._looked_at <= 2 * self.look_seconds
        before = self._seen if has_watched else {}
        self._looked_at = at
        self._seen = {
            process_id: before[process_id]
            if process_id in before and before[process_id][0] == heartbeat
            else (heartbeat, at)
            for process_id, heartbeat in silent.items()
        }
        return [
            process_id
            for process_id, (_, since) in self._seen.items()
            if at - since >= self.confirm_seconds
        ]

    def _give_up(self, process_id: UUID) -> GivenUp | None:
        heartbeat, _ = self._seen.pop(process_id)
        row = self.db.objects(Process).filter(pk=process_id).first()
        # Who has beaten since is alive, and may start what it has claimed; of one that has no row
        # any more somebody else takes care.
        if heartbeat != (row and row.last_heartbeat_at) or (row and not give_up(self.db, row)):
            return None
        if row is None:
            who, why = str(process_id), "is not registered"
        else:
            who = f"{row.name} (pid {row.pid} on {row.hostname})"
            why = f"has sent no heartbeat since {row.last_heartbeat_at:%Y-%m-%d %H:%M:%S} UTC"
        error = ProcessPruned(f"the process {who} {why} and was given up")
        return GivenUp(process_id, row.name if row else "", error)

    def _recover(self, process: GivenUp) -> None:
        # Should it fail, what is left is found again as claims of one that is not registered.
        self._given_up = None
        here = dead_here(self.db, process.id)
        remains = here.remains if here else UNKNOWN
        now = present(self.db)
        done = recover_some(self.db, [process.id], process.error, now=now, remains=remains)
        process.ready_count += done.ready_count
        process.ended_count += len(done.ended)
        has_more = done.ready_count + len(done.ended) == BATCH_SIZE
        if here:
            # Another transaction may hold some claims; then what is known of them is kept.
            if here.file and not claims_of(self.db, [process.id]).exists():
                here.file.remove()
            here.close()
        if has_more:
            self._given_up = process
            return
        log(
            "process_pruned",
            database=self.db.alias,
            process=process.id,
            name=process.name,
            ready=process.ready_count,
            ended=process.ended_count,
        )
