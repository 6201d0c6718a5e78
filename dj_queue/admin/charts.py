"""Charts of the last hour and day, drawn by the server: throughput, and latency per queue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from dj_queue import timezone
from dj_queue.admin import formats
from dj_queue.observability.minutes import DAY, HOUR, Series, read_series
from dj_queue.routers import QueueDatabase

WIDTH, HEIGHT = 480, 96
MOST_LINES = 4


@dataclass(frozen=True)
class Bar:
    """A rectangle; `title` is what is shown on hover."""

    x: float
    y: float
    width: float
    height: float
    tone: str
    title: str


@dataclass(frozen=True)
class Line:
    """A queue's curve, in pieces where nothing ended in between."""

    name: str
    tone: str
    pieces: Sequence[str]
    peak: str


@dataclass(frozen=True)
class Chart:
    """One chart; `summary` says in words what it shows."""

    title: str
    summary: str
    top: str
    begin: str
    bars: Sequence[Bar] = ()
    lines: Sequence[Line] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.bars and not self.lines


def charts_of(db: QueueDatabase, *, now: datetime, queue: str = "") -> list[Chart]:
    """Draw a backend's queues, or one of them: two statements.

    Lines are of the same queues in both spans, the hour's busiest first, each in its own colour.
    """
    spans = [read_series(db, span, now=now, queue=queue) for span in (HOUR, DAY)]
    busiest = dict.fromkeys(series.queue for _, queues in spans for series in queues)
    tones = {name: f"line-{place}" for place, name in enumerate([*busiest][:MOST_LINES], 1)}
    charts = []
    for together, queues in spans:
        by_name = {series.queue: series for series in queues}
        lines = [(by_name[name], tone) for name, tone in tones.items() if name in by_name]
        charts += [_throughput(together), _latency(together, lines)]
    return charts


def _throughput(series: Series) -> Chart:
    top = max((step.finished + step.failed for step in series.steps), default=0)
    finished = sum(step.finished for step in series.steps)
    failed = sum(step.failed for step in series.steps)
    return Chart(
        f"throughput, {series.span.name}",
        f"{finished:,} finished, {failed:,} failed",
        f"{top:,}",
        _clock(series.steps[0].at),
        bars=list(_bars(series, top)) if top else (),
    )


def _bars(series: Series, top: int) -> Iterator[Bar]:
    width = WIDTH / len(series.steps)
    for index, step in enumerate(series.steps):
        title = f"{_clock(step.at)}: {step.finished:,} finished, {step.failed:,} failed"
        bottom = float(HEIGHT)
        for count, tone in ((step.finished, "finished"), (step.failed, "failed")):
            if count:
                # A single failure among thousands must still be seen.
                height = max(HEIGHT * count / top, 2.0)
                bottom -= height
                yield _bar(index * width, max(0.0, bottom), width - 1, height, tone, title)


def _bar(x: float, y: float, width: float, height: float, tone: str, title: str) -> Bar:
    return Bar(round(x, 1), round(y, 1), round(width, 1), round(height, 1), tone, title)


def _latency(together: Series, queues: Sequence[tuple[Series, str]]) -> Chart:
    waits = [step.latency_seconds or 0.0 for series, _ in queues for step in series.steps]
    top = max(waits, default=0.0)
    lines = [_line(series, top, tone) for series, tone in queues]
    return Chart(
        f"latency, {together.span.name}",
        f"longest mean wait {formats.duration(top)}" if lines else "no job ended",
        formats.duration(top),
        _clock(together.steps[0].at),
        lines=lines,
    )


def _line(series: Series, top: float, tone: str) -> Line:
    width = WIDTH / len(series.steps)
    pieces: list[list[str]] = [[]]
    for index, step in enumerate(series.steps):
        if step.latency_seconds is None:
            pieces.append([])
            continue
        y = HEIGHT - (HEIGHT - 4) * (step.latency_seconds / top if top else 0) - 2
        # Two points a step, so that a lone one is seen.
        pieces[-1] += [f"{index * width:.1f},{y:.1f}", f"{(index + 1) * width:.1f},{y:.1f}"]
    peak = max((step.latency_seconds or 0.0 for step in series.steps), default=0.0)
    drawn = [" ".join(piece) for piece in pieces if piece]
    return Line(series.queue, tone, drawn, formats.duration(peak))


def _clock(at: datetime) -> str:
    return timezone.shown(at).strftime("%H:%M")
