"""Lost processes: who is silent for too long is given up, and what it had claimed recovered."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from dj_queue.engines.clock import present, seconds_of_life
from dj_queue.events import log
from dj_queue.exceptions import ProcessPruned
from dj_queue.models import Process
from dj_queue.operations.processes import give_up, silent_processes
from dj_queue.operations.recover import recover
from dj_queue.operations.remains import UNKNOWN
from dj_queue.routers import QueueDatabase, queue_database
from dj_queue.routers.registry import backends_on
from dj_queue.runtime.dead import dead_here
from dj_queue.runtime.process import LONGEST_RETRY_SECONDS


class LostProcesses:
    """Gives up the silent processes of a queue database.

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

    def give_up(self) -> int:
        """Recover the claims of those that are lost for certain; return how many processes."""
        now, at = present(self.db), seconds_of_life()
        silent = silent_processes(
            self.db, now=now, alive_threshold_seconds=self.alive_threshold_seconds
        )
        has_watched = at - self._looked_at <= 2 * self.look_seconds
        before = self._seen if has_watched else {}
        self._looked_at = at
        self._seen = {
            process_id: before[process_id]
            if process_id in before and before[process_id][0] == heartbeat
            else (heartbeat, at)
            for process_id, heartbeat in silent.items()
        }
        lost = [
            process_id
            for process_id, (_, since) in self._seen.items()
            if at - since >= self.confirm_seconds
        ]
        return sum(self._give_up(process_id) for process_id in lost)

    def _give_up(self, process_id: UUID) -> bool:
        heartbeat, _ = self._seen.pop(process_id)
        row = self.db.objects(Process).filter(pk=process_id).first()
        # Who has beaten since is alive, and may start what it has claimed; of one that has no row
        # any more somebody else takes care.
        if heartbeat != (row and row.last_heartbeat_at) or (row and not give_up(self.db, row)):
            return False
        if row is None:
            who, why = str(process_id), "is not registered"
        else:
            who = f"{row.name} (pid {row.pid} on {row.hostname})"
            why = f"has sent no heartbeat since {row.last_heartbeat_at:%Y-%m-%d %H:%M:%S} UTC"
        error = ProcessPruned(f"the process {who} {why} and was given up")
        here = dead_here(self.db, process_id)
        remains = here.remains if here else UNKNOWN
        done = recover(self.db, [process_id], error, now=present(self.db), remains=remains)
        if here and here.file:
            if not done.left_count:
                here.file.remove()
            here.close()
        log(
            "process_pruned",
            database=self.db.alias,
            process=process_id,
            name=row.name if row else "",
            ready=done.ready_count,
            ended=len(done.ended),
        )
        return True
