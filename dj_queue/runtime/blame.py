"""Blame: whether it is an outcome that cannot be stored, or the database that cannot store."""

from __future__ import annotations

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError

from dj_queue.engines import engine_for
from dj_queue.engines.clock import present
from dj_queue.exceptions import InvalidReturnValue
from dj_queue.operations.execute import Outcome, abandoned
from dj_queue.operations.finish import finish
from dj_queue.operations.processes import beat
from dj_queue.routers import Database, QueueDatabase
from dj_queue.runtime.connections import close_connection

NOT_STORABLE = (DataError, IntegrityError, TypeError, ValueError)


class Undone(Exception):
    """Rolls back a trial."""


def is_refused(db: Database, error: Exception) -> bool:
    """Tell whether an error is about the values of an outcome for certain."""
    if isinstance(error, NOT_STORABLE):
        return True
    try:
        return engine_for(db).is_untranslatable(error)
    except (DatabaseError, InterfaceError):  # A server that is away cannot say which one it is.
        return False


def refusal(outcome: Outcome, error: Exception) -> Outcome:
    """Return what is recorded instead of an outcome that cannot be stored: the job has failed.

    Otherwise it would be held for ever.
    """
    reason = InvalidReturnValue(f"the outcome could not be stored: {error}")
    return abandoned(outcome.claimed, reason, now=outcome.ended_at)


def takes_another(db: QueueDatabase, outcome: Outcome) -> bool:
    """Try to write a small outcome instead, undo it, and commit; tell whether that worked.

    It commits a heartbeat of the process whose claim it is: a database may take every statement and
    yet no COMMIT, as SQLite does on a full disk.
    """
    instead = refusal(outcome, OperationalError())
    try:
        with db.atomic():
            try:
                with db.atomic():
                    finish(db, [instead])
                    raise Undone
            except Undone:
                beat(db, [outcome.claimed.process_id], now=present(db))
    except Exception:
        close_connection(db)
        return False
    return True
