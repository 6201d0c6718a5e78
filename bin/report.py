"""What bin/test prints: progress lines, a spinner for a terminal, the closing table."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from suite import Row

SPINNER = "|/-\\"
LINE_SECONDS = 25
HEADINGS = ("vendor", "version", "passed", "failed", "skipped", "seconds")


class Screen:
    """Prints whole lines from any thread, above a status line if a terminal watches."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self.terminal = sys.stdout.isatty()
        self.began = self.told = clock()

    def say(self, text: str) -> None:
        """Print a line, or several."""
        with self.lock:
            print(f"{self._clear()}{text}", flush=True)

    def watch(self, names: list[str]) -> None:
        """Show what runs: at all times on a terminal, else in a line now and then."""
        now = self.clock()
        text = f"{now - self.began:.0f} s: {', '.join(names)}"
        if self.terminal:
            mark = SPINNER[int(now * 5) % len(SPINNER)]
            with self.lock:
                print(f"{self._clear()}{f'{mark} {text}'[:78]}", end="", flush=True)
        elif now - self.told >= LINE_SECONDS:
            self.told = now
            self.say(text)

    @contextmanager
    def watching(self, what: str) -> Iterator[None]:
        """Show that the block runs."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.2):
                self.watch([what])

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _clear(self) -> str:
        return "\r\x1b[K" if self.terminal else ""


def table(rows: list[Row]) -> str:
    """Lay out the closing table, with the remedy of each row that did not run below it."""
    lines = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    printed = ["", *(_line(line, widths) for line in lines)]
    for row in rows:
        if not row.ran:
            remedy = row.remedy.rstrip().replace("\n", "\n    ")
            printed += ["", f"{row.name} NOT RUN; to run it:", f"    {remedy}"]
    return "\n".join(printed)


def skips(rows: list[Row]) -> str:
    """Say why tests were skipped, the most frequent reason first, and on which rows."""
    reasons: dict[str, dict[str, int]] = {}
    for row in rows:
        for reason, count in row.skips.items():
            reasons.setdefault(reason.removeprefix("Skipped: "), {})[row.name] = count
    lines = [
        f"  {sum(counts.values()):>5}  {reason} ({', '.join(counts)})"
        for reason, counts in sorted(reasons.items(), key=lambda each: -sum(each[1].values()))
    ]
    return "\n".join(["", "skipped:", *lines]) if lines else ""


def totals(rows: list[Row], missed: list[str]) -> str:
    """Give the last line; failed checks and required rows that did not run count as failed."""
    passed = sum(row.passed for row in rows)
    failed = sum(row.failed for row in rows) + len(missed)
    skipped = sum(row.skipped for row in rows)
    return f"{passed} passed, {failed} failed, {skipped} skipped"


def _cells(row: Row) -> tuple[str, ...]:
    if not row.ran:
        return (row.name, "NOT RUN", "-", "-", "-", "-")
    failed = f"({row.forgiven})" if row.forgiven else str(row.failed)
    counts = (str(row.passed), failed, str(row.skipped))
    if row.junit is None:
        counts = ("-", "yes", "-") if row.failed else ("ok", "-", "-")
    return (row.name, row.version, *counts, f"{row.seconds:.0f}")


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    """Align names to the left and numbers to the right."""
    left = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
    return "  ".join(left + right).rstrip()
