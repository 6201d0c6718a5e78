"""Recurring tasks as rows: static ones follow the settings, dynamic ones are kept and removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Count, QuerySet

from dj_queue.compat import InvalidTask
from dj_queue.conf import RecurringOptions
from dj_queue.engines import naming_tables
from dj_queue.exceptions import (
    DjQueueError,
    InvalidSchedule,
    RecurringRefused,
    UnknownRecurringTask,
)
from dj_queue.models import RecurringRun, RecurringTask
from dj_queue.models.fields import encode_json, normalize_json
from dj_queue.operations.transitions import in_transaction
from dj_queue.parsers import MISFIRES, QUEUE_NAME, is_queue_name
from dj_queue.quoting import quoted
from dj_queue.routers import Database, QueueDatabase
from dj_queue.routers.registry import backends_on
from dj_queue.schedules import next_after, validate
from dj_queue.task_paths import recurring_task

WHEN = ("schedule", "timezone")
WHAT = ("task_path", "misfire", "queue_name", "priority", "is_static")
ARGUMENTS = ("args", "kwargs")


@dataclass(frozen=True)
class Synchronised:
    """What a synchronisation did: counts of rows, and the tasks it left as they were, by key."""

    inserted_count: int
    updated_count: int
    deleted_count: int
    refused: tuple[tuple[str, Exception], ...]

    def __bool__(self) -> bool:
        return bool(self.inserted_count or self.updated_count or self.deleted_count)


def is_needed(db: QueueDatabase) -> bool:
    """Tell whether the backend has recurring tasks to fire: static ones, or any dynamic ones."""
    return bool(db.options.recurring) or db.options.scheduler.dynamic_tasks_enabled


def synchronise(db: QueueDatabase, *, now: datetime) -> Synchronised:
    """Make the backend's static rows those of its settings: insert, update, delete.

    Rows of other backends are not touched. A dynamic row of the same key becomes static; whether
    a row is enabled stays as it is. A task that cannot be kept leaves the row there is, if any.
    Several schedulers may do this at once. Opens a transaction. Raises NotMigrated.
    """
    wanted, refused = {}, []
    for key, options in db.options.recurring:
        try:
            wanted[key] = row_of(db, key, options, is_static=True, now=now)
        except (DjQueueError, InvalidTask) as error:
            refused.append((key, error))
    keys = [key for key, _ in db.options.recurring]

    def transaction() -> tuple[int, int, int]:
        inserted, updated = _keep(db, list(wanted.values()))
        stale = _own(db).filter(is_static=True).exclude(key__in=keys)
        return inserted, updated, _delete(db, list(stale.values_list("pk", flat=True)))

    with naming_tables(db):
        return Synchronised(*in_transaction(db, transaction), tuple(refused))


def strangers(db: Database) -> dict[str, int]:
    """Count the enabled tasks on this database of backends that TASKS does not map to it."""
    others = db.objects(RecurringTask).exclude(backend__in=backends_on(db.alias))
    enabled = others.filter(is_enabled=True)
    return dict(enabled.values_list("backend").annotate(Count("pk")).order_by("backend"))


def row_of(
    db: QueueDatabase, key: str, options: RecurringOptions, *, is_static: bool, now: datetime
) -> RecurringTask:
    """Build the row of a recurring task, not stored yet; its cursor is the first instant to come.

    Raises InvalidSchedule, InvalidTaskPath, InvalidTask or NotSerializable.
    """
    if not is_queue_name(key):
        raise InvalidSchedule(f"key: expected {QUEUE_NAME}, got {quoted(key)}")
    if options.misfire not in MISFIRES:
        names = ", ".join(map(repr, MISFIRES))
        raise InvalidSchedule(f"misfire: expected one of {names}, got {quoted(options.misfire)}")
    timezone = settings.TIME_ZONE if options.timezone is None else options.timezone
    validate(options.schedule, timezone, now=now)
    # Before a concurrency key is made of them: a foreign value's own code may do anything.
    args = normalize_json(list(options.args), "args")
    kwargs = normalize_json(dict(options.kwargs), "kwargs")
    task = recurring_task(db.backend, replace(options, args=tuple(args), kwargs=kwargs))
    return RecurringTask(
        key=key,
        backend=db.backend,
        task_path=task.module_path,
        schedule=options.schedule,
        timezone=timezone,
        misfire=options.misfire,
        args=args,
        kwargs=kwargs,
        queue_name=task.queue_name,
        priority=task.priority,
        is_static=is_static,
        next_run_at=next_after(options.schedule, timezone, now),
    )


def keep(db: QueueDatabase, row: RecurringTask) -> RecurringTask:
    """Store a dynamic task, or change the one of that key; return it as stored.

    A changed one stays enabled or not. Raises RecurringRefused, NotMigrated. Opens a transaction.
    """
    with naming_tables(db):
        _refuse_where_disabled(db)
        _dynamic(db, row.key)
        in_transaction(db, lambda: _keep(db, [row]))
        return found(db, row.key)


def remove(db: QueueDatabase, key: str) -> bool:
    """Delete a dynamic task and the record of its runs, not its jobs; tell whether it was there.

    Raises RecurringRefused for a key of the settings. Opens a transaction.
    """
    row = _dynamic(db, key)
    return row is not None and in_transaction(db, lambda: _delete(db, [row.pk])) > 0


def enable(db: QueueDatabase, key: str, *, now: datetime) -> None:
    """Let a dynamic task fire again, from its next instant on; once is enough.

    Raises RecurringRefused, UnknownRecurringTask, InvalidSchedule.
    """
    _refuse_where_disabled(db)
    row = _dynamic(db, key) or found(db, key)
    next_run_at = next_after(row.schedule, row.timezone, now)
    off = _own(db).filter(pk=row.pk, is_enabled=False)
    off.update(is_enabled=True, next_run_at=next_run_at)


def disable(db: QueueDatabase, key: str) -> None:
    """Let a dynamic task not fire; what it has enqueued runs. Once is enough.

    Raises RecurringRefused for a key of the settings, UnknownRecurringTask.
    """
    row = _dynamic(db, key) or found(db, key)
    _own(db).filter(pk=row.pk).update(is_enabled=False, next_run_at=None)


def found(db: QueueDatabase, key: str) -> RecurringTask:
    """Read a recurring task of this backend; raise UnknownRecurringTask."""
    row = _named(db, key)
    if row is None:
        raise UnknownRecurringTask(
            f"expected the key of a recurring task of backend {db.backend!r} on database "
            f"{db.alias!r}, got {key!r}"
        )
    return row


def _own(db: QueueDatabase) -> QuerySet[RecurringTask]:
    return db.objects(RecurringTask).filter(backend=db.backend)


def _named(db: QueueDatabase, key: str) -> RecurringTask | None:
    # What cannot be a key is not asked for: not every database can be asked.
    return _own(db).filter(key=key).first() if is_queue_name(key) else None


def _dynamic(db: QueueDatabase, key: str) -> RecurringTask | None:
    row = _named(db, key)
    if key in dict(db.options.recurring) or (row is not None and row.is_static):
        raise _static(db, key)
    return row


def _static(db: QueueDatabase, key: str) -> RecurringRefused:
    return RecurringRefused(
        f"expected the key of a dynamic recurring task, got {key!r}, which is one of "
        f"TASKS[{db.backend!r}]['OPTIONS']['recurring']: change it there"
    )


def _refuse_where_disabled(db: QueueDatabase) -> None:
    if not db.options.scheduler.dynamic_tasks_enabled:
        raise RecurringRefused(
            f"TASKS[{db.backend!r}]['OPTIONS']['scheduler']['dynamic_tasks_enabled']: expected "
            "True to schedule tasks at run time, got False"
        )


def _keep(db: QueueDatabase, rows: Sequence[RecurringTask]) -> tuple[int, int]:
    """Insert or change rows of this backend; return how many of each. Needs a transaction."""
    db.objects(RecurringTask).bulk_create(rows, ignore_conflicts=True)
    stored = {row.key: row for row in _own(db).filter(key__in=[row.key for row in rows])}
    # Another scheduler with other settings may have deleted one in between.
    pairs = [(stored[row.key], row) for row in rows if row.key in stored]
    updated = 0
    for old, new in pairs:
        if old.is_static and not new.is_static:
            raise _static(db, new.key)
        changes = _changes(old, new) if old.pk != new.pk else {}
        if changes:
            _own(db).filter(pk=old.pk).update(**changes)
            updated += 1
    return sum(old.pk == new.pk for old, new in pairs), updated


def _changes(old: RecurringTask, new: RecurringTask) -> dict[str, Any]:
    """Return the columns in which a row is to change; with its times its cursor."""
    names = [name for name in (*WHEN, *WHAT) if getattr(old, name) != getattr(new, name)]
    # As text: to Python [1], [True] and [1.0] are equal.
    names += [
        name
        for name in ARGUMENTS
        if encode_json(getattr(old, name)) != encode_json(getattr(new, name))
    ]
    changes = {name: getattr(new, name) for name in names}
    if set(names) & set(WHEN) and old.is_enabled:
        changes["next_run_at"] = new.next_run_at
    return changes


def _delete(db: Database, ids: Sequence[UUID]) -> int:
    """Delete tasks, then their runs: in this order none is recorded in between."""
    db.objects(RecurringTask).filter(pk__in=ids)._raw_delete(db.alias)
    db.objects(RecurringRun).filter(task_id__in=ids)._raw_delete(db.alias)
    return len(ids)
