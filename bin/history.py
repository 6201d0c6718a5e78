"""What earlier runs of bin/test left under .venvs: how long each row took, and what failed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import environment
from suite import Row

FILE = environment.VENVS / "seconds.json"
GUESS_SECONDS = {"sqlite": 300, "postgresql": 220, "mixed": 220, "mariadb": 200, "mysql": 200,
                 "naive": 180, "pooled": 120}  # fmt: skip
"""For a first run; measured on two cores."""
OTHER_SECONDS = 60


def slowest_first(lanes: list[list[Row]]) -> list[list[Row]]:
    """Sort the lanes that have rows, so that none that takes long is alone at the end."""
    known = _read()
    return sorted(filter(None, lanes), key=lambda lane: -_seconds(lane, known))


def expectation(lanes: list[list[Row]], jobs: int) -> str:
    """Say how many minutes the lanes will take, `jobs` at a time."""
    known = _read()
    each = [_seconds(lane, known) for lane in lanes]
    seconds = max([*each, sum(each) / jobs])
    rows = {row.name for lane in lanes for row in lane}
    source = "as in the last run here" if rows <= set(known) else "a guess, before the first run"
    minutes = math.ceil(seconds / 60)
    return f"expect about {minutes} minute{'s' if minutes > 1 else ''} ({source})"


def keep(rows: list[Row]) -> None:
    """Remember how long rows took that did not fail."""
    whole = [row for row in rows if not row.failed and (row.passed or row.junit is None)]
    took = {row.name: round(row.seconds) for row in whole}
    FILE.write_text(json.dumps(_read() | took, indent=1, sort_keys=True), encoding="utf-8")


def failed_rows(caches: Path) -> set[str]:
    """Name the rows whose last run left tests that failed; `caches` has pytest's, by row."""
    files = caches.glob("*/v/cache/lastfailed")
    return {file.parents[2].name for file in files if json.loads(file.read_text(encoding="utf-8"))}


def _seconds(lane: list[Row], known: dict[str, int]) -> int:
    return sum(known.get(row.name, GUESS_SECONDS.get(row.name, OTHER_SECONDS)) for row in lane)


def _read() -> dict[str, int]:
    try:
        return json.loads(FILE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
