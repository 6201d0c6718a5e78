"""Which queue databases are away, so that an outage is logged once, whoever notices."""

from __future__ import annotations

import threading
import time

from dj_queue.events import log
from dj_queue.routers import QueueDatabase

_lock = threading.Lock()
_away_since: dict[str, float] = {}


def begin(db: QueueDatabase, error: Exception) -> None:
    """Note that the database does not answer; log it unless that is known."""
    with _lock:
        is_known = db.alias in _away_since
        _away_since.setdefault(db.alias, time.monotonic())
    if not is_known:
        log("database_down", database=db.alias, error=repr(error))


def end(db: QueueDatabase) -> None:
    """Note that the database answers; log it if it was away."""
    if db.alias not in _away_since:
        return
    with _lock:
        since = _away_since.pop(db.alias, None)
    if since is not None:
        log("database_up", database=db.alias, seconds=round(time.monotonic() - since, 1))
