"""Numbers and times as a person reads them; what is exact is shown on hover."""

from __future__ import annotations

from datetime import datetime

from dj_queue import timezone

NOTHING = "-"
MINUTE, HOUR, DAY = 60, 3600, 86_400


def moment(at: datetime | None) -> str:
    """Write a time as `Y-m-d H:i:s` in the current time zone."""
    return NOTHING if at is None else timezone.shown(at).strftime("%Y-%m-%d %H:%M:%S")


def typed(at: datetime | None) -> str:
    """Write a time as a field of a form has it, in the current time zone."""
    return "" if at is None else timezone.shown(at).strftime("%Y-%m-%dT%H:%M:%S")


def duration(seconds: float | None) -> str:
    """Write seconds with one decimal, from a minute on in the two largest units."""
    if seconds is None:
        return NOTHING
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < HOUR:
        return _two(whole // MINUTE, "min", whole % MINUTE, "s")
    if whole < DAY:
        return _two(whole // HOUR, "h", whole % HOUR // MINUTE, "min")
    return _two(whole // DAY, "d", whole % DAY // HOUR, "h")


def exact(seconds: float | None) -> str:
    """Write seconds with one decimal, however many."""
    return "" if seconds is None else f"{seconds:.1f} s"


def ago(seconds: float) -> str:
    """Write the age of something: "(1.2s ago)"."""
    return f"({seconds:.1f}s ago)" if seconds < MINUTE else f"({duration(seconds)} ago)"


def jobs(count: int | str) -> str:
    """Write how many jobs: "1 job", "2 jobs"."""
    return f"{count} {'job' if str(count) == '1' else 'jobs'}"


def _two(large: int, unit: str, small: int, below: str) -> str:
    return f"{large} {unit} {small} {below}" if small else f"{large} {unit}"
