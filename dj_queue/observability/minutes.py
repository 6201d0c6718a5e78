"""The last hour and the last day of a backend's queues, from the minutes that finishers write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Case, Sum, Value, When

from dj_queue.models import QueueMinute
from dj_queue.routers import QueueDatabase


@dataclass(frozen=True)
class Span:
    """A stretch of time up to now, in steps of equal length."""

    name: str
    step: timedelta
    step_count: int

    def starts(self, now: datetime) -> list[datetime]:
        """Return when each step begins, the current one last."""
        seconds = int(self.step.total_seconds())
        last = datetime.fromtimestamp(now.timestamp() // seconds * seconds, now.tzinfo)
        return [last - self.step * back for back in reversed(range(self.step_count))]


HOUR = Span("last hour", timedelta(minutes=1), 60)
DAY = Span("last day", timedelta(hours=1), 24)


@dataclass(frozen=True)
class Step:
    """What became of jobs in one step; latency is their mean wait, None where none ended."""

    at: datetime
    finished: int
    failed: int
    latency_seconds: float | None


@dataclass(frozen=True)
class Series:
    """A queue, or all of the backend's, over a span."""

    queue: str
    span: Span
    steps: Sequence[Step]

    @property
    def ended_count(self) -> int:
        """How many jobs finished or failed."""
        return sum(step.finished + step.failed for step in self.steps)


def read_series(
    db: QueueDatabase, span: Span, *, now: datetime, queue: str = ""
) -> tuple[Series, list[Series]]:
    """Read a span: all queues together, and each queue, the busiest first. One statement."""
    starts = span.starts(now)
    own = db.objects(QueueMinute).filter(backend=db.backend, minute__gte=starts[0])
    if queue:
        own = own.filter(queue_name=queue)
    # Not truncated by the database: its hours are a time zone's, which may begin at half past.
    places = reversed(list(enumerate(starts)))
    step = Case(*[When(minute__gte=at, then=Value(place)) for place, at in places])
    rows = own.annotate(step=step).values_list("queue_name", "step")
    sums = [Sum(name) for name in ("finished", "failed", "waiting_seconds")]
    found: dict[str, dict[datetime, tuple[int, int, float]]] = {}
    for name, place, *numbers in rows.annotate(*sums).order_by("queue_name", "step"):
        found.setdefault(name, {})[starts[place]] = (numbers[0], numbers[1], numbers[2])
    together = {
        at: (
            sum(each.get(at, (0, 0, 0.0))[0] for each in found.values()),
            sum(each.get(at, (0, 0, 0.0))[1] for each in found.values()),
            sum(each.get(at, (0, 0, 0.0))[2] for each in found.values()),
        )
        for at in starts
    }
    each_queue = [_series(name, span, starts, steps) for name, steps in found.items()]
    each_queue.sort(key=lambda series: (-series.ended_count, series.queue))
    return _series(queue, span, starts, together), each_queue


def _series(
    queue: str,
    span: Span,
    starts: Sequence[datetime],
    found: dict[datetime, tuple[int, int, float]],
) -> Series:
    steps = []
    for at in starts:
        finished, failed, waiting = found.get(at, (0, 0, 0.0))
        ended = finished + failed
        steps.append(Step(at, finished, failed, waiting / ended if ended else None))
    return Series(queue, span, steps)
