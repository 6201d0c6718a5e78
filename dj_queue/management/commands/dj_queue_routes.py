"""`manage.py dj_queue_routes`: the map of backends and databases, and what is wrong with it."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.management.base import CommandError, CommandParser

from dj_queue.checks import NO_BACKEND
from dj_queue.observability.route_map import BackendFacts, DatabaseFacts, RouteMap, draw_map
from dj_queue.output import OutputCommand
from dj_queue.routers.registry import routes

WIDTH = 100
GAP = "  "
BACKENDS = ("backend", "database", "answered by", "enqueue", "ready", "failed")
NUMBERS = {"ready", "failed"}
DATABASES = ("database", "server", "isolation", "tables", "address")


class Command(OutputCommand):
    help = (
        "Show which backend's jobs live where, who says so and what is wrong with it. Exit "
        "status 1 when anything is wrong."
    )
    # The map shows what checks find; they must not keep it from being drawn.
    requires_system_checks: Any = []
    spared = BrokenPipeError  # As of `head`. On a full disk half a map is an error.

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="print only what is wrong")
        parser.add_argument("--json", action="store_true", help="print the map as JSON")
        parser.add_argument(
            "--timeout",
            type=float,
            default=5,
            metavar="SECONDS",
            help="how long to wait for a database (default: 5)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not routes():
            raise CommandError(NO_BACKEND)
        if not 0 < options["timeout"] <= 3600:
            got = options["timeout"]
            raise CommandError(
                f"--timeout: expected more than 0 and at most 3600 seconds, got {got}"
            )
        drawn = draw_map(seconds=options["timeout"])
        if options["json"]:
            self.stdout.write(json.dumps(drawn.as_json(), indent=2))
        else:
            self._write_text(drawn, options["check"])
        if drawn.problems:
            sys.exit(1)

    def _write_text(self, drawn: RouteMap, only_problems: bool) -> None:
        if not only_problems:
            self._write_table(BACKENDS, [_backend_cells(each) for each in drawn.backends])
            self.stdout.write("")
            self._write_table(DATABASES, [_database_cells(each) for each in drawn.databases])
            self.stdout.write("")
        for problem in drawn.problems:
            style = self.style.ERROR if problem.level == "error" else self.style.WARNING
            self.stdout.write(style(f"{problem.level} {problem.id}"))
            for text in (problem.message, f"HINT: {problem.hint}"):
                self.stdout.write(_wrapped(text))
        if not drawn.problems:
            self.stdout.write(self.style.SUCCESS("nothing is wrong"))

    def _write_table(self, titles: Sequence[str], rows: list[list[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
        lines = []
        for row in (titles, *rows):
            cells = [
                cell.rjust(width) if title in NUMBERS else cell.ljust(width)
                for title, cell, width in zip(titles, row, widths, strict=True)
            ]
            lines.append(cells)
        if titles is DATABASES and any(len(GAP.join(cells).rstrip()) > WIDTH for cells in lines):
            lines = list(_with_addresses_below(lines))
        for cells in lines:
            self.stdout.write(GAP.join(cells).rstrip())


def _with_addresses_below(lines: list[list[str]]) -> Iterator[list[str]]:
    yield lines[0][:-1]
    for *cells, address in lines[1:]:
        yield cells
        if address.strip():
            yield [" " * len(cells[0]), address]


def _wrapped(text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent="  ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _backend_cells(each: BackendFacts) -> list[str]:
    answering = dict.fromkeys([each.reads_answered_by, each.writes_answered_by])
    who = " / ".join(name.rpartition(".")[2] or "nobody" for name in answering)
    counts = ["?" if count is None else f"{count:,}" for count in (each.ready, each.failed)]
    return [each.backend, each.database, who, each.enqueue, *counts]


def _database_cells(each: DatabaseFacts) -> list[str]:
    if each.address is None:
        return [each.alias, "not in DATABASES", "", "", ""]
    if not each.is_reachable:
        return [each.alias, "unreachable", "?", "?", each.address]
    tables = "all there"
    if each.missing_tables:
        tables = f"{len(each.missing_tables)} missing"
    elif each.unapplied_migrations:
        count = len(each.unapplied_migrations)
        tables = f"{count} {'migration' if count == 1 else 'migrations'} behind"
    return [each.alias, each.server or "", each.isolation or "", tables, each.address]
