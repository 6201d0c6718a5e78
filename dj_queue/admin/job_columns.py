"""The columns of lists of jobs: those that matter to the state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.utils.text import Truncator

from dj_queue.admin import formats
from dj_queue.admin.columns import time_column
from dj_queue.admin.links import Links
from dj_queue.admin.tables import Cell, Column
from dj_queue.models import Job
from dj_queue.observability.jobs import state_row

MESSAGE_LENGTH = 160


def job_columns(links: Links, state: str, *, now: datetime, with_queue: bool) -> list[Column]:
    """Return the columns for jobs in one state, or in any ("")."""
    job = "job__" if state else ""
    columns = [
        Column("job", lambda row: Cell(str(row.pk), links.job(row.pk)), field="pk", tone="id"),
        Column("task", lambda row: Cell(row.task_path), field=f"{job}task_path", tone="path"),
    ]
    if with_queue:
        columns.append(
            Column(
                "queue",
                lambda row: Cell(row.queue_name, links.queue(row.queue_name, state or "ready")),
                field="queue_name",
            )
        )
    if not state:
        columns.append(Column("state", _state))
    columns += _of_state(state, now)
    columns.append(
        Column("priority", lambda row: Cell(str(row.priority)), field="priority", tone="number")
    )
    columns.append(time_column("enqueued", lambda row: row.enqueued_at, now, f"{job}enqueued_at"))
    return columns


def _of_state(state: str, now: datetime) -> list[Column]:
    match state:
        case "claimed":
            return [
                _text("process", "process_id", "id"),
                time_column("started", _own("claimed_at"), now, "claimed_at"),
            ]
        case "scheduled":
            return [time_column("due", _own("run_after"), now, "run_after")]
        case "blocked":
            return [
                _text("key", "concurrency_key"),
                time_column("expires", _own("expires_at"), now, "expires_at"),
            ]
        case "failed":
            return [
                _text("exception", "exception_path", "path"),
                _text("message", "message", "message"),
                time_column("failed", _own("failed_at"), now, "failed_at"),
            ]
        case "finished":
            return [
                time_column("finished", _own("finished_at"), now, "finished_at"),
                Column("took", _took, tone="number"),
            ]
    return []


def _text(label: str, name: str, tone: str = "") -> Column:
    read = _own(name)

    def cell(row: Job) -> Cell:
        text = str(read(row))
        return Cell(Truncator(text).chars(MESSAGE_LENGTH), title=text[:1000])

    # Sorting by long texts would read them all.
    return Column(label, cell, field="" if name == "message" else name, tone=tone)


def _own(name: str) -> Callable[[Job], Any]:
    return lambda job: getattr(state_row(job), name, "")


def _state(job: Job) -> Cell:
    state = getattr(state_row(job), "state", formats.NOTHING)
    return Cell(state, tone={"failed": "bad", "blocked": "warn"}.get(state, ""))


def _took(job: Job) -> Cell:
    row = state_row(job)
    seconds = (row.finished_at - row.started_at).total_seconds()
    return Cell(formats.duration(seconds), title=formats.exact(seconds))
