"""The log events of dj_queue: their names, levels and payloads.

Everything is logged to the logger "dj_queue" as `event key=value …`, in one line; the record
carries the same payload in `record.event` and `record.payload` for structured handlers.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import Any

logger = logging.getLogger("dj_queue")

LEVELS = {
    "worker_started": logging.INFO,  # backend, database, queues, threads, concurrency
    "worker_stopped": logging.INFO,  # backend, database, queues
    "process_died": logging.ERROR,  # database, name, pid, how: it is replaced
    "process_silent": logging.ERROR,  # database, name, pid, seconds: it hangs, and is killed
    "process_broken": logging.ERROR,  # database, threads: their process ends, and is replaced
    "ledger_not_kept": logging.WARNING,  # database, error: no file, lost with the supervisor
    "fork_failed": logging.ERROR,  # database, name, error: tried again
    "process_pruned": logging.WARNING,  # database, process, name, ready, ended: silent too long
    "process_given_up": logging.WARNING,  # database, process, name: this one, by another
    "claims_recovered": logging.INFO,  # database, process, ready, ended: of one that died
    "claims_left": logging.ERROR,  # backend, database, count, error: not given back at shutdown
    "rows_pruned": logging.DEBUG,  # backend, database, what: kinds and counts
    "job_discarded": logging.INFO,  # backend, database, job, path, key: no slot, as it asks for
    "slots_left": logging.WARNING,  # backend, database, error: a dispatcher hands them on
    "jobs_dispatched": logging.DEBUG,  # backend, database, count
    "job_retried": logging.WARNING,  # backend, database, job, attempt, at, error: run again at
    "backoff_failed": logging.ERROR,  # backend, database, job, error: the default is used
    "recurring_synchronised": logging.INFO,  # backend, database, inserted, updated, deleted
    "recurring_fired": logging.DEBUG,  # backend, database, key, count
    "recurring_missed": logging.WARNING,  # backend, database, key, since: instants left out
    "recurring_refused": logging.ERROR,  # backend, database, key, error: it cannot be read
    "recurring_stranded": logging.WARNING,  # backend, database, count: of no backend here
    "job_abandoned": logging.ERROR,  # backend, database, job, path: unfinished at shutdown
    "outcome_refused": logging.ERROR,  # backend, database, job, error: not storable as it was
    "outcome_lost": logging.ERROR,  # backend, database, job, error: not recorded at shutdown
    "receiver_failed": logging.ERROR,  # backend, database, job, error: of task_finished
    "claim_lost": logging.WARNING,  # backend, database, job: somebody else owns it now
    "database_down": logging.ERROR,  # database, error: once per outage, as each of these
    "database_up": logging.INFO,  # database, seconds
    "database_busy": logging.ERROR,  # database, error: statements take too long
    "database_answers": logging.INFO,  # database, seconds: it is not busy any more
    "database_read_only": logging.ERROR,  # database, error
    "database_full": logging.ERROR,  # database, error: its disk
    "database_writable": logging.INFO,  # database, seconds: after either
    "listener_down": logging.WARNING,  # database, error: once per outage; polling goes on
    "listener_up": logging.INFO,  # database, seconds
    "other_deployment": logging.WARNING,  # database, difference: the queue is another's
    "jobs_untaken": logging.WARNING,  # backend, database, queue, count: no worker takes them
    "operator_acted": logging.INFO,  # backend, database, action, queue, count, jobs, user
    "transaction_left_open": logging.WARNING,  # database: by a task that raised
    "loop_failed": logging.ERROR,  # backend, database, error: an unexpected error, retried
}


def log(event: str, **payload: Any) -> None:
    """Log one event at its level; `exc_info` in the payload is handed to logging."""
    exc_info = payload.pop("exc_info", None)
    text = " ".join(f"{key}={_text_of(value)}" for key, value in payload.items())
    extra = {"event": event, "payload": payload}
    logger.log(LEVELS[event], "%s %s", event, text, extra=extra, exc_info=exc_info)


def _text_of(value: Any) -> str:
    """Write a value so that the line can be split at spaces and equal signs outside of quotes."""
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    is_plain = text.isprintable() and not any(each in ' ="\\' for each in text)
    return text if text and is_plain else json.dumps(text, ensure_ascii=not text.isprintable())
