"""Lists of jobs, a queue's page among them, and the page of one job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.paginator import Page, Paginator
from django.http import Http404, HttpRequest
from django.utils.dateparse import parse_datetime

from dj_queue import timezone
from dj_queue.admin import formats
from dj_queue.admin.charts import charts_of
from dj_queue.admin.columns import Context
from dj_queue.admin.job_columns import job_columns
from dj_queue.admin.links import Links
from dj_queue.admin.permissions import CLEAR, PAUSE, RESUME, Operator
from dj_queue.admin.tables import Table, TableQuery
from dj_queue.exceptions import InvalidOption
from dj_queue.models import STATES
from dj_queue.models.ids import new_id
from dj_queue.observability.jobs import WINDOW, JobFilter, count_jobs, find_jobs
from dj_queue.observability.queues import paused_queues
from dj_queue.observability.timeline import timeline_of
from dj_queue.parsers import is_storable, moment
from dj_queue.routers import QueueDatabase
from dj_queue.routers.registry import backends_on

SIZE = 100
STATE_NAMES = ("ready", "claimed", "scheduled", "blocked", "failed", "finished")
FILTERS = ("state", "queue", "task", "text", "since", "until")
assert set(STATE_NAMES) == {state.state for state in STATES}


def job_filter_of(query: Mapping[str, str], **fixed: str) -> JobFilter:
    """Read the filters of a query or a form; what cannot be read is as if it were not there."""
    values = {name: query.get(name, "").strip() for name in FILTERS} | fixed
    values = {name: value if is_storable(value) else "" for name, value in values.items()}
    if values["state"] not in STATE_NAMES:
        values["state"] = ""
    return JobFilter(
        state=values["state"],
        queue=values["queue"],
        task=values["task"],
        text=values["text"],
        since=_moment(values["since"]),
        until=_moment(values["until"]),
    )


def filters_of(job_filter: JobFilter) -> dict[str, str]:
    """Return filters as a query or a form carries them."""
    values = {name: getattr(job_filter, name) for name in FILTERS}
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in values.items()
        if value
    }


def job_list(
    request: HttpRequest, db: QueueDatabase, links: Links, now: datetime
) -> dict[str, Any]:
    """Return the context of the list of jobs."""
    return {"is_queue": False, **_list(request, db, links, now, job_filter_of(request.GET))}


def queue_page(
    request: HttpRequest, db: QueueDatabase, links: Links, now: datetime, place: tuple[str, str]
) -> dict[str, Any]:
    """Return the context of a queue's page; `place` is the queue and the state."""
    queue, state = place
    if state not in STATE_NAMES:
        raise Http404(f"no state {state!r}")
    if not is_storable(queue):
        raise Http404(f"no queue {queue!r}")
    job_filter = job_filter_of(request.GET, queue=queue, state=state)
    siblings = [name for name in backends_on(db.alias) if name != db.backend]
    context = Context(links, Operator.of(request), siblings)
    is_paused = queue in paused_queues(db.reader)
    tabs = []
    for name in STATE_NAMES:
        count = count_jobs(db.reader, JobFilter(state=name, queue=queue))
        tabs.append((name, count, links.queue(queue, name), name == state))
    return {
        "is_queue": True,
        "queue": queue,
        "siblings": siblings,
        "is_paused": is_paused,
        "tabs": tabs,
        "buttons": context.buttons(queue, [RESUME if is_paused else PAUSE, CLEAR]),
        "charts": charts_of(db.reader, now=now, queue=queue),
        **_list(request, db, links, now, job_filter),
    }


def _list(
    request: HttpRequest, db: QueueDatabase, links: Links, now: datetime, job_filter: JobFilter
) -> dict[str, Any]:
    columns = job_columns(links, job_filter.state, now=now, with_queue=not job_filter.queue)
    query = TableQuery("jobs", columns, request.GET)
    number = int(query.page) if query.page.isascii() and query.page.isdigit() else 1
    start = (max(1, min(number, 1000)) - 1) * SIZE
    found = find_jobs(db.reader, job_filter, order=query.order, start=start, size=SIZE)
    pages: Paginator = Paginator(range(found.count.value), SIZE)
    page = Page(found.jobs, pages.get_page(query.page).number, pages)
    actions = Operator.of(request).job_actions(job_filter.state)
    selection = [str(job.pk) for job in found.jobs] if actions else ()
    return {
        "table": Table(query, page, _empty(job_filter), found.count.is_capped, selection),
        "job_filter": job_filter,
        "is_partial": found.is_partial,
        "window": f"{WINDOW:,}",
        "is_filtered": job_filter.is_searched,
        "filters": filters_of(job_filter),
        "since": formats.typed(job_filter.since),
        "until": formats.typed(job_filter.until),
        "states": STATE_NAMES,
        "actions": actions,
        "request_id": new_id(),
    }


def job_page(request: HttpRequest, db: QueueDatabase, links: Links, job_id: UUID) -> dict[str, Any]:
    """Return the context of a job's page."""
    timeline = timeline_of(db.reader, job_id)
    if timeline is None:
        raise Http404(f"backend {db.backend!r} has no job {job_id}")
    result = getattr(timeline.execution, "return_value", None)
    return {
        "timeline": timeline,
        "events": [
            (
                each,
                formats.moment(each.at),
                formats.duration(each.seconds),
                formats.exact(each.seconds),
            )
            for each in timeline.events
        ],
        "attempts": [
            (
                each,
                formats.moment(each.started_at),
                formats.duration((each.ended_at - each.started_at).total_seconds()),
            )
            for each in timeline.attempts
        ],
        "arguments": [("args", _json(timeline.job.args)), ("kwargs", _json(timeline.job.kwargs))],
        "result": _json(result) if timeline.state == "finished" else None,
        "actions": Operator.of(request).job_actions(timeline.state),
        "queue_url": links.queue(timeline.job.queue_name, timeline.state or "ready"),
        "request_id": new_id(),
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _empty(job_filter: JobFilter) -> str:
    if job_filter.is_searched:
        return "no job matches: look in another state, or take a filter away"
    if job_filter.state:
        return f"no {job_filter.state} jobs"
    return "no jobs"


def _moment(text: str) -> datetime | None:
    try:
        typed = parse_datetime(text)
        return None if typed is None else timezone.from_shown(moment(typed, "the filter"))
    except (ValueError, InvalidOption):
        return None
