"""drain(): a dispatcher, a worker and a finisher in the test's own thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from dj_queue import timezone
from dj_queue.compat import TaskResult
from dj_queue.models import ClaimedExecution
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim
from dj_queue.operations.dispatch import dispatch_due
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import announce, finish
from dj_queue.operations.slots import hand_on_missed
from dj_queue.routers import QueueDatabase, queue_database
from dj_queue.routers.registry import routes
from dj_queue.testing.enqueued import capture_enqueues

DUE_BATCH = 500


def drain(*backends: str, now: datetime | None = None, limit: int = 1000) -> list[TaskResult]:
    """Run what is ready or due on these backends, on all if none is named, until nothing is left.

    One job after the other in claim order, in this thread and in whatever transaction is open; the
    first of the backends that has a job is served, paused queues are not. Scheduled jobs are due
    by `now`, the present if None. Returns the results in the order the jobs were run. Raises
    AssertionError when more than `limit` jobs would run.
    """
    if limit < 1:
        raise ValueError(f"expected limit to be above 0, got {limit!r}")
    databases = [queue_database(name) for name in backends or routes()]
    now = None if now is None else timezone.to_utc(now)
    process_id = new_id()
    results: list[TaskResult] = []
    sources: Counter[str] = Counter()
    while found := _claim_first(databases, process_id, now):
        result, enqueued_count = _run(*found)
        results.append(result)
        sources[result.task.module_path] += enqueued_count
        if len(results) == limit:
            _expect_the_end(databases, now, limit, sources)
    return results


def _claim_first(
    databases: Sequence[QueueDatabase], process_id: UUID, now: datetime | None
) -> tuple[QueueDatabase, ClaimedExecution] | None:
    for db in databases:
        time = now or timezone.now()
        while dispatch_due(db, now=time, limit=DUE_BATCH) == DUE_BATCH:
            pass
        # Inside a transaction, as a TestCase opens one, slots wait for a commit that never comes.
        after_key = hand_on_missed(db, now=time, after_key="", limit=DUE_BATCH)
        while after_key:
            after_key = hand_on_missed(db, now=time, after_key=after_key, limit=DUE_BATCH)
        # One at a time: the next job may be of a higher priority than those that wait.
        for claimed in claim(db, ["*"], limit=1, process_id=process_id, now=time):
            return db, claimed
    return None


def _run(db: QueueDatabase, claimed: ClaimedExecution) -> tuple[TaskResult, int]:
    with capture_enqueues() as enqueued:
        outcome = execute(db, claimed, clock=timezone.now)
        for recorded in finish(db, [outcome]):
            announce(db, recorded)
    return outcome.result, len(enqueued)


def _expect_the_end(
    databases: Sequence[QueueDatabase], now: datetime | None, limit: int, sources: Counter[str]
) -> None:
    """Raise when there is another job to run; its claim is rolled back."""
    for db in databases:
        with db.atomic():
            if _claim_first([db], new_id(), now):
                busiest = [f"{path} enqueued {n}" for path, n in sources.most_common(3) if n]
                raise AssertionError(
                    f"expected drain(limit={limit}) to be done after {limit} jobs, got another; "
                    f"while they ran, {', '.join(busiest) or 'none was enqueued'}"
                )
