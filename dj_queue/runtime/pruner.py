"""The pruner: what a dispatcher removes of old jobs and records, a step at a time."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from dj_queue.engines.clock import present
from dj_queue.events import log
from dj_queue.models import FailedExecution, FinishedExecution
from dj_queue.operations.prune import prune_ended, prune_minutes, prune_runs
from dj_queue.routers import QueueDatabase

STEP_SIZE = 500
RECORDS_KEPT = timedelta(days=8)
"""How long minutes and recurring runs are kept: a week of them can be looked at."""

Ended = type[FinishedExecution] | type[FailedExecution]


class Pruner:
    """Walks over a backend's ended jobs again and again, and removes those that are too old."""

    def __init__(self, db: QueueDatabase) -> None:
        self.db = db
        after: dict[Ended, float | None] = {
            FinishedExecution: db.options.clear_finished_jobs_after,
            FailedExecution: db.options.clear_failed_jobs_after,
        }
        self._kept: dict[Ended, timedelta] = {
            state: timedelta(seconds=seconds)
            for state, seconds in after.items()
            if seconds is not None
        }
        self._at: dict[Ended, UUID | None] = dict.fromkeys(self._kept)

    def step(self) -> bool:
        """Remove a little of each kind; tell whether there may be more at once."""
        now, db = present(self.db), self.db
        counts = {state.state: self._walk(state) for state in self._kept}
        before = now - RECORDS_KEPT
        counts["minutes"] = prune_minutes(db, before=before, limit=STEP_SIZE)
        counts["runs"] = prune_runs(db, before=before, limit=STEP_SIZE)
        removed = {kind: count for kind, count in counts.items() if count}
        if removed:
            where = {"backend": db.backend, "database": db.alias}
            what = ",".join(f"{kind}:{count}" for kind, count in removed.items())
            log("rows_pruned", **where, what=what)
        is_walking = any(self._at.values())
        return is_walking or max(counts.values()) == STEP_SIZE

    def _walk(self, state: Ended) -> int:
        done = prune_ended(
            self.db,
            state,
            before=present(self.db) - self._kept[state],
            after_id=self._at[state],
            limit=STEP_SIZE,
        )
        self._at[state] = done.last_id
        return done.removed_count
