"""Shows how far a scenario is: rich's bar where a terminal watches, else plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LINE_SECONDS = 5.0


class Progress:
    """Writes to stderr: stdout is for the results."""

    def __init__(self) -> None:
        self._bars = _bars()

    @contextmanager
    def steps(self, what: str, total: int) -> Iterator[Callable[[str], None]]:
        """Give a function to call with a text when a step begins."""
        with self._shown(what, total) as show:
            begun = 0

            def step(text: str) -> None:
                nonlocal begun
                show(begun, text)
                begun += 1

            yield step

    @contextmanager
    def count(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Give a function to call with how many are done, as often as one likes."""
        printed = time.monotonic()
        with self._shown(what, total) as show:

            def tell(done: int) -> None:
                nonlocal printed
                now = time.monotonic()
                if self._bars or now - printed >= LINE_SECONDS:
                    printed = now
                    show(done, f"{done:,} of {total:,}")

            yield tell

    @contextmanager
    def _shown(self, what: str, total: int) -> Iterator[Callable[[int, str], None]]:
        if not self._bars:
            yield lambda _, text: print(f"{what}: {text}", file=sys.stderr, flush=True)
            return
        if not self._bars.tasks:
            self._bars.start()
        bar = self._bars.add_task(what, total=total, text="")
        try:
            yield lambda done, text: self._bars.update(bar, completed=done, text=text)
        finally:
            self._bars.remove_task(bar)
            if not self._bars.tasks:
                self._bars.stop()


def _bars() -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars
    except ImportError:
        return None
    columns = ("{task.description}", BarColumn(), TextColumn("{task.fields[text]}"))
    return Bars(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
