"""The clock of what lives."""

from __future__ import annotations

import time


def seconds_of_life() -> float:
    """Return a clock that also runs while the process is stopped or the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
