"""The log events of dj_queue: their names, levels and payloads.

Everything is logged to the logger "dj_queue" as `event key=value …`; the record carries the
same payload in `record.event` and `record.payload` for structured handlers.
"""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger("dj_queue")

LEVELS = {
    "worker_started": logging.INFO,  # backend, database, queues, threads
    "worker_stopped": logging.INFO,  # backend, database, queues
    "jobs_dispatched": logging.DEBUG,  # backend, database, count
    "job_abandoned": logging.ERROR,  # backend, database, job, path: unfinished at shutdown
    "outcome_refused": logging.ERROR,  # backend, database, job, error: not storable as it was
    "outcome_lost": logging.ERROR,  # backend, database, job, error: not recorded at shutdown
    "receiver_failed": logging.ERROR,  # backend, database, job, error: of task_finished
    "claim_lost": logging.WARNING,  # backend, database, job: somebody else owns it now
    "database_down": logging.ERROR,  # database, error: once per outage
    "database_up": logging.INFO,  # database, seconds
    "listener_down": logging.WARNING,  # database, error: once per outage; polling goes on
    "listener_up": logging.INFO,  # database, seconds
    "other_deployment": logging.WARNING,  # database, difference: the queue is another's
    "loop_failed": logging.ERROR,  # backend, database, error: an unexpected error, retried
}


def log(event: str, **payload: Any) -> None:
    """Log one event at its level; `exc_info` in the payload is handed to logging."""
    exc_info = payload.pop("exc_info", None)
    text = " ".join(f"{key}={value}" for key, value in payload.items())
    extra = {"event": event, "payload": payload}
    logger.log(LEVELS[event], "%s %s", event, text, extra=extra, exc_info=exc_info)
