"""Backend facts: how a backend is set up and what its database can do, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dj_queue.engines import engine_for
from dj_queue.engines.base import Server
from dj_queue.observability.rows import ProcessRow
from dj_queue.routers import QueueDatabase
from dj_queue.routers.registry import APPLICATION_ALIAS

UNSUPPORTED, UNKNOWN = "unsupported", "unknown"


@dataclass(frozen=True)
class Fact:
    """A label and its value."""

    label: str
    value: str


def facts_of(
    db: QueueDatabase, server: Server | None, processes: Sequence[ProcessRow]
) -> list[Fact]:
    """Return the facts of a backend; `server` is None while its database is away."""
    schedulers = [each for each in processes if each.kind == "scheduler"]
    is_scheduled = any(each.is_live and each.backend == db.backend for each in schedulers)
    return [
        Fact("mode", _mode(processes)),
        Fact("queue db", db.alias if db.reader == db else f"{db.alias}, read on {db.reader.alias}"),
        Fact("vendor", UNKNOWN if server is None else str(server)),
        Fact("guarantee", db.guarantee(APPLICATION_ALIAS)),
        Fact("notify", UNKNOWN if server is None else _notify(db)),
        Fact("skip locked", UNKNOWN if server is None else _skip_locked(db)),
        Fact("heartbeat", f"every {db.options.process_heartbeat_interval:g} s"),
        Fact("retention", _retention(db)),
        Fact("scheduler", "running" if is_scheduled else "not running"),
        Fact("recurring", _recurring(db)),
        Fact("semaphores", "on"),
    ]


def _mode(processes: Sequence[ProcessRow]) -> str:
    """Tell from the processes that run how they were started: children of one pid are threads."""
    places = {
        (each.hostname, each.pid, not each.supervisor_name) for each in processes if each.is_live
    }
    if not places:
        return "nothing runs"
    as_threads = any((host, pid, True) in places for host, pid, is_own in places if not is_own)
    return "thread" if as_threads else "fork"


def _recurring(db: QueueDatabase) -> str:
    options = db.options
    dynamic = "dynamic too" if options.scheduler.dynamic_tasks_enabled else "dynamic off"
    return f"{len(options.recurring)} in the settings, {dynamic}"


def _retention(db: QueueDatabase) -> str:
    options = db.options
    if not options.preserve_finished_jobs:
        return "finished jobs are not kept"
    finished, failed = options.clear_finished_jobs_after, options.clear_failed_jobs_after
    return f"finished {_kept(finished)}, failed {_kept(failed)}"


def _kept(seconds: float | None) -> str:
    if seconds is None:
        return "for ever"
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"


def _notify(db: QueueDatabase) -> str:
    return _capability(engine_for(db).can_notify, db.options.listen_notify)


def _skip_locked(db: QueueDatabase) -> str:
    can = db.connection.features.has_select_for_update_skip_locked
    return _capability(can, db.options.use_skip_locked)


def _capability(is_there: bool, is_wanted: bool) -> str:
    if not is_there:
        return UNSUPPORTED
    return "on" if is_wanted else "off"
