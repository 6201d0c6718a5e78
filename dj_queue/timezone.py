"""Times as dj_queue keeps them, aware and in UTC, and as the project has them, by USE_TZ.

The only module that asks Django about time zones: a datetime of the user's comes in through
`to_utc` or `from_shown` and leaves through `for_project` or `shown`; in between all are in UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import overload

from django.conf import settings
from django.utils.timezone import get_current_timezone, get_default_timezone


def now() -> datetime:
    """Return the present."""
    return datetime.now(UTC)


def to_utc(given: datetime) -> datetime:
    """Return a datetime in UTC; a naive one is a time of Django's TIME_ZONE.

    Of a time that the clock shows twice, `fold` says which is meant; one that it skips is as much
    later as the clock is set forward.
    """
    return _from(given, get_default_timezone)


@overload
def for_project(at: datetime) -> datetime: ...


@overload
def for_project(at: None) -> None: ...


def for_project(at: datetime | None) -> datetime | None:
    """Return a datetime as the project has them: where USE_TZ is off, naive, in TIME_ZONE."""
    if at is None or settings.USE_TZ:
        return at
    try:
        return at.astimezone(get_default_timezone()).replace(tzinfo=None)
    except OverflowError:  # Within a day of the end of the calendar.
        return at.replace(tzinfo=None)


def shown(at: datetime) -> datetime:
    """Return a datetime in the time zone of whoever looks at a page."""
    return at.astimezone(get_current_timezone())


def from_shown(given: datetime) -> datetime:
    """Return in UTC what whoever looks at a page has typed; see to_utc."""
    return _from(given, get_current_timezone)


def _from(given: datetime, zone: Callable[[], tzinfo]) -> datetime:
    if given.tzinfo is UTC:
        return given
    if given.utcoffset() is None:
        given = given.replace(tzinfo=zone())
    return given.astimezone(UTC)
