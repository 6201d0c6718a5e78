"""Crews: who runs a worker's jobs, threads or coroutines, and how many to claim for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from dj_queue.runtime.pool import Pool
from dj_queue.runtime.prefetch import Prefetching

PROBE_SECONDS = 1.0
"""A worker that is full of one kind of job looks for the other at most this often."""


class Crew:
    """A pool, and how far ahead it claims."""

    def __init__(self, pool: Pool, size: int) -> None:
        """Follow a pool that runs `size` jobs at once."""
        self.pool = pool
        self.prefetch = Prefetching(size)
        self._low_count = 0

    @property
    def waiting_count(self) -> int:
        """How many jobs wait to be started."""
        return self.pool.waiting_count

    @property
    def running_count(self) -> int:
        """How many jobs run."""
        return self.pool.held_count - self.pool.waiting_count

    @property
    def is_low(self) -> bool:
        """Whether so little waits that it is time to claim more, if there is more."""
        return self.pool.waiting_count <= self._low_count

    def look(self) -> int:
        """Note how fast jobs end; return how many of those that wait are too many."""
        self.prefetch.see(self.pool.ended_count)
        return self.prefetch.surplus(self.running_count, self.waiting_count)

    def wanted(self) -> int:
        """Return how many jobs to claim now."""
        self._low_count = self.prefetch.depth // 2
        return self.prefetch.wanted(self.running_count, self.waiting_count)

    def room(self) -> int:
        """Return how many more jobs may be held."""
        return self.prefetch.room(self.running_count, self.waiting_count)


class Mixture:
    """How many jobs to claim for two crews, when a claim does not say whose they will be.

    As many as fit whatever they are, or for each crew twice as many as came for it last time. When
    that is none though one crew is idle, a single one now and then, to see what there is: what does
    not fit is given back, and must not be taken from others too often.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._came: Sequence[int] = (0, 0)
        self._probe_at = clock() + PROBE_SECONDS

    def limit(self, wanted: Sequence[int], rooms: Sequence[int]) -> int:
        """Return how many jobs to claim, given what each crew wants and has room for."""
        if not any(wanted):
            return 0
        shares = [min(want, 2 * came) for want, came in zip(wanted, self._came, strict=True)]
        return max(min(rooms), sum(shares)) or int(self._clock() >= self._probe_at)

    def see(self, came: Sequence[int], *, fits: bool) -> None:
        """Note how many jobs came for each crew, and whether there was room for all."""
        if any(came):
            self._came = came
        if not fits:
            self._probe_at = self._clock() + PROBE_SECONDS
