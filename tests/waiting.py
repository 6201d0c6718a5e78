"""Waiting for what another thread or process will do."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], seconds: float = 60.0, every: float = 0.002) -> None:
    """Wait until it holds, and look again and again; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(every)
