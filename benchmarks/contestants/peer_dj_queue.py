"""dj-queue 0.14.2 with the settings it was fastest with."""

from __future__ import annotations

from typing import Any

from project import DjangoProject
from protocol import DATABASES, PLACE, serve

BEST = {
    # Of 1 to 40 threads, prefetch_multiplier 2 to 500, polling_interval 0.001 to 0.1.
    "postgresql": {"threads": 20, "prefetch_multiplier": 50},
    "mysql": {"threads": 20, "prefetch_multiplier": 50},
    "sqlite3": {"threads": 5, "prefetch_multiplier": 100},
}
"""What drained fastest with two worker processes, by the last part of ENGINE."""


class DjQueue(DjangoProject):
    """The peer that has our import name."""

    package = "dj-queue"
    app = "dj_queue"
    routers = ("dj_queue.routers.DjQueueRouter",)

    def backend(self, alias: str, processes: int) -> dict[str, Any]:
        best = BEST[DATABASES[alias]["ENGINE"].rpartition(".")[2]]
        chosen = PLACE["options"].get("worker", best)
        worker = {"queues": "*", "processes": processes, **chosen}
        options = {"database_alias": alias, "workers": [worker]}
        return {"BACKEND": "dj_queue.backend.DjQueueBackend", "QUEUES": [], "OPTIONS": options}

    def workers(self, processes: int, *aliases: str) -> list[dict[str, Any]]:
        return [self.command("dj_queue", processes=processes)]

    def finished(self, alias: str = "default") -> int:
        from dj_queue.models import Job

        return Job.objects.using(alias).filter(finished_at__isnull=False).count()


def main() -> None:
    """Be the process that answers calls."""
    serve(DjQueue())
