"""Lists of jobs: by state and queue, filtered and searched, a page at a time.

What an index does not order or find is looked for among the newest jobs only, so that a page costs
the same at any backlog.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from dj_queue.engines.tallies import Count
from dj_queue.models import STATES, Execution, Job
from dj_queue.models.ids import first_id_at
from dj_queue.observability.queues import FINISHED_CAP
from dj_queue.routers import Database, QueueDatabase

WINDOW = 10_000
"""How many of the newest jobs a search or an unusual order looks at."""
CLOCKS_APART = timedelta(minutes=2)
"""How far an id's time may be from its job's."""

BY_NAME: dict[str, type[Execution]] = {state.state: state for state in STATES}
ORDERS = {
    "": ("-id",),
    "ready": ("-priority", "job_id"),
    "scheduled": ("run_after", "job_id"),
    "blocked": ("expires_at", "job_id"),
    "claimed": ("claimed_at", "job_id"),
    "failed": ("-job_id",),
    "finished": ("-job_id",),
}
"""The order of a state's jobs when none is asked for: what is next or newest comes first."""


@dataclass(frozen=True)
class JobFilter:
    """Which of a backend's jobs: "" and None stand for any.

    `text` is an id, or part of the task's path, of the arguments' JSON, or of the last error;
    `since` and `until` are about when the job was enqueued.
    """

    state: str = ""
    queue: str = ""
    task: str = ""
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_searched(self) -> bool:
        """Whether jobs must be looked at one by one to know."""
        return bool(self.task or self.text or self.since or self.until)

    @property
    def job_id(self) -> UUID | None:
        """The id that `text` is, or None."""
        try:
            return UUID(self.text.strip())
        except ValueError:
            return None


@dataclass(frozen=True)
class JobPage:
    """Some jobs in order, with their states; `is_partial`: only the newest were looked at."""

    jobs: Sequence[Job]
    count: Count
    is_partial: bool = False


def find_jobs(
    db: QueueDatabase,
    job_filter: JobFilter,
    *,
    order: Sequence[str] = (),
    start: int = 0,
    size: int = 100,
) -> JobPage:
    """Return jobs in `order` (fields of the state's row, or of `job__`), `size` from `start` on.

    At most 10,000 are counted. Up to four statements.
    """
    rows, is_partial = _matching(db, job_filter), False
    if (job_filter.is_searched and job_filter.job_id is None) or order:
        floor = _own(db, job_filter).order_by("-pk").values_list("pk", flat=True)
        oldest = list(floor[WINDOW : WINDOW + 1])
        if oldest:
            rows, is_partial = rows.filter(pk__gt=oldest[0]), True
    ordered = rows.order_by(*(*order, "pk") if order else ORDERS[job_filter.state])
    ids, stop = ordered.values_list("pk", flat=True), min(start + size, FINISHED_CAP)
    if job_filter.is_searched:
        # Looking is what costs: all that is found is fetched at once, instead of counted first.
        found = list(ids[: FINISHED_CAP + 1])
        count, page = len(found), found[start:stop]
    else:
        # The window is full when there is something behind it.
        count = WINDOW if is_partial else rows.order_by()[: FINISHED_CAP + 1].count()
        page = list(ids[start:stop])
    return JobPage(
        _loaded(db, page, job_filter.state), Count.up_to(FINISHED_CAP, count), is_partial
    )


def count_jobs(db: QueueDatabase, job_filter: JobFilter) -> Count:
    """Count the jobs that match, old ones included, up to 10,000."""
    rows = _matching(db, job_filter).order_by()
    return Count.up_to(FINISHED_CAP, rows[: FINISHED_CAP + 1].count())


def batches(
    db: QueueDatabase, job_filter: JobFilter, *, size: int, before: UUID
) -> Iterator[list[UUID]]:
    """Give the ids of matching jobs enqueued before `before`, oldest first, `size` at a time."""
    last: UUID | None = None
    while True:
        rows = _matching(db, job_filter).filter(pk__lt=before).order_by("pk")
        if last is not None:
            rows = rows.filter(pk__gt=last)
        ids = list(rows.values_list("pk", flat=True)[:size])
        if not ids:
            return
        yield ids
        last = ids[-1]


