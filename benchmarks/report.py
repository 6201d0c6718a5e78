"""Results as text, Markdown or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.figures import Row, Table


def columns(table: Table) -> list[str]:
    """Give the headings of a table."""
    first = table.rows[0].label
    return ["", f"median {table.unit}", "min – max", f"{first} / this", ""]


def cells(table: Table, row: Row) -> list[str]:
    """Give the cells of one row."""
    if not row.samples:
        return [row.label, "–", "–", "–", row.note]
    low, high = row.spread
    ratio = table.ratio(row)
    shown = "" if ratio is None else f"{ratio:.2f}"
    return [row.label, number(row.median), f"{number(low)} – {number(high)}", shown, row.note]


def number(value: float) -> str:
    """Write a figure with as many digits as say something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def show(tables: Sequence[Table]) -> None:
    """Print tables on stdout, with rich when it is installed and a terminal watches."""
    try:
        if not sys.stdout.isatty():
            raise ImportError
        from rich import box
        from rich.console import Console
        from rich.table import Table as Drawn
    except ImportError:
        for table in tables:
            print(plain(table), flush=True)
        return
    for table in tables:
        drawn = Drawn(*columns(table), title=table.title, box=box.SIMPLE, title_justify="left")
        for row in table.rows:
            drawn.add_row(*cells(table, row))
        console = Console()
        console.print(drawn, *table.remarks, sep="\n")


def plain(table: Table) -> str:
    """Give a table as aligned text."""
    lines = [columns(table), *(cells(table, row) for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join(["", table.title, *texts, *table.remarks])


def markdown(tables: Sequence[Table], source: Mapping[str, str]) -> str:
    """Give a page: where the figures come from, then the tables."""
    lines = [f"# Results on {source['server']}", ""]
    lines += ["Written by the command below; do not edit.", ""]
    lines += ["```console", f"$ {source['command']}", "```", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in source.items() if name != "command"]
    for table in tables:
        lines += ["", f"## {table.title}", "", f"| {' | '.join(columns(table))} |"]
        lines += ["|---|--:|--:|--:|---|"]
        lines += [f"| {' | '.join(cells(table, row))} |" for row in table.rows]
        lines += [part for remark in table.remarks for part in ("", remark)]
    return "\n".join(lines) + "\n"


def as_json(tables: Sequence[Table], source: Mapping[str, str]) -> str:
    """Give everything, samples included, for other programs."""
    return json.dumps(
        {"source": dict(source), "tables": [_entry(each) for each in tables]}, indent=2
    )


def _entry(table: Table) -> dict[str, Any]:
    rows = [
        {
            "label": row.label,
            "median": row.median if row.samples else None,
            "samples": row.samples,
            "ratio": table.ratio(row),
            "note": row.note,
        }
        for row in table.rows
    ]
    return {"title": table.title, "unit": table.unit, "rows": rows, "remarks": table.remarks}
