"""Blame: whether it is an outcome that cannot be stored, or the database that cannot store."""

from __future__ import annotations

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError

from dj_queue import timezone
from dj_queue.engines import engine_for
from dj_queue.exceptions import InvalidReturnValue
from dj_queue.operations.execute import Outcome, abandoned
from dj_queue.routers import QueueDatabase

NOT_STORABLE = (DataError, IntegrityError, TypeError, ValueError)


def is_refused(db: QueueDatabase, error: Exception) -> bool:
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
    return abandoned(outcome.claimed, reason, now=timezone.now())
