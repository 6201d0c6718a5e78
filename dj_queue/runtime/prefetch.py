"""How far ahead a worker claims: enough to cover a claim, too little to make a job wait."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

COVER_SECONDS = 0.1
"""Work claimed ahead lasts this long at the present rate: several claims' time on a near server."""
MOST_SECONDS = 1.0
"""No more than this is held, however slow the claims."""
MEMORY_SECONDS = 0.1
"""How long ago a job may have ended to count for the rate, about."""
MOST_JOBS = 500
SURPLUS = 4
"""So many times too much is given back; less is only the rate's ups and downs."""


class Prefetching:
    """Follows the rate at which a worker's jobs end.

    A claim's round trip is covered as well where it takes longer than COVER_SECONDS allow. Jobs
    that suddenly take long bring the rate down, and what was claimed ahead becomes a surplus.
    """

    def __init__(self, threads: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.threads = threads
        self._clock = clock
        self._rate = 0.0  # jobs per second
        self._seen_at = clock()
        self._ended_count = 0
        self._claim_seconds = 0.0

    @property
    def depth(self) -> int:
        """How many jobs to hold beyond those that run."""
        cover = min(max(COVER_SECONDS, 2 * self._claim_seconds), MOST_SECONDS)
        return min(MOST_JOBS, int(self._rate * cover))

    def see(self, ended_count: int) -> None:
        """Note how many jobs have ended since the worker began."""
        now = self._clock()
        elapsed = now - self._seen_at
        if elapsed <= 0:
            return
        weight = math.exp(-elapsed / MEMORY_SECONDS)
        rate = (ended_count - self._ended_count) / elapsed
        self._rate = self._rate * weight + rate * (1 - weight)
        self._seen_at, self._ended_count = now, ended_count

    def took(self, seconds: float) -> None:
        """Note how long a claim took."""
        self._claim_seconds = (self._claim_seconds + seconds) / 2

    def wanted(self, running_count: int, waiting_count: int) -> int:
        """Return how many jobs to claim now, given what runs and what waits for a thread."""
        free = max(0, self.threads - running_count)
        # Few claims of many jobs cost less than many of few.
        is_low = waiting_count < free or waiting_count <= self.depth // 2
        return self.room(running_count, waiting_count) if is_low else 0

    def room(self, running_count: int, waiting_count: int) -> int:
        """Return how many more jobs may be held without being too much."""
        free = max(0, self.threads - running_count)
        return max(0, free + self.depth - waiting_count)

    def surplus(self, running_count: int, waiting_count: int) -> int:
        """Return how many waiting jobs to give back, for some other worker to run."""
        # The first of them are about to be taken by threads that are free.
        ahead_count = waiting_count - max(0, self.threads - running_count)
        return ahead_count - self.depth if ahead_count > SURPLUS * self.depth else 0
