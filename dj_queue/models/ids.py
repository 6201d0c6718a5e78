"""UUIDv7 ids, made by the client: known before the insert, in the order they were made."""

from __future__ import annotations

import os
import threading
import time
import uuid
from datetime import datetime

_lock = threading.Lock()
_last_ms = 0
_counter = 0


def _uuid7() -> uuid.UUID:
    """Return a UUIDv7 of RFC 9562, method 1: 48 bits of ms, 42 of counter, 32 random."""
    global _last_ms, _counter
    now = time.time_ns() // 1_000_000
    chance = int.from_bytes(os.urandom(10))
    if now > _last_ms:
        # The counter starts in its lower half, so a busy millisecond has room to count.
        _last_ms, _counter = now, chance >> 39
    else:
        # The same millisecond, or a clock set back: order is kept by the counter.
        _counter += 1
        if _counter >> 42:
            _last_ms, _counter = _last_ms + 1, chance >> 39
    value = (_last_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | 0b10 << 62
    value |= _counter >> 30 << 64 | (_counter & (1 << 30) - 1) << 32 | chance & (1 << 32) - 1
    return uuid.UUID(int=value)


_make = getattr(uuid, "uuid7", _uuid7)


def new_id() -> uuid.UUID:
    """Return a new id, greater than every earlier one of this process."""
    # The standard library's uuid7 counts in module globals without a lock of its own.
    with _lock:
        made: uuid.UUID = _make()
        return made


def first_id_at(moment: datetime) -> uuid.UUID:
    """Return a bound: ids made before that moment are smaller, later ones are not."""
    return uuid.UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)
