"""Figures and tables: medians, ratios, spreads; no idea of how they were measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Row:
    """One line of a table: the samples of every round, or why there are none."""

    label: str
    samples: tuple[float, ...] = ()
    note: str = ""

    @property
    def median(self) -> float:
        """The middle sample; raise ValueError when there is none."""
        if not self.samples:
            raise ValueError(f"expected {self.label} to have samples, got none")
        return median(self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest sample."""
        return min(self.samples), max(self.samples)


@dataclass(frozen=True)
class Table:
    """What one scenario found; the first row is what the others are compared with."""

    title: str
    unit: str
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = field(default=())

    def ratio(self, row: Row) -> float | None:
        """Give the first row's median / this row's median, or None for want of either."""
        base = self.rows[0]
        if row is base or not base.samples or not row.samples or not row.median:
            return None
        return base.median / row.median


def percentile(samples: Sequence[float], percent: float) -> float:
    """Give the nearest-rank percentile: a sample that really was, 0 < percent <= 100."""
    ordered = sorted(samples)
    return ordered[math.ceil(percent / 100 * len(ordered)) - 1]
