"""Schedules: when a cron expression comes next, by the clock of a time zone.

The only module that imports croniter, which is asked about clock times alone. What becomes of these
where the clock is changed is decided here: croniter runs a daily time that occurs twice twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter

from dj_queue.exceptions import InvalidSchedule
from dj_queue.parsers import SCHEDULE_LENGTH
from dj_queue.quoting import quoted

SECOND = timedelta(seconds=1)
HOUR_FIELD = 1
EVERY_HOUR = (["*"], list(range(24)))
RANDOM = re.compile(r"(?:^|[\s,])r(?:$|[\s,(/])", re.IGNORECASE)
"""croniter's R: another time at every look, so that no two schedulers would agree."""


def validate(schedule: str, timezone: str, *, now: datetime) -> None:
    """Raise InvalidSchedule unless the schedule is croniter's, its zone is known and it comes."""
    zone_of(timezone)
    _fields(schedule)
    if next_after(schedule, timezone, now) is None:
        raise InvalidSchedule(f"expected a schedule that comes some day, got {quoted(schedule)}")


def zone_of(timezone: str) -> tzinfo:
    """Return the time zone of an IANA name; raise InvalidSchedule."""
    try:
        return ZoneInfo(timezone)
    # Besides "not found": ValueError for a path, OSError for a directory of the database.
    except (KeyError, ValueError, OSError, TypeError) as error:
        raise InvalidSchedule(
            f"expected a time zone of the IANA database, like 'Europe/Berlin', got "
            f"{quoted(timezone)}; where the system has no such database, install the package tzdata"
        ) from error


def next_after(schedule: str, timezone: str, instant: datetime) -> datetime | None:
    """Return the first instant after `instant`, in UTC; None when none is to come.

    A schedule of every hour comes whenever the clock shows its time: twice where the clock is set
    back over it, not at all where it is set forward over it. Any other names times of the day, and
    each comes once: the first time the clock shows it, or, when it never does, at the first
    instant after the gap. Raises InvalidSchedule.
    """
    zone = zone_of(timezone)
    is_hourly = _is_hourly(schedule)
    local = instant.astimezone(zone)
    clock = local.replace(tzinfo=None, fold=0)
    found = _first(schedule, zone, clock, instant, is_hourly)
    if is_hourly:
        # Shown for the first time of two: what the clock will show again lies before it.
        jump = local.replace(fold=1).astimezone(UTC) - local.astimezone(UTC)
        if jump > timedelta():
            again = _first(schedule, zone, clock - jump, instant, is_hourly)
            found = min(filter(None, (found, again)), default=None)
    return found


def instants_after(schedule: str, timezone: str, instant: datetime) -> Iterator[datetime]:
    """Yield the instants after `instant`, in order; ends when none is to come."""
    found = next_after(schedule, timezone, instant)
    while found is not None:
        yield found
        found = next_after(schedule, timezone, found)


def last_until(schedule: str, timezone: str, *, first: datetime, until: datetime) -> datetime:
    """Return the last instant that is not after `until`.

    `first` is one that is not. In the logarithm of the time between, not one by one.
    """
    lower, upper = first, until
    while upper - lower > SECOND:
        middle = lower + (upper - lower) / 2
        found = next_after(schedule, timezone, middle)
        if found is None or found > until:
            upper = middle
        else:
            lower = found
    found = next_after(schedule, timezone, lower)
    return lower if found is None or found > until else found


def _first(
    schedule: str, zone: tzinfo, clock: datetime, instant: datetime, is_hourly: bool
) -> datetime | None:
    """Return the first instant after `instant` at which the clock shows a time after `clock`."""
    times = croniter(schedule, clock.replace(microsecond=0, tzinfo=UTC))
    while True:
        try:
            time = times.get_next(datetime).replace(tzinfo=None)
        except (CroniterBadDateError, OverflowError):
            return None
        for each in _instants(time, zone, is_hourly):
            if each > instant:
                return each


def _instants(clock: datetime, zone: tzinfo, is_hourly: bool) -> list[datetime]:
    """Return when a schedule comes whose time the clock of `zone` shows: up to two instants."""
    both = [clock.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    shown = [each for each in both if each.astimezone(zone).replace(tzinfo=None) == clock]
    if not shown:
        return [] if is_hourly else [_end_of_gap(both[1], both[0], zone)]
    return sorted(set(shown)) if is_hourly else shown[:1]


def _end_of_gap(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """Return the instant between these two, in UTC, at which the clock is set forward."""
    offset = before.astimezone(zone).utcoffset()
    while after - before > SECOND:
        middle = before + (after - before) // SECOND // 2 * SECOND
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after


@lru_cache(maxsize=10_000)
def _is_hourly(schedule: str) -> bool:
    return _fields(schedule)[HOUR_FIELD] in EVERY_HOUR


def _fields(schedule: str) -> Sequence[Sequence[int | str]]:
    """Return the values of each field; raise InvalidSchedule for what croniter refuses."""
    if isinstance(schedule, str) and len(schedule) > SCHEDULE_LENGTH:
        raise InvalidSchedule(
            f"expected a schedule of at most {SCHEDULE_LENGTH} characters, got {len(schedule)}"
        )
    try:
        if not isinstance(schedule, str):
            raise TypeError(f"it is a {type(schedule).__name__}")
        if RANDOM.search(schedule):
            raise ValueError("R is another time at every look")
        fields: Sequence[Sequence[int | str]] = croniter(schedule).expanded
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise InvalidSchedule(
            f"expected a schedule that croniter takes, like '0 3 * * *', got {quoted(schedule)}: "
            f"{error}"
        ) from error
    return fields
