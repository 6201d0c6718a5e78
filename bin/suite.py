"""Runs the rows of bin/test: each a command with its own log, some at a time, all stopped together.

A lane is a list of rows that run one after the other; lanes run side by side.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from environment import ROOT

# A test that is told to stop drops its databases first.
STOP_SECONDS = 10
PERCENT = re.compile(rb"\[ *(\d+%)\]")
TAIL_BYTES = 4096


@dataclass
class Row:
    """One line of the closing table: a command to run, then what came of it."""

    name: str
    version: str = "-"
    command: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    junit: Path | None = None
    passed: int = 0
    failed: int = 0
    forgiven: int = 0
    """How many failures do not count, because the row may fail."""
    skipped: int = 0
    seconds: float = 0.0
    remedy: str = ""
    may_fail: bool = False
    skips: Counter[str] = field(default_factory=Counter)
    """How many tests were skipped, by reason."""

    @property
    def ran(self) -> bool:
        return not self.remedy


class Runner:
    """Runs lanes of rows; `stop` ends whatever runs, from any thread."""

    def __init__(
        self, directory: Path, say: Callable[[str], None], verbose: bool, limit_seconds: float
    ) -> None:
        self.directory = directory
        self.say = say
        self.verbose = verbose
        self.limit_seconds = limit_seconds
        self.running: dict[str, subprocess.Popen] = {}
        self.stopping = threading.Event()

    def run(self, lanes: list[list[Row]], jobs: int, watch: Callable[[list[str]], None]) -> None:
        """Run all lanes, `jobs` at a time, calling `watch` with the names that run."""
        executor = ThreadPoolExecutor(max_workers=jobs)
        try:
            futures = [executor.submit(self._run_lane, lane) for lane in lanes]
            while wait(futures, timeout=0.2).not_done:
                watch([self._progress(name) for name in list(self.running)])
            for future in futures:
                future.result()
        finally:
            self.stop()
            executor.shutdown(wait=True, cancel_futures=True)

    def stop(self) -> None:
        """End every command that runs, with its children, and start no other."""
        self.stopping.set()
        for process in list(self.running.values()):
            _end(process)

    def _progress(self, name: str) -> str:
        """Name a row and how far pytest has come, like `sqlite 45%`."""
        with (self.directory / f"{name}.log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            found = PERCENT.findall(log.read())
        return f"{name} {found[-1].decode()}" if found else name

    def _run_lane(self, lane: list[Row]) -> None:
        for row in lane:
            if not self.stopping.is_set():
                self._run_row(row)

    def _run_row(self, row: Row) -> None:
        log, began = self.directory / f"{row.name}.log", time.monotonic()
        with log.open("wb") as output, _started(row, output) as process:
            self.running[row.name] = process
            if self.stopping.is_set():
                _end(process)
            in_time = self._follow(row, log, process, began + self.limit_seconds)
            del self.running[row.name]
        row.seconds = time.monotonic() - began
        _count(row, process.returncode)
        if self.stopping.is_set():
            return
        row.forgiven, row.failed = (row.failed, 0) if row.may_fail else (0, row.failed)
        if (row.failed or row.forgiven) and not self.verbose:
            self.say(f"---- {row.name} ----\n{log.read_text(errors='replace').rstrip()}\n----")
        if not in_time:
            self.say(f"{row.name}: ended after {self.limit_seconds:.0f} seconds (--limit)")
        self.say(outcome(row))

    def _follow(self, row: Row, log: Path, process: subprocess.Popen, deadline: float) -> bool:
        """Wait for the process, printing its output when verbose; False when it took too long."""
        rest = ""
        with log.open(errors="replace") as reader:
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
                rest = self._print(row, rest + reader.read())
            in_time = process.poll() is not None
            if not in_time:
                _end(process)
            self._print(row, rest + reader.read() + "\n")
        return in_time

    def _print(self, row: Row, text: str) -> str:
        """Print whole lines when verbose; give the unfinished one."""
        *lines, rest = text.split("\n")
        for line in lines if self.verbose else ():
            if line.strip():
                self.say(f"[{row.name}] {line}")
        return rest


def outcome(row: Row) -> str:
    """Give the line that says how a row ended."""
    counts = f"{row.passed} passed, {row.failed} failed, {row.skipped} skipped"
    if row.junit is None:
        counts = "failed" if row.failed else "ok"
    if row.forgiven:
        counts += f", {row.forgiven} failures that do not count"
    return f"{row.name}: {counts} in {row.seconds:.0f} s"


@contextmanager
def _started(row: Row, output) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        row.command,
        cwd=ROOT,
        env=row.environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        # A group of its own, so that the processes it starts end with it.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        _signal_group(process, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    # Also after a good end: a process that a test left behind holds a database open.
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen, sent: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, sent)


def _count(row: Row, status: int) -> None:
    """Read the counts from pytest's report; a run without a report counts as one failure."""
    if row.junit and row.junit.is_file():
        for suite in ElementTree.parse(row.junit).getroot().iter("testsuite"):
            total, failures, errors, skipped = (
                int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
            )
            row.failed += failures + errors
            row.skipped += skipped
            row.passed += max(0, total - failures - errors - skipped)
            row.skips.update(each.get("message", "") for each in suite.iter("skipped"))
    if status and not row.failed:
        row.failed = 1
