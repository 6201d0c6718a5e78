"""The pages of a ledger: what a process has noted, for whoever reads them when it is dead."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from weakref import WeakSet

from dj_queue.engines.claims import Claim
from dj_queue.operations.remains import Note, Remains, Unstarted

ID_WIDTH = 16
TEXT_WIDTH = 96
NOTE = struct.Struct("=h10s10s10s96sB")
"""The length of the text, when the attempt began, ended and is to be repeated; text and state.

The state is written last: half a note is none. Then come the ids of a job and of a claim.
"""
IDS = NOTE.size
STATE = IDS - 1
WIDTH = IDS + 2 * ID_WIDTH
MARK_WIDTH = 2 * ID_WIDTH
NOBODY = bytes(ID_WIDTH)
NOTHING = bytes(MARK_WIDTH)
NEVER = bytes(10)

FREE, WAITING, STARTED, RETURNED, FAILED = range(5)
"""States of a claim."""

PROCESS, TOKEN, HEIR, WELL, ENDED, DEAD, BEAT, FIRST = range(8)
"""Places of the process's ids, the tokens of a claim under way and of an inheritance, and marks.

Then those of claims.
"""
MOMENT = struct.Struct("=d")
PID = struct.Struct("=I100s")

_open: WeakSet[Pages] = WeakSet()


class Pages:
    """Memory with a place for every claim, and what it says; of claims only when nobody writes."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        _open.add(self)

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
    def who(self) -> tuple[int, str]:
        """The process's pid, and the name of its unit."""
        pid, name = PID.unpack_from(self._memory, PROCESS * WIDTH + MARK_WIDTH)
        return pid, name.rstrip(b"\0").decode(errors="ignore")

    @property
    def was_well(self) -> bool:
        """Whether the process had come to its work."""
        return self._read(WELL) != NOTHING

    @property
    def is_dead(self) -> bool:
        """Whether somebody saw that the process is dead."""
        return self._read(DEAD) != NOTHING

    @property
    def beat_at(self) -> float:
        """When the process was last seen to work, on `seconds_of_life`; 0 if never."""
        at: float = MOMENT.unpack_from(self._memory, BEAT * WIDTH)[0]
        return at

    @property
    def remains(self) -> Remains:
        """What the process certainly had not started, and what certainly had ended."""
        return Remains(self.unstarted, dict(self._ended()))

    @property
    def unstarted(self) -> Unstarted:
        """What the process certainly had not started."""
        tokens = (each for each in map(self._read, (TOKEN, HEIR)) if each != NOTHING)
        claims = (self._claim(place) for place in self._places_in(WAITING))
        return Unstarted(frozenset(map(_id, tokens)), frozenset(claims))

    def declare_dead(self) -> None:
        """Note that the process is dead: what the ledger says is final."""
        self._write(DEAD, b"\1" * MARK_WIDTH)

    def close(self) -> None:
        """Let the memory go."""
        self._memory.close()

    def _ended(self) -> Iterator[tuple[Claim, Note]]:
        for place in self._places_in(RETURNED, FAILED):
            size, started_at, ended_at, retry_at, text, state = NOTE.unpack_from(
                self._memory, place * WIDTH
            )
            note = Note(
                moment_of(started_at),
                moment_of(ended_at),
                state == FAILED,
                text[:size].decode() if size >= 0 else None,
                moment_of(retry_at) if retry_at != NEVER else None,
            )
            yield self._claim(place), note

    def _places_in(self, *states: int) -> Iterator[int]:
        for place in range(FIRST, len(self._memory) // WIDTH):
            if self._memory[place * WIDTH + STATE] in states:
                yield place

    def _claim(self, place: int) -> Claim:
        found = self._memory[place * WIDTH + IDS : (place + 1) * WIDTH]
        return _id(found), _id(found[ID_WIDTH:])

    def _write(self, place: int, value: bytes) -> None:
        self._memory[place * WIDTH : place * WIDTH + len(value)] = value

    def _read(self, place: int) -> bytes:
        return self._memory[place * WIDTH : place * WIDTH + MARK_WIDTH]


def bytes_of(moment: datetime) -> bytes:
    """Return a moment in UTC as pickle keeps it, in a fifth of the time of a timestamp."""
    state: Any = moment.__reduce__()[1]
    kept: bytes = state[0]
    return kept


def moment_of(kept: bytes) -> datetime:
    """Return the moment that `bytes_of` was given."""
    return datetime(kept, UTC)  # type: ignore[arg-type,call-arg]


def close_all_but(kept: Iterable[Pages | None]) -> None:
    """Close what this process has inherited of others: it would keep their files locked."""
    for pages in set(_open) - set(kept):
        pages.close()


def _id(value: bytes) -> UUID:
    return UUID(bytes=value[:ID_WIDTH])
