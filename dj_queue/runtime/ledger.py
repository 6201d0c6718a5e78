"""What a worker has claimed and not started, in memory that outlives its process.

A supervisor shares it with its child: of a child that was killed it knows, without a statement per
job, which jobs certainly never started.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from uuid import UUID

from dj_queue.models import ClaimedExecution
from dj_queue.operations.recover import Unstarted
from dj_queue.runtime.prefetch import MOST_JOBS
from dj_queue.runtime.units import Unit

ID_WIDTH = 16
WIDTH = 2 * ID_WIDTH
NOBODY = bytes(ID_WIDTH)
NOTHING = bytes(WIDTH)
PROCESS, TOKEN, HEIR, WELL, ENDED, FIRST = range(6)
"""Places of the process's id, the tokens of a claim under way and of an inheritance, and marks.

Then those of claims.
"""


class Ledger:
    """A table with a place for every claim that a unit may hold, one writer to each place.

    A claim is struck off before its job is started. A kill in the middle of a write leaves half an
    id, which is no claim's: that job counts as started, as does one for which there is no place.
    A claim, not only the job: one that was given back may be claimed again by the same process.
    """

    def __init__(self, unit: Unit) -> None:
        worker = unit.worker
        capacity = MOST_JOBS + worker.threads if worker else 0
        if worker and worker.concurrency:
            capacity += MOST_JOBS + worker.concurrency
        self._memory = mmap.mmap(-1, (FIRST + capacity) * WIDTH)
        self._free = deque(range(FIRST, FIRST + capacity))
        # By the identity of the row, which costs less than hashing an id.
        self._places: dict[int, int] = {}

    def enter(self, rows: Iterable[ClaimedExecution]) -> None:
        """Note jobs that wait."""
        for row in rows:
            with suppress(IndexError):  # No place is free.
                place = self._places[id(row)] = self._free.popleft()
                self._write(place, row.job_id.bytes + row.claim_token.bytes)

    def strike(self, row: ClaimedExecution) -> None:
        """Note that a job is about to start, or is not held any more."""
        place = self._places.pop(id(row), None)
        if place is not None:
            self._write(place, NOTHING)
            self._free.append(place)

    def begin_claim(self, token: UUID) -> None:
        """Note the token of a claim before it is made; its jobs are not entered yet."""
        self._write(TOKEN, token.bytes + NOBODY)

    def end_claim(self) -> None:
        """Note that what was claimed has been entered; before any of it may start."""
        self._write(TOKEN, NOTHING)

    def begin_inheriting(self, token: UUID) -> None:
        """Note the token under which jobs may be inherited; they are not entered yet."""
        self._write(HEIR, token.bytes + NOBODY)

    def end_inheriting(self) -> None:
        """Note that what was inherited has been entered; before any of it may start."""
        self._write(HEIR, NOTHING)

    def is_process(self, process_id: UUID) -> None:
        """Note under which id the process claims."""
        self._write(PROCESS, process_id.bytes + NOBODY)

    def is_well(self) -> None:
        """Note that the process has come to its work."""
        self._write(WELL, b"\1" * WIDTH)

    def ends_well(self) -> None:
        """Note that the process has done what it was told, and ends."""
        self._write(ENDED, b"\1" * WIDTH)

    @property
    def has_ended(self) -> bool:
        """Whether the process ended because it was told to, with nothing left."""
        return self._read(ENDED) != NOTHING

    @property
    def process_id(self) -> UUID | None:
        """Under which id the process claimed; None before its first."""
        found = self._read(PROCESS)
        return _id(found) if found != NOTHING else None

    @property
    def was_well(self) -> bool:
        """Whether the process had come to its work."""
        return self._read(WELL) != NOTHING

    @property
    def unstarted(self) -> Unstarted:
        """What the process certainly had not started; only when it is dead."""
        places = range(FIRST, len(self._memory) // WIDTH)
        claims = (each for each in map(self._read, places) if each != NOTHING)
        tokens = (each for each in map(self._read, (TOKEN, HEIR)) if each != NOTHING)
        return Unstarted(
            frozenset(map(_id, tokens)),
            frozenset((_id(each), _id(each[ID_WIDTH:])) for each in claims),
        )

    def close(self) -> None:
        """Let the memory go."""
        self._memory.close()

    def _write(self, place: int, value: bytes) -> None:
        self._memory[place * WIDTH : (place + 1) * WIDTH] = value

    def _read(self, place: int) -> bytes:
        return self._memory[place * WIDTH : (place + 1) * WIDTH]


def _id(value: bytes) -> UUID:
    return UUID(bytes=value[:ID_WIDTH])
