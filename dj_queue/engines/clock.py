"""The clock of each queue database: jobs are due by it, because the clocks of hosts differ."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dj_queue import timezone
from dj_queue.engines import engine_for
from dj_queue.routers import Database

MAX_AGE_SECONDS = 60.0
"""How long a reading is used before the database is asked again."""

MAX_DIFFERENCE = timedelta(days=1)
"""A host whose clock differs by more has a clock that somebody has set: that of a test."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class _Reading:
    """What the database's clock showed, and when: in `seconds_of_life`."""

    at: datetime
    life: float

    def continued(self, life: float) -> datetime:
        return self.at + timedelta(seconds=life - self.life)


_readings: dict[str, _Reading] = {}


def seconds_of_life() -> float:
    """Return a clock that also runs while the process is stopped or the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def present(db: Database) -> datetime:
    """Return the time by the database's clock, which is asked once a minute; one statement then.

    Never ahead of that clock, and behind it by what an answer takes. In between it is a reading
    and the time that has passed since: how the host's own clock is set makes no difference. Where
    the database has no clock, as SQLite has none, it is the host's.
    """
    reading = _readings.get(db.alias)
    if reading is None or seconds_of_life() - reading.life > MAX_AGE_SECONDS:
        _read(db)
    return estimated(db)


def estimated(db: Database) -> datetime:
    """As `present`, but never ask: by the last reading, however old, or the host's clock."""
    reading = _readings.get(db.alias)
    return timezone.now() if reading is None else reading.continued(seconds_of_life())


def enqueueing(db: Database) -> datetime:
    """Return the time from which `run_after` counts; the host's in a test that sets the clock."""
    now, here = present(db), timezone.now()
    return now if abs(now - here) <= MAX_DIFFERENCE else here


def forget() -> None:
    """Forget all readings: the next look at each clock asks its database."""
    _readings.clear()


def _read(db: Database) -> None:
    statement = engine_for(db).clock_statement
    if statement is None:
        return
    asked = seconds_of_life()
    with db.cursor() as cursor:
        cursor.execute(statement)
        # A number: no session's time zone, and no USE_TZ, has a say in it.
        at = EPOCH + timedelta(microseconds=cursor.fetchone()[0])
    life = seconds_of_life()
    before = _readings.get(db.alias)
    # Where both readings may be true the later one is closer, and time does not go back.
    latest = at + timedelta(seconds=life - asked)
    if before is not None and at <= before.continued(life) <= latest:
        at = before.continued(life)
    _readings[db.alias] = _Reading(at, life)
