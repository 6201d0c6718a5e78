"""Checks that workers and queues fit together: what is enqueued is also claimed."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

from django.core.checks import Warning

from dj_queue.checks.routing import Found, fault, healthy_routes
from dj_queue.conf import BackendOptions
from dj_queue.engines.selectors import selects
from dj_queue.exceptions import InvalidOption
from dj_queue.routers.registry import Route

DEFAULT_QUEUE = "default"
"""The queue of a task that names none."""


def check_queues(**_: Any) -> Found:
    """W009: a worker's queue to which nobody may enqueue, or a queue that no worker takes."""
    for each in healthy_routes():
        try:
            options = each.options
        except InvalidOption:
            continue  # E001's finding.
        path, allowed = f"TASKS[{each.backend!r}]", allowed_queues(each)
        for number, worker in enumerate(options.workers):
            for selector in worker.queues:
                if allowed and not any(selects(selector, name) for name in allowed):
                    yield fault(
                        Warning,
                        "W009",
                        f"{path}['OPTIONS']['workers'][{number}]['queues']: expected queues of "
                        f"{path}['QUEUES'] ({listed(allowed)}), got {selector!r}, to which nothing "
                        f"is enqueued{suggestion(selector, allowed)}",
                        "Correct the name, or add the queue to QUEUES.",
                    )
        for name in sorted(allowed or queues_in_use(options)):
            if not is_taken(name, options):
                selectors = [it for worker in options.workers for it in worker.queues]
                yield fault(
                    Warning,
                    "W009",
                    f"{path}['OPTIONS']['workers']: expected a worker that takes from the queue "
                    f"{name!r}, got workers on {listed(selectors)} only: its jobs would wait for "
                    f"ever{suggestion(name, selectors)}",
                    "Give a worker the queue, or name in QUEUES those that are used.",
                )


def allowed_queues(route: Route) -> Collection[str]:
    """Return the names in QUEUES; none means that any name is allowed, as Django has it."""
    return list(dict.fromkeys(route.params.get("QUEUES", [DEFAULT_QUEUE])))


def queues_in_use(options: BackendOptions) -> set[str]:
    """Return the queues that jobs will be in wherever QUEUES allows any, as far as is known."""
    named = {task.queue_name for _, task in options.recurring if task.queue_name}
    return {DEFAULT_QUEUE, *named}


def is_taken(name: str, options: BackendOptions) -> bool:
    """Tell whether any worker of the backend takes jobs from the queue."""
    return any(selects(it, name) for worker in options.workers for it in worker.queues)


def suggestion(name: str, names: Collection[str]) -> str:
    """Ask whether a similar name was meant, or return nothing."""
    close = get_close_matches(name, names, 1)
    return f"; did you mean {close[0]!r}?" if close and close[0] != name else ""


def listed(names: Collection[str]) -> str:
    """Return names as text."""
    return ", ".join(map(repr, names))
