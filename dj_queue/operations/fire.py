"""Fire: instants of recurring tasks become jobs, once each: who advances the cursor fires them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from django.db.models import Q, QuerySet

from dj_queue.compat import InvalidTask, TaskResult, task_enqueued
from dj_queue.conf import SchedulerOptions
from dj_queue.engines import naming_tables
from dj_queue.exceptions import InvalidSchedule, InvalidTaskPath
from dj_queue.models import Job, RecurringRun, RecurringTask
from dj_queue.models.fields import encode_json
from dj_queue.models.ids import new_id
from dj_queue.operations.concurrency import assign_key
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.receivers import tell
from dj_queue.operations.transitions import in_transaction
from dj_queue.results import described_task, discarded_result, enqueued_result
from dj_queue.routers import Database, QueueDatabase
from dj_queue.routers.registry import backends_on
from dj_queue.schedules import instants_after, last_until, next_after
from dj_queue.task_paths import task_at

MOST_INSTANTS = 500
"""Of one task in one transaction; the rest fires in the next."""

MOMENT = timedelta(microseconds=1)

Fingerprint = tuple[object, ...]
"""What tells whether a row is still the one that could not be read."""


@dataclass(frozen=True)
class Plan:
    """What becomes of a due task: the instants that fire, in order, and its next one.

    `missed_since` is the first instant that does not fire any more, if there is one.
    """

    task: RecurringTask
    instants: tuple[datetime, ...]
    next_run_at: datetime | None
    missed_since: datetime | None = None


@dataclass(frozen=True)
class Round:
    """One look for due tasks: what fired, which rows could not be read and why, what comes next.

    `fired` has the number of jobs beside each plan. `next_run_at` is the earliest instant known
    to come, None when none is within the horizon.
    """

    fired: tuple[tuple[Plan, int], ...]
    broken: tuple[tuple[RecurringTask, InvalidSchedule], ...]
    next_run_at: datetime | None


def fire_due(
    db: QueueDatabase,
    *,
    now: datetime,
    limit: int,
    horizon: timedelta,
    passed_over: frozenset[Fingerprint] = frozenset(),
    is_over: Callable[[], bool] = lambda: False,
) -> Round:
    """Enqueue the jobs of up to `limit` due tasks, of all our backends on this database.

    One statement when none is due; it looks `horizon` ahead. Rows whose fingerprint is in
    `passed_over` are left alone, and all but the first once `is_over`. Sends task_enqueued. Opens a
    transaction for each due task: whoever advances its cursor there fires it, and a task that
    somebody else was faster with is left out. Raises NotMigrated.
    """
    with naming_tables(db):
        soon = firable(db).filter(next_run_at__lte=now + horizon).order_by("next_run_at")
        rows = list(soon[: limit + len(passed_over) + 1])
    rows = [row for row in rows if fingerprint(row) not in passed_over]
    due = [row for row in rows if row.next_run_at is not None and row.next_run_at <= now][:limit]
    times = [row.next_run_at for row in rows[len(due) :]]
    fired, broken = [], []
    for number, row in enumerate(due):
        if number and is_over():
            times += [later.next_run_at for later in due[number:]]
            break
        own = QueueDatabase(alias=db.alias, backend=row.backend)
        try:
            plan = planned(own, row, now)
            count = _fire(own, plan, now)
        except InvalidSchedule as error:
            broken.append((row, error))
            continue
        times.append(plan.next_run_at)
        if count is not None:
            fired.append((plan, count))
    return Round(tuple(fired), tuple(broken), min(filter(None, times), default=None))


def run_now(db: QueueDatabase, row: RecurringTask, *, now: datetime) -> TaskResult:
    """Enqueue one job of a recurring task, whatever its schedule says, and return its result.

    Joins the queue database's open transaction, otherwise commits at once. Sends task_enqueued.
    Raises InvalidSchedule when its arguments make no concurrency key any more.
    """
    job = job_of(db, row, now)
    if enqueue(db, [job], now=now):
        return discarded_result(job, described_task(job))
    return announce(db, [job])[0]


def firable(db: Database) -> QuerySet[RecurringTask]:
    """Return the enabled tasks of our backends here; dynamic ones where these are enabled."""
    dynamic: list[str] = []
    static: list[str] = []
    for backend in backends_on(db.alias):
        options = QueueDatabase(alias=db.alias, backend=backend).options.scheduler
        (dynamic if options.dynamic_tasks_enabled else static).append(backend)
    ours = Q(backend__in=dynamic)
    if static:
        ours |= Q(backend__in=static, is_static=True)
    return db.objects(RecurringTask).filter(ours, is_enabled=True)


def fingerprint(row: RecurringTask) -> Fingerprint:
    """Return what has to change before a row that could not be read is worth another look."""
    arguments = encode_json(row.args), encode_json(row.kwargs)
    return row.pk, row.schedule, row.timezone, row.misfire, row.task_path, *arguments


def planned(db: QueueDatabase, row: RecurringTask, now: datetime) -> Plan:
    """Say which instants of a due task fire, by its misfire policy.

    Instants that are not missed yet fire, all of them. Of missed ones "all" fires each, "latest"
    the last if nothing later fires, "skip" none; past the limit none fires whatever the policy is.
    Raises InvalidSchedule for a row that cannot be read.
    """
    cursor = row.next_run_at
    assert cursor is not None
    options = db.options.scheduler
    is_all = row.misfire == "all"
    instants = list(islice(_instants(row, _oldest(options, now, is_all), now), MOST_INSTANTS + 1))
    if len(instants) > MOST_INSTANTS:
        next_run_at: datetime | None = instants.pop()
    else:
        next_run_at = next_after(row.schedule, row.timezone, now)
    if not instants and row.misfire == "latest":
        last = last_until(row.schedule, row.timezone, first=cursor, until=now)
        if last >= _oldest(options, now, is_all=True):
            instants = [last]
    missed_since = None if instants[:1] == [cursor] else cursor
    return Plan(row, tuple(instants), next_run_at, missed_since)


def _oldest(options: SchedulerOptions, now: datetime, is_all: bool) -> datetime:
    """Return the earliest instant that may fire now: of all of them, or of those in time."""
    return now - timedelta(seconds=options.misfire_limit if is_all else options.misfire_after)


def _instants(row: RecurringTask, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the instants from the cursor or `start`, whichever is later, up to `end`."""
    cursor = row.next_run_at
    assert cursor is not None
    if cursor >= start:
        yield cursor
        start = cursor + MOMENT
    for each in instants_after(row.schedule, row.timezone, start - MOMENT):
        if each > end:
            return
        yield each


