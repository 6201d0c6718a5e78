"""dj_queue of this checkout: no option is set but the database, which may prepare statements."""

from __future__ import annotations

import io
import os
import random
import signal
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from project import DjangoProject
from protocol import DATABASES, PLACE, serve

SLICE = 5_000
FAR_AWAY = datetime(2100, 1, 1, tzinfo=UTC)


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

    def ended(self, alias: str = "default") -> int:
        """Count the jobs that finished or failed."""
        from dj_queue.models import FailedExecution, FinishedExecution

        db = _database(alias)
        return sum(db.objects(state).count() for state in (FinishedExecution, FailedExecution))

    def processes(self, kind: str | None) -> list[int]:
        """Give the pids of the processes that are registered, of one kind or of all."""
        from dj_queue.models import Process

        rows = _database("default").objects(Process)
        return list((rows.filter(kind=kind) if kind else rows).values_list("pid", flat=True))

    def kill_a_worker(self) -> int:
        """Kill a worker that is registered, by its row; give how many that were: one or none."""
        pids = self.processes("worker")
        if not pids:
            return 0
        try:
            os.kill(random.choice(pids), signal.SIGKILL)
        except ProcessLookupError:  # It is dead, and about to be recovered.
            return 0
        return 1

    def failed(self) -> list[tuple[int, str]]:
        """Give the numbers of the jobs that have failed, each with the process it failed in."""
        from dj_queue.models import Attempt, Job

        db = _database("default")
        attempts = dict(db.objects(Attempt).values_list("job_id", "worker_id"))
        jobs = {job.id: job.args for job in db.objects(Job).filter(failedexecution__isnull=False)}
        return [(args[0], str(attempts[job_id])) for job_id, args in jobs.items()]

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

    def fill_key(self, count: int, limit: int) -> None:
        """Enqueue `count` jobs that record when they ran, all of one concurrency key."""
        from tasks import span

        from dj_queue.compat import task_backends
        from dj_queue.tasks import Concurrency, task

        rule = Concurrency(key="hot", limit=limit)
        hot = task(concurrency=rule)(span.func)
        for first in range(0, count, SLICE):
            numbers = range(first, min(first + SLICE, count))
            task_backends["default"].enqueue_all([(hot, [number], {}) for number in numbers])

    def slots_held(self) -> int:
        """Count the slots that are held, and semaphores that say so."""
        from dj_queue.models import Semaphore, Slot

        db = _database("default")
        return db.objects(Slot).count() + db.objects(Semaphore).count()

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

    def fill_scheduled(self, count: int) -> None:
        """Enqueue `count` jobs that are due far from now, one a millisecond after the other."""
        from tasks import noop

        for first in range(0, count, SLICE):
            numbers = range(first, min(first + SLICE, count))
            times = [FAR_AWAY + timedelta(milliseconds=number) for number in numbers]
            calls = [(noop.using(run_after=at), [0], {}) for at in times]
            noop.get_backend().enqueue_all(calls)

    def dispatch_seconds(self, limit: int, repeats: int) -> list[float]:
        """Time how long it takes to make `limit` jobs ready on the day when all are due."""
        from dj_queue.operations.dispatch import dispatch_due

        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            count = dispatch_due(_database("default"), now=FAR_AWAY + timedelta(1), limit=limit)
            seconds.append(time.perf_counter() - began)
            if count != limit:
                raise RuntimeError(f"expected {limit} jobs to be made ready, got {count}")
        return seconds

    def count(self, state: str) -> int:
        """Count the jobs in a state."""
        from dj_queue.models import STATES

        [model] = [each for each in STATES if each.state == state]
        return _database("default").objects(model).count()

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
