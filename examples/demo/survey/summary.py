"""What the demo prints when the jobs are done."""

import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from django.db import connections

from dj_queue.routers.registry import backends_on, databases, routes
from survey.counts import Tally, failures, together
from survey.models import SourceFile

SHOWN_FAILURES = 30
LONGEST = 10
COUNTS = ("jobs", "finished", "failed", "seconds", "jobs/s")
NUMBERS = (*COUNTS, "lines")


def summary(tallies: dict[str, Tally], since: datetime) -> Iterator[str]:
    """Give the lines of the summary of the jobs that ended after `since`."""
    yield from _table(
        ("backend", "queue database", *COUNTS),
        [(name, route.alias, *_cells(tallies[name])) for name, route in routes().items()],
    )
    by_alias = {alias: [tallies[name] for name in backends_on(alias)] for alias in databases()}
    rows = [(alias, _file_of(alias), *_cells(together(by_alias[alias]))) for alias in by_alias]
    rows.append(("together", "", *_cells(together(list(tallies.values())))))
    yield from _table(("queue database", "file", *COUNTS), rows)
    yield from _failures(since)
    yield from _survey()


def _failures(since: datetime) -> Iterator[str]:
    failed = [row for name in routes() for row in failures(name, since)]
    if not failed:
        return
    yield ""
    yield f"failed ({len(failed):,}), with the exception that Python raised:"
    lines = []
    for row in failed:
        asked, kind = row.job.kwargs, row.exception_path.removeprefix("builtins.")
        # The root is the same in most of them, and the line is short.
        message = " ".join(row.message.replace(f"{asked.get('root')}/", "").split())
        lines.append(f"  {asked.get('path', row.job.task_path)}: {kind}: {message}")
    yield from (_cut(line) for line in sorted(lines)[:SHOWN_FAILURES])
    if len(lines) > SHOWN_FAILURES:
        yield f"  … and {len(lines) - SHOWN_FAILURES:,} more, in the admin"


def _survey() -> Iterator[str]:
    files = SourceFile.objects.using("default")
    longest = files.exclude(longest_function="").order_by("-longest_function_lines", "path")
    rows = [
        (f"{each.longest_function_lines:,}", each.longest_function, each.path)
        for each in longest[:LONGEST]
    ]
    yield ""
    yield f"files measured: {files.count():,}; the longest functions in them:"
    yield from _table(("lines", "function", "file"), rows)


def _cells(tally: Tally) -> tuple[str, ...]:
    seconds = tally.seconds
    rate = f"{tally.jobs / seconds:,.0f}" if seconds else "-"
    counts = (f"{number:,}" for number in (tally.jobs, tally.finished, tally.failed))
    return (*counts, f"{seconds:.1f}", rate)


def _file_of(alias: str) -> str:
    return Path(connections[alias].settings_dict["NAME"]).name


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lay out rows below an empty line, numbers to the right."""
    lines = [headings, *rows]
    yield ""
    columns = [_column(heading, cells) for heading, *cells in zip(*lines, strict=True)]
    for cells in zip(*columns, strict=True):
        yield _cut("  ".join(cells).rstrip())


def _column(heading: str, cells: Sequence[str]) -> list[str]:
    width = max(map(len, (heading, *cells)))
    adjust = str.rjust if heading in NUMBERS else str.ljust
    return [adjust(cell, width) for cell in (heading, *cells)]


def _cut(line: str) -> str:
    width = shutil.get_terminal_size((100, 24)).columns
    return line if len(line) <= width else f"{line[: width - 1]}…"
