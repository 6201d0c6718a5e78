"""dj_queue of this checkout: no option is set but the database, which may prepare statements."""

from __future__ import annotations

import io
import time
from collections import Counter
from typing import Any

from project import DjangoProject
from protocol import DATABASES, PLACE, serve

SLICE = 5_000


class Ours(DjangoProject):
    """The contestant that the others are compared with, and the scenarios only it has."""

    package = "dj_queue"
    app = "dj_queue"
    routers = ("dj_queue.routers.DjQueueRouter",)

    def backend(self, alias: str, processes: int) -> dict[str, Any]:
        options = {"database_alias": alias, **PLACE["options"]}
        return {"BACKEND": "dj_queue.backend.DjQueueBackend", "QUEUES": [], "OPTIONS": options}

    def settings(self, processes: int) -> dict[str, Any]:
        settings = super().settings(processes)
        for database in settings["DATABASES"].values():
            if database["ENGINE"].endswith("postgresql"):
                # A direct connection, as pgqueuer's, which prepares as well.
                database["OPTIONS"] = {**database.get("OPTIONS", {}), "prepare_threshold": 5}
        return settings

    def setup(self) -> None:
        from django.core.management import call_command

        call_command("dj_queue_migrate", stdout=io.StringIO())

    def workers(self, processes: int, *aliases: str) -> list[dict[str, Any]]:
        names = [part for alias in aliases for part in ("--backend", alias)]
        return [self.command("dj_queue", *names) for _ in range(processes)]

    def finished(self, alias: str = "default") -> int:
        from dj_queue.models import FinishedExecution

        return _database(alias).objects(FinishedExecution).count()

    def reconnect(self) -> None:
        """Forget the connections: a server was down meanwhile."""
        from django.db import connections

        connections.close_all()

    def fill(self, count: int, queues: list[str], priorities: list[int], task: str) -> None:
        """Enqueue `count` jobs, spread over queues and priorities in turn."""
        import tasks

        backend = getattr(tasks, task).get_backend()
        variants = [
            getattr(tasks, task).using(queue_name=queue, priority=priority)
            for queue, priority in zip(queues, priorities, strict=True)
        ]
        for first in range(0, count, SLICE):
            numbers = range(first, min(first + SLICE, count))
            calls = [(variants[number % len(variants)], [number], {}) for number in numbers]
            backend.enqueue_all(calls)

    def pause(self, queue: str, paused: bool) -> None:
        """Pause or resume a queue."""
        from dj_queue.operations.pauses import pause, resume

        db = _database("default")
        if paused:
            from django.utils import timezone

            pause(db, [queue], now=timezone.now())
        else:
            resume(db, [queue])

    def claim_seconds(self, selectors: list[str], limit: int, repeats: int) -> list[float]:
        """Time claims of `limit` jobs, each given back before the next."""
        from dj_queue.operations.claim import give_back

        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            claimed = _claim(selectors, limit)
            seconds.append(time.perf_counter() - began)
            if len(claimed) != limit:
                raise RuntimeError(f"expected a claim of {limit} jobs, got {len(claimed)}")
            give_back(_database("default"), claimed)
        return seconds

    def claim_rate(self, selectors: list[str], limit: int) -> float:
        """Claim until nothing is left; give the jobs per second."""
        began, count = time.perf_counter(), 0
        while claimed := _claim(selectors, limit):
            count += len(claimed)
        return count / (time.perf_counter() - began)

    def audit(self, alias: str = "default") -> dict[str, int]:
        """Count jobs, jobs in each state, and jobs that are not in exactly one."""
        from dj_queue.models import STATES, Job

        db = _database(alias)
        found: Counter[object] = Counter(db.objects(Job).values_list("id", flat=True))
        jobs = len(found)
        counts = {}
        for state in STATES:
            ids = list(db.objects(state).values_list("job_id", flat=True))
            counts[state.state] = len(ids)
            found.update(ids)
        return {"jobs": jobs, "astray": sum(seen != 2 for seen in found.values()), **counts}


def _claim(selectors: list[str], limit: int) -> list[Any]:
    from django.utils import timezone

    from dj_queue.models.ids import new_id
    from dj_queue.operations.claim import claim

    now = timezone.now()
    return claim(_database("default"), selectors, limit=limit, process_id=new_id(), now=now)


def _database(alias: str) -> Any:
    from dj_queue.routers import queue_database

    if alias not in DATABASES:
        raise KeyError(f"expected one of {', '.join(DATABASES)}, got {alias!r}")
    return queue_database(alias)


def main() -> None:
    """Be the process that answers calls."""
    serve(Ours())
