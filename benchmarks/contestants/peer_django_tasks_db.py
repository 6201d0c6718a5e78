"""django-tasks-db: one job at a time in each worker process, and no bulk enqueue."""

from __future__ import annotations

from typing import Any

from project import DjangoProject
from protocol import serve


class DjangoTasksDb(DjangoProject):
    """The database backend of django-tasks."""

    package = "django-tasks-db"
    app = "django_tasks_db"

    def backend(self, alias: str, processes: int) -> dict[str, Any]:
        return {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": []}

    def enqueue_all(
        self, count: int, seconds: float, alias: str = "default", size: int = 1
    ) -> list[float]:
        raise NotImplementedError("has no bulk enqueue")

    def load(self, count: int, alias: str = "default") -> None:
        """Enqueue no-ops for a drain, in one transaction for want of a bulk enqueue."""
        from django.db import transaction
        from tasks import noop

        with transaction.atomic():
            for number in range(count):
                noop.enqueue(number)

    def workers(self, processes: int, *aliases: str) -> list[dict[str, Any]]:
        return [self.command("db_worker", "--no-startup-delay") for _ in range(processes)]

    def finished(self, alias: str = "default") -> int:
        from django_tasks_db.models import DBTaskResult

        return DBTaskResult.objects.finished().count()


def main() -> None:
    """Be the process that answers calls."""
    serve(DjangoTasksDb())
