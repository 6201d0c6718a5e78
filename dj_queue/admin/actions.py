"""What operators do: each action checked, confirmed where it must be, done, said and logged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest

from dj_queue.admin import formats
from dj_queue.admin.jobs import filters_of, job_filter_of
from dj_queue.admin.links import Links
from dj_queue.admin.permissions import (
    AGAIN,
    CLEAR,
    DISCARD,
    JOB_ACTIONS,
    PAUSE,
    QUEUE_ACTIONS,
    RETRY,
    Action,
    Operator,
)
from dj_queue.engines.tallies import queues_by_state
from dj_queue.events import log
from dj_queue.models import RecurringTask
from dj_queue.observability.databases import outage_of
from dj_queue.observability.jobs import (
    BY_NAME,
    JobFilter,
    batches,
    count_jobs,
    stored,
    with_key,
)
from dj_queue.observability.queues import paused_queues
from dj_queue.operations.again import copy_id, enqueue_again
from dj_queue.operations.discard import clear, discard
from dj_queue.operations.dispatch import run_now
from dj_queue.operations.pauses import pause, resume
from dj_queue.operations.retry import retry
from dj_queue.parsers import QUEUE_NAME, is_queue_name
from dj_queue.routers import QueueDatabase

WAIT = (
    "waits for a slot of its concurrency key",
    "wait for slots of their concurrency keys",
)
FOUND_NONE = (
    "found no free slot of its concurrency key and was discarded",
    "found no free slots of their concurrency keys and were discarded",
)
MOVED_ON = "had moved on and was left alone", "had moved on and were left alone"
BATCH = 500
MOST_SECONDS = 20
"""How long one request works through a filter; what is left then is for the next press."""


@dataclass(frozen=True)
class Done:
    """To how many jobs it was done; those that their concurrency key lets wait, or discards."""

    count: int = 0
    blocked: int = 0
    discarded: int = 0

    def __add__(self, other: Done) -> Done:
        return Done(
            self.count + other.count,
            self.blocked + other.blocked,
            self.discarded + other.discarded,
        )


@dataclass(frozen=True)
class ActionRequest:
    """A form that somebody has sent: their request, its backend, and `now`."""

    request: HttpRequest
    db: QueueDatabase
    links: Links
    now: datetime

    def field(self, name: str) -> str:
        """Return a field of the form, "" when it is not there."""
        return self.request.POST.get(name, "")

    @property
    def is_confirmed(self) -> bool:
        """Whether the confirmation page was answered with yes."""
        return self.field("confirm") == "yes"

    def action(self, known: dict[str, Action]) -> Action:
        """Return the requested action; raise when there is none such, or it is not allowed."""
        action = known.get(self.field("action"))
        if action is None:
            raise BadRequest(f"expected one of {', '.join(known)}, got {self.field('action')!r}")
        if not Operator.of(self.request).may(action):
            raise PermissionDenied
        if self.field("backend") not in ("", self.db.backend):
            raise BadRequest("expected the backend of the address, got another one")
        return action

    def tell(self, action: Action, count: int, text: str, ids: Iterable[UUID] = ()) -> None:
        """Say what was done on the next page."""
        level = messages.SUCCESS if count else messages.WARNING
        messages.add_message(self.request, level, text)

    def log(self, action: Action, queue: str, count: int, ids: Iterable[UUID] = ()) -> None:
        """Log what was done, with the jobs it was done to."""
        log(
            "operator_acted",
            backend=self.db.backend,
            database=self.db.alias,
            action=action.name,
            queue=queue,
            count=count,
            jobs=",".join(map(str, ids)),
            user=self.request.user.get_username(),
        )


def act_on_queue(form: ActionRequest) -> dict[str, Any] | None:
    """Pause, resume or clear a queue; return the context of a confirmation page, or None."""
    action, queue = form.action(QUEUE_ACTIONS), form.field("queue")
    return _reaching(form, lambda: _act_on_queue(form, action, queue))


def act_on_jobs(form: ActionRequest) -> dict[str, Any] | None:
    """Act on jobs chosen or filtered; return the context of a confirmation page, or None."""
    action, state = form.action(JOB_ACTIONS), form.field("state")
    if state not in action.states:
        raise BadRequest(f"expected one of {', '.join(action.states)}, got {state!r}")
    job_filter = job_filter_of(form.request.POST)
    if form.field("all") == "yes":
        return _reaching(form, lambda: _act_on_all(form, action, job_filter))
    ids = [_uuid(each) for each in form.request.POST.getlist("job")]
    return _reaching(form, lambda: _act_on_chosen(form, action, state, ids))


def _reaching(
    form: ActionRequest, act: Callable[[], dict[str, Any] | None]
) -> dict[str, Any] | None:
    """Act on a database that answers; of one that does not, say that nothing was changed."""
    outage = outage_of(form.db, now=form.now)
    error = outage.error if outage else ""
    if not outage:
        try:
            return act()
        except (DatabaseError, InterfaceError) as raised:
            error = " ".join(str(raised).split())
    text = f"Queue database {form.db.alias} does not answer, the action was not completed: {error}"
    messages.error(form.request, text)
    return None


def _act_on_queue(form: ActionRequest, action: Action, queue: str) -> dict[str, Any] | None:
    db = form.db
    if not is_queue_name(queue):
        raise BadRequest(f"expected a queue name of {QUEUE_NAME}, got {queue!r}")
    if queue not in _known_queues(db):
        # Forged, or of a page that is older than the queue's last row.
        messages.error(form.request, f"{db.backend} has no queue {queue}: nothing was changed.")
        return None
    if action is CLEAR:
        ready = JobFilter(state="ready", queue=queue)
        if not form.is_confirmed:
            return _confirmation(form, action, ready, [("queue", queue)])
        count = clear(db, queue)
        text = f"Discarded {formats.jobs(count)} of queue {queue} on {db.alias}."
    elif action is PAUSE:
        count = int(queue not in paused_queues(db))
        pause(db, [queue], now=form.now)
        text = f"Paused queue {queue} on {db.alias}." if count else f"{queue} was paused already."
    else:
        count = resume(db, [queue])
        text = f"Resumed queue {queue} on {db.alias}." if count else f"{queue} was not paused."
    form.log(action, queue, count)
    form.tell(action, count, text)
    return None


def _known_queues(db: QueueDatabase) -> set[str]:
    recurring = db.objects(RecurringTask).values_list("queue_name", flat=True).distinct()
    own = {name for found in queues_by_state(db).values() for name in found}
    return {*own, *paused_queues(db), *recurring}


def _act_on_chosen(
    form: ActionRequest, action: Action, state: str, ids: Sequence[UUID]
) -> dict[str, Any] | None:
    if not ids:
        messages.warning(form.request, "Nothing was changed: no job is selected.")
        return None
    if action.asks and not form.is_confirmed:
        chosen = [("job", str(each)) for each in ids]
        return _asking(form, action, len(ids), f"{len(ids)}", [("state", state), *chosen])
    done = _do(form, action, state, ids)
    form.log(action, "", done.count, ids)
    form.tell(action, done.count, _said(form, action, done, len(ids)))
    return None


def _act_on_all(
    form: ActionRequest, action: Action, job_filter: JobFilter
) -> dict[str, Any] | None:
    fields = [("all", "yes"), *filters_of(job_filter).items()]
    if not form.is_confirmed:
        return _confirmation(form, action, job_filter, fields)
    request_id, deadline = _uuid(form.field("request")), time.monotonic() + MOST_SECONDS
    done, requested = Done(), 0
    # Not the jobs that came after the page was made: those enqueued again would go round for ever.
    for ids in batches(form.db, job_filter, size=BATCH, before=request_id):
        now_done = _do(form, action, job_filter.state, ids)
        form.log(action, job_filter.queue, now_done.count, ids)
        done, requested = done + now_done, requested + len(ids)
        if time.monotonic() > deadline:
            messages.warning(form.request, "There may be more jobs: repeat the action for them.")
            break
    form.tell(action, done.count, _said(form, action, done, requested))
    return None


def _do(form: ActionRequest, action: Action, state: str, ids: Sequence[UUID]) -> Done:
    db = form.db
    if action is DISCARD:
        return Done(discard(db, BY_NAME[state], ids))
    keyed = with_key(db, state, ids)
    if action is AGAIN:
        request = _uuid(form.field("request"))
        copies = [copy_id(each, request) for each in keyed]
        keyed = list(set(copies) - stored(db, copies))
        count = enqueue_again(db, ids, request=request, now=form.now)
    else:
        count = (retry if action is RETRY else run_now)(db, ids)
    blocked, left = stored(db, keyed, state="blocked"), stored(db, keyed)
    return Done(count, len(blocked), len(keyed) - len(left))


def _said(form: ActionRequest, action: Action, done: Done, requested: int) -> str:
    at_once = done.count - done.blocked - done.discarded
    said = [f"{action.done} {formats.jobs(at_once)} on {form.db.alias}."]
    rest = {
        WAIT: done.blocked,
        FOUND_NONE: done.discarded,
        MOVED_ON: requested - done.count,
    }
    for (one, more), count in rest.items():
        if count:
            said.append(f"{count} {one if count == 1 else more}.")
    return " ".join(said)


def _confirmation(
    form: ActionRequest, action: Action, job_filter: JobFilter, fields: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    count = count_jobs(form.db, job_filter)
    return _asking(form, action, count.value, str(count), fields)


def _asking(
    form: ActionRequest, action: Action, number: int, count: str, fields: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    carried = [("action", action.name), ("request", form.field("request")), *fields]
    return {
        "action": action,
        "number": number,
        "jobs": formats.jobs(count),
        "fields": [*carried, ("next", form.links.back(form.request))],
        "filters": [(name, value) for name, value in fields if name not in ("all", "job")],
        "back": form.links.back(form.request),
        "post_to": form.request.get_full_path(),
    }


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise BadRequest(f"expected an id, got {text!r}") from None
