"""Signals that end a process: the first one lets it drain, the second does not."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType

LOOK_SECONDS = 0.05
"""How often a process looks whether it was told to stop.

Not an Event: setting one in a signal handler can deadlock on its own lock.
"""
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class StopSignals:
    """Counts what came; handles it only in the main thread, and in no child that a task forks.

    QUIT counts for two. A child leaves INT to its supervisor: Ctrl-C goes to the whole group. So
    may TERM, and comes once more from the supervisor: to a child it is one, however often it comes.
    """

    def __init__(self, *, is_child: bool = False, handled: bool = True) -> None:
        """Handle the signals, unless whoever makes this counts by itself."""
        self.count = 0
        self._is_child = is_child
        if not handled:
            return
        _spare_children()
        signal.signal(signal.SIGTERM, self._on_stop)
        # Not SIG_IGN: every program that a task starts would inherit that.
        signal.signal(signal.SIGINT, self._on_nothing if is_child else self._on_stop)
        signal.signal(signal.SIGQUIT, self._on_quit)

    @property
    def is_urgent(self) -> bool:
        """Whether nothing is to be waited for any more."""
        return self.count >= 2

    def _on_stop(self, signum: int, frame: FrameType | None) -> None:
        self.count = max(self.count, 1) if self._is_child else self.count + 1

    def _on_quit(self, signum: int, frame: FrameType | None) -> None:
        self.count = 2

    def _on_nothing(self, signum: int, frame: FrameType | None) -> None:
        """Leave it to the supervisor."""


@contextmanager
def held_back() -> Iterator[None]:
    """Let signals wait inside the block, so that none is lost between a fork and its handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@cache
def _spare_children() -> None:
    """Give what is forked from now on, by a task above all, Python's own handling of STOPPING.

    A supervisor's child handles them anew. Held back meanwhile: one that came between the fork
    and the change would be counted by an object that nobody in the child looks at.
    """
    held = threading.local()

    def before() -> None:
        held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, held.mask)

    def in_child() -> None:
        for each in STOPPING:
            if isinstance(getattr(signal.getsignal(each), "__self__", None), StopSignals):
                is_interrupt = each == signal.SIGINT
                signal.signal(each, signal.default_int_handler if is_interrupt else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, held.mask)

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)