def load_job(db: QueueDatabase, job_id: UUID) -> Job | None:
    """Read a job of the backend with its state's row; None when there is none."""
    jobs = db.objects(Job).filter(pk=job_id, backend=db.backend)
    return jobs.select_related(*_relations()).first()


def state_row(job: Job) -> Any:
    """Return the state's row of a job read by this module, or None while it moves."""
    return next((getattr(job, name) for name in _relations() if hasattr(job, name)), None)


def with_key(db: QueueDatabase, state: str, ids: Sequence[UUID]) -> list[UUID]:
    """Return those of the ids whose jobs are in a state and have a concurrency key."""
    rows = db.objects(BY_NAME[state]).filter(backend=db.backend, pk__in=ids)
    keyed = rows.filter(job__concurrency_key__isnull=False)
    return list(keyed.values_list("pk", flat=True))


def stored(db: Database, ids: Sequence[UUID], *, state: str = "") -> set[UUID]:
    """Return those of the ids that are a job's, in a state if one is named."""
    model: type[Any] = BY_NAME.get(state, Job)
    return set(db.objects(model).filter(pk__in=ids).values_list("pk", flat=True)) if ids else set()


def _loaded(db: Database, ids: Sequence[UUID], state: str) -> list[Job]:
    jobs = db.objects(Job).filter(pk__in=ids).select_related(*_relations())
    by_id = {job.pk: job for job in jobs.defer("args", "kwargs")}
    found = [by_id[job_id] for job_id in ids if job_id in by_id]
    # A job may have moved on since its id was read.
    return [job for job in found if not state or getattr(state_row(job), "state", "") == state]


def _relations() -> list[str]:
    return [state.__name__.lower() for state in STATES]


def _own(db: QueueDatabase, job_filter: JobFilter) -> QuerySet[Any]:
    """Return the rows in which the matching jobs are: of their state, or the jobs themselves."""
    model: type[Any] = BY_NAME.get(job_filter.state, Job)
    rows: QuerySet[Any] = db.objects(model).filter(backend=db.backend)
    if job_filter.queue:
        rows = rows.filter(queue_name=job_filter.queue)
    # An id begins with the time it was made: a span of time is a span of the primary key.
    if job_filter.since:
        rows = rows.filter(pk__gte=first_id_at(job_filter.since - CLOCKS_APART))
    if job_filter.until:
        rows = rows.filter(pk__lt=first_id_at(job_filter.until + CLOCKS_APART))
    return rows


def _matching(db: QueueDatabase, job_filter: JobFilter) -> QuerySet[Any]:
    rows, job = _own(db, job_filter), "job__" if job_filter.state else ""
    if job_filter.task:
        rows = rows.filter(**{f"{job}task_path": job_filter.task})
    if job_filter.since:
        rows = rows.filter(**{f"{job}enqueued_at__gte": job_filter.since})
    if job_filter.until:
        rows = rows.filter(**{f"{job}enqueued_at__lt": job_filter.until})
    if job_filter.job_id is not None:
        return rows.filter(pk=job_filter.job_id)
    if job_filter.text:
        rows = rows.filter(_mentions(job_filter, job))
    return rows


def _mentions(job_filter: JobFilter, job: str) -> Q:
    text = job_filter.text.replace("\x00", "")
    as_json = json.dumps(text, ensure_ascii=False)[1:-1]
    found = Q(**{f"{job}task_path__icontains": text})
    for name in ("args", "kwargs"):
        found |= Q(**{f"{job}{name}__icontains": as_json})
    if job_filter.state in ("", "failed"):
        error = "" if job_filter.state else "failedexecution__"
        found |= Q(**{f"{error}exception_path__icontains": text})
        found |= Q(**{f"{error}message__icontains": text})
    return found
