"""dj_queue's dashboard over a queue with a long past; for nobody but ours."""

from __future__ import annotations

import time
from typing import Any

from ours import Ours, _database
from protocol import serve

SLICE = 5_000
QUEUES = [f"queue{number:02}" for number in range(20)]
CONTEXT_PROCESSORS = [
    "django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
]


class Pages(Ours):
    """Fills the tables and asks for pages, as a superuser without a session would."""

    def settings(self, processes: int) -> dict[str, Any]:
        contrib = ("admin", "auth", "contenttypes", "sessions", "messages", "staticfiles")
        settings = super().settings(processes)
        settings["INSTALLED_APPS"] += [f"django.contrib.{name}" for name in contrib]
        settings["ROOT_URLCONF"] = "urls"
        settings["STATIC_URL"] = "static/"
        settings["TEMPLATES"] = [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {"context_processors": CONTEXT_PROCESSORS},
            }
        ]
        return settings

    def past(self, state: str, count: int) -> None:
        """Store jobs that are in a state, spread over the queues."""
        from django.utils import timezone

        from dj_queue.models import STATES, Job, state_of
        from dj_queue.models.ids import new_id

        db, now = _database("default"), timezone.now()
        [model] = [each for each in STATES if each.state == state]
        columns: dict[str, dict[str, Any]] = {
            "ready": {},
            "failed": {"failed_at": now, "exception_path": "KeyError", "message": "'total'"},
            "finished": {
                "worker_id": new_id(),
                "started_at": now,
                "finished_at": now,
                "return_value": None,
            },
        }
        for first in range(0, count, SLICE):
            jobs = [
                Job(
                    backend="default",
                    queue_name=QUEUES[number % len(QUEUES)],
                    task_path="tasks.noop",
                    args=[f"order-{number}"],
                    kwargs={},
                    priority=0,
                    enqueued_at=now,
                )
                for number in range(first, min(first + SLICE, count))
            ]
            with db.atomic():
                db.objects(Job).bulk_create(jobs)
                rows = [state_of(model, job, **columns[state]) for job in jobs]
                db.objects(model).bulk_create(rows)

    def page_seconds(self, path: str, repeats: int) -> list[float]:
        """Time a page of the dashboard, after one look at it that is not timed."""
        self._get(path)
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            self._get(path)
            seconds.append(time.perf_counter() - began)
        return seconds

    def _get(self, path: str) -> None:
        from django.contrib.auth.models import User
        from django.test import RequestFactory
        from django.urls import resolve

        url, _, _ = f"/admin/dj_queue/dashboard/default/{path}".partition("?")
        request = RequestFactory().get(f"/admin/dj_queue/dashboard/default/{path}")
        request.user = User(username="operator", is_staff=True, is_superuser=True)
        match = resolve(url)
        response = match.func(request, *match.args, **match.kwargs)
        response.render()
        if response.status_code != 200 or b"does not answer" in response.content:
            raise RuntimeError(f"{path}: {response.status_code} {response.content[:2000]!r}")


def main() -> None:
    """Be the process that answers calls."""
    serve(Pages())
