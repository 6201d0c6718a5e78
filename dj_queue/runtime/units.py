"""Units: what a backend needs to run, each in a process of its own or in threads of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dj_queue.checks.deployment import deployment_name
from dj_queue.conf import WorkerOptions
from dj_queue.operations.recurring import is_needed
from dj_queue.routers import QueueDatabase, queue_database

KINDS = ("worker", "dispatcher", "scheduler")


@dataclass(frozen=True)
class Unit:
    """A worker (with its entry of `workers`), dispatcher or scheduler of one backend."""

    kind: str
    db: QueueDatabase
    name: str
    worker: WorkerOptions | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What the unit's row says of it."""
        worker = self.worker
        if worker is None:
            return {}
        counts = {"threads": worker.threads, "concurrency": worker.concurrency}
        return {"queues": list(worker.queues), **counts}

    @property
    def title(self) -> str:
        """What `ps` shows."""
        queues = f" [{','.join(self.worker.queues)}]" if self.worker else ""
        return title_of(f"{self.name}{queues} on {self.db.alias}")


def title_of(process: str) -> str:
    """Return the title of a process: several deployments may share a host."""
    return f"dj_queue: {process} ({deployment_name()})"


def units_of(
    backends: Sequence[str], *, kinds: Sequence[str] = KINDS, multiply: bool = True
) -> list[Unit]:
    """Return the units that run these backends, in their order; only of these kinds.

    With `multiply` an entry of `workers` is as many units as it has `processes`, else one.
    """
    units: list[Unit] = []
    for db in map(queue_database, backends):
        options = db.options
        entries = [
            worker for worker in options.workers for _ in range(worker.processes if multiply else 1)
        ]
        if "worker" in kinds:
            units += [
                Unit("worker", db, _numbered(f"worker {db.backend}", number, len(entries)), worker)
                for number, worker in enumerate(entries, 1)
            ]
        if "dispatcher" in kinds:
            units.append(Unit("dispatcher", db, f"dispatcher {db.backend}"))
        # One fires the tasks of every backend on its database.
        scheduled = {unit.db.alias for unit in units if unit.kind == "scheduler"}
        if "scheduler" in kinds and db.alias not in scheduled and is_needed(db):
            units.append(Unit("scheduler", db, f"scheduler {db.backend}"))
    return units


def _numbered(name: str, number: int, count: int) -> str:
    return name if count == 1 else f"{name} #{number}"
