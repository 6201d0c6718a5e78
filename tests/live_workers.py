"""Workers that run, as far as the database knows."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from dj_queue import timezone
from dj_queue.models import Process
from dj_queue.models.ids import new_id
from dj_queue.operations.processes import register
from dj_queue.routers import QueueDatabase


def run(db: QueueDatabase, queues: Sequence[str], *, silent_for: float = 0, **columns: Any) -> None:
    """Register a worker of another host, of this backend, that takes from these queues."""
    at = timezone.now() - timedelta(seconds=silent_for)
    defaults = {
        "id": new_id(),
        "kind": "worker",
        "name": "worker",
        "backend": db.backend,
        "pid": 7,
        "hostname": "far",
        "metadata": {"queues": list(queues)},
        "started_at": at,
        "last_heartbeat_at": at,
    }
    register(db, [Process(**defaults | columns)])