def _fire(db: QueueDatabase, plan: Plan, now: datetime) -> int | None:
    """Enqueue a task's jobs and advance its cursor; None when it was not ours to advance."""
    jobs = {instant: job_of(db, plan.task, now) for instant in plan.instants}

    def transaction() -> list[Job] | None:
        if not _advance(db, plan):
            return None
        # Fired already: the cursor went back with a clock by which the task was changed.
        runs = db.objects(RecurringRun).filter(task_id=plan.task.pk, run_at__in=plan.instants)
        known = set(runs.values_list("run_at", flat=True))
        new = {instant: job for instant, job in jobs.items() if instant not in known}
        db.objects(RecurringRun).bulk_create(
            RecurringRun(task_id=plan.task.pk, run_at=instant, job_id=job.id)
            for instant, job in new.items()
        )
        discarded = enqueue(db, list(new.values()), now=now)
        return [job for job in new.values() if job.id not in discarded]

    enqueued = in_transaction(db, transaction)
    if enqueued is None:
        return None
    announce(db, enqueued)
    return len(enqueued)


def _advance(db: Database, plan: Plan) -> bool:
    """Set the cursor if it is still where it was planned from; tell whether it was.

    A write first: it waits for whoever is at the row, and then finds the cursor moved.
    """
    row = plan.task
    same = {"pk": row.pk, "is_enabled": True, "next_run_at": row.next_run_at}
    # By now the row may be scheduled otherwise, to come at the same instant.
    same |= {name: getattr(row, name) for name in ("schedule", "timezone", "misfire")}
    changes = {"next_run_at": plan.next_run_at}
    if plan.instants:
        changes["last_run_at"] = plan.instants[-1]
    return db.objects(RecurringTask).filter(**same).update(**changes) > 0


def job_of(db: QueueDatabase, row: RecurringTask, now: datetime) -> Job:
    """Build a job of a recurring task; raise InvalidSchedule when its arguments make no key."""
    job = Job(
        id=new_id(),
        backend=row.backend,
        queue_name=row.queue_name,
        task_path=row.task_path,
        args=row.args,
        kwargs=row.kwargs,
        priority=row.priority,
        enqueued_at=now,
    )
    try:
        task = task_at(row.task_path)
    except InvalidTaskPath:
        return job  # It fails when it runs, and says why.
    job.max_attempts = getattr(task, "max_attempts", 1)
    try:
        assign_key(task, job, db.options.default_concurrency_duration)
    except InvalidTask as error:
        raise InvalidSchedule(str(error)) from error
    return job


def announce(db: QueueDatabase, jobs: Sequence[Job]) -> list[TaskResult]:
    """Send task_enqueued for jobs, whose paths need not import; return their results."""
    results = [enqueued_result(job, described_task(job)) for job in jobs]
    for result in results:
        tell(task_enqueued, db, result)
    return results
