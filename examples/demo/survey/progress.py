"""Shows how far the jobs are: a bar on a terminal, else a line every few seconds."""

import shutil
import time
from collections.abc import Mapping

from django.core.management.base import OutputWrapper

LINE_SECONDS = 3.0
LONGEST_BAR = 40


class Progress:
    """Prints to `stream` how many of the jobs of each backend, `totals`, have ended."""

    def __init__(self, stream: OutputWrapper, totals: Mapping[str, int]) -> None:
        self.stream = stream
        self.total = sum(totals.values())
        self.is_terminal = stream.isatty()
        self.began = self._printed = time.monotonic()
        # The line must not jump: the bar is as long as the longest text allows, rate included.
        self._widest = len(self._text(totals))

    def show(self, done: Mapping[str, int]) -> None:
        """Tell the counts, if it is time to."""
        if self.is_terminal:
            self._write(f"\r{self._bar(done)}\x1b[K")
        elif time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = time.monotonic()
            self._write(f"  {self._text(done)}\n")

    def close(self) -> None:
        """Leave what was shown behind and begin a new line."""
        if self.is_terminal:
            self._write("\n")

    def _bar(self, done: Mapping[str, int]) -> str:
        text = self._text(done)
        columns = shutil.get_terminal_size().columns - 1
        length = min(LONGEST_BAR, columns - self._widest - 3)
        filled = length * sum(done.values()) // max(1, self.total)
        bar = f"[{'#' * filled}{'.' * (length - filled)}] " if length > 5 else ""
        return f"{bar}{text}"[:columns]

    def _text(self, done: Mapping[str, int]) -> str:
        count = sum(done.values())
        rate = count / max(1.0, time.monotonic() - self.began)
        parts = ", ".join(f"{backend} {number:,}" for backend, number in done.items())
        return f"{count:,} of {self.total:,}, {rate:,.0f}/s ({parts})"

    def _write(self, text: str) -> None:
        self.stream.write(text, ending="")
        self.stream.flush()
