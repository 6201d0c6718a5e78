"""What a worker has claimed, started and ended, in memory that outlives its process.

A supervisor shares it with its child, and it is a file where there is room for one: of a process
that was killed it tells, without a statement per job, which jobs certainly never started, and what
came of those whose tasks had ended.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Iterable
from datetime import UTC
from typing import Any
from uuid import UUID

from dj_queue.engines.clock import seconds_of_life
from dj_queue.models import ClaimedExecution
from dj_queue.models.fields import encode_json
from dj_queue.operations.execute import Outcome
from dj_queue.operations.failure import Failure
from dj_queue.runtime import ledger_files
from dj_queue.runtime.ledger_files import LedgerFile
from dj_queue.runtime.pages import (
    BEAT,
    ENDED,
    FAILED,
    FIRST,
    FREE,
    HEIR,
    MARK_WIDTH,
    MOMENT,
    NEVER,
    NOBODY,
    NOTE,
    NOTHING,
    PID,
    PROCESS,
    RETURNED,
    STARTED,
    STATE,
    TEXT_WIDTH,
    TOKEN,
    WAITING,
    WELL,
    WIDTH,
    Pages,
    bytes_of,
)
from dj_queue.runtime.prefetch import MOST_JOBS
from dj_queue.runtime.units import Unit

MAX_PENDING = 1_000
"""With so many outcomes to be recorded, nothing more is claimed, and nothing started."""

WAITS = bytes([WAITING])


class Ledger(Pages):
    """Pages with a place for every claim that a unit may hold, one writer to each place.

    A claim is entered before its job may start, marked before it does, and struck off when what
    came of it is recorded. A kill in the middle of a write leaves half an id, which is no claim's:
    that job counts as started, as does one for which there is no place. A claim, not only the job:
    one that was given back may be claimed again by the same process.
    """

    def __init__(self, unit: Unit, file: LedgerFile | None = None) -> None:
        """Note what the unit does in that file, which is as large as `size_for` says, or nowhere.

        Nowhere but in memory that this process shares with those that it forks.
        """
        super().__init__(mmap.mmap(file.number if file else -1, size_for(unit)))
        self.file = file
        if file:
            file.close()  # The memory keeps it open, and locked.
        self.unit = unit
        self._free = deque(range(FIRST * WIDTH, len(self._memory), WIDTH))
        # By the identity of the row, which costs less than hashing an id.
        self._places: dict[int, int] = {}

    @classmethod
    def kept(cls, unit: Unit) -> Ledger:
        """Make a ledger that outlives all processes, where there is room for a file."""
        return cls(unit, ledger_files.new_file(unit.db.alias, size_for(unit)))

    def enter(self, rows: Iterable[ClaimedExecution]) -> None:
        """Note jobs that wait; again those that were about to start and did not."""
        for row in rows:
            at = self._places.get(id(row))
            if at is None:
                try:
                    at = self._places[id(row)] = self._free.popleft()
                except IndexError:  # No place is free.
                    continue
            ids = row.job_id.bytes + row.claim_token.bytes
            self._memory[at + STATE : at + WIDTH] = WAITS + ids

    def start(self, row: ClaimedExecution) -> None:
        """Note that a job is about to start."""
        at = self._places.get(id(row))
        if at is not None:
            self._memory[at + STATE] = STARTED

    def end(self, outcome: Outcome) -> None:
        """Note how an attempt ended, with what it returned or raised if that is small."""
        at = self._places.get(id(outcome.claimed))
        if at is None:
            return
        failure, again = outcome.failure, NEVER
        if failure is None:
            text, state = _returned(outcome.return_value), RETURNED
        else:
            text, state = _raised(failure), FAILED
            if outcome.retry_at is not None:
                again = bytes_of(outcome.retry_at.astimezone(UTC))
        length, text = (-1, b"") if text is None else (len(text), text)
        began, ended = bytes_of(outcome.started_at), bytes_of(outcome.ended_at)
        NOTE.pack_into(self._memory, at, length, began, ended, again, text, state)

    def strike(self, row: ClaimedExecution) -> None:
        """Note that a job is not held any more."""
        at = self._places.pop(id(row), None)
        if at is not None:
            self._memory[at + STATE] = FREE
            self._free.append(at)

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
        """Note under which id this process claims."""
        self._write(PROCESS, process_id.bytes + NOBODY)
        PID.pack_into(
            self._memory, PROCESS * WIDTH + MARK_WIDTH, os.getpid(), self.unit.name.encode()[:100]
        )

    def is_well(self) -> None:
        """Note that the process has come to its work."""
        self._write(WELL, b"\1" * MARK_WIDTH)

    def ends_well(self) -> None:
        """Note that the process has done what it was told, and ends; nobody need look at it."""
        self._write(ENDED, b"\1" * MARK_WIDTH)
        self.remove()

    def beat(self) -> None:
        """Note that the process works."""
        MOMENT.pack_into(self._memory, BEAT * WIDTH, seconds_of_life())

    def remove(self) -> None:
        """Remove the file; the memory stays until it is closed."""
        if self.file:
            self.file.remove()


def size_for(unit: Unit) -> int:
    """Return how many bytes the ledger of a unit has."""
    worker = unit.worker
    capacity = 0
    if worker:
        # What waits, runs, or is on its way to be recorded.
        capacity = MAX_PENDING + MOST_JOBS + 2 * worker.threads
        if worker.concurrency:
            capacity += MOST_JOBS + 2 * worker.concurrency
    return (FIRST + capacity) * WIDTH


def _returned(value: Any) -> bytes | None:
    """Return the JSON of a value, None if that is too large; without writing all of a large one."""
    if value is None:
        return b"null"
    if _room_beside(value, TEXT_WIDTH) < 0:
        return None
    text = encode_json(value).encode()
    return text if len(text) <= TEXT_WIDTH else None


def _room_beside(value: Any, room: int) -> int:
    """Return how much is left of `room` beside a value's JSON at most; below 0 if it is larger."""
    if isinstance(value, str):
        return room - len(value)
    parts: Iterable[Any] = ()
    if isinstance(value, list | dict):
        room -= len(value)
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) and room > 0 else value
    for part in parts:
        if room < 0:
            break
        room = _room_beside(part, room - 1)
    return room


def _raised(failure: Failure) -> bytes | None:
    path = failure.exception_path.encode()
    if len(path) > TEXT_WIDTH:
        return None
    message = failure.message[:TEXT_WIDTH].encode()
    text = path + b"\n" + message if message else path
    if len(text) <= TEXT_WIDTH and len(message) >= len(failure.message):
        return text
    cut = text[: TEXT_WIDTH - len("…".encode())].decode(errors="ignore")
    return f"{cut}…".encode() if len(cut) > len(failure.exception_path) else path
