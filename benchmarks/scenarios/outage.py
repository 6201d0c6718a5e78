"""outage: one of two queue databases stops half-way and comes back. Ours only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.contest import CHECKOUT, Contest, ContestantFailed
from benchmarks.databases import Refused, Server, server
from benchmarks.figures import Row, Table
from benchmarks.rounds import Run
from benchmarks.scenarios.correctness import STALL_SECONDS, wait
from benchmarks.scenarios.drain import PROCESSES

JOBS = 60_000
START_AT, STOP_AT, RESTART_AT = 0.05, 0.35, 0.7
"""Shares of the first database's jobs that are finished when a phase begins."""
STOP_SECONDS = 30


def outage(run: Run) -> list[Table]:
    """Drain two backends in the same worker processes; stop one's server, then start it again.

    On two throwaway servers. Three rates of the backend that stays up; at the end every job of both
    must be finished, otherwise the exit status is 1.
    """
    if run.server.scheme == "sqlite":
        raise Refused("expected --database of outage to be a server, got 'sqlite'")
    count, samples = run.jobs or JOBS, []
    for number in range(run.rounds):
        with run.progress.steps("outage", 5) as step:
            samples.append(
                _round(run, count, lambda text, n=number: step(f"round {n + 1}: {text}"))
            )
    labels = ("before", "while the other is down", "after")
    rows = tuple(
        Row(label, tuple(found))
        for label, found in zip(labels, zip(*samples, strict=True), strict=True)
    )
    title = f"outage, {run.server.name}, 2 × {count:,} jobs, {PROCESSES} worker processes"
    return [Table(title, "jobs/s of the other", rows)]


def _round(run: Run, count: int, step: Callable[[str], None]) -> list[float]:
    with ExitStack() as stack:
        step("start two servers")
        up, _ = stack.enter_context(_throwaway(run.server.vendor))
        down, process = stack.enter_context(_throwaway(run.server.vendor))
        contest = stack.enter_context(run.contest(run.ours(), up, down))
        for alias in ("default", "second"):
            contest.call("load", count, alias)
        step("both up")
        contest.start_workers(PROCESSES, "default", "second")
        moments = [_reach(contest, count * START_AT), _reach(contest, count * STOP_AT)]
        step("one down")
        process.stop()
        moments += [_now(contest), _reach(contest, count * RESTART_AT)]
        step("both up again")
        process.start()
        contest.call("reconnect")
        moments += [_now(contest), _reach(contest, count)]
        step("finish the rest")
        wait(run, contest, "outage", count * 2, "default", "second")
        contest.stop_workers()
        for alias in ("default", "second"):
            _check(run, contest, alias, count)
    pairs = zip(moments[::2], moments[1::2], strict=True)
    return [(end[1] - begin[1]) / (end[0] - begin[0]) for begin, end in pairs]


def _now(contest: Contest) -> tuple[float, int]:
    return time.perf_counter(), contest.call("finished", "default")


def _reach(contest: Contest, count: float) -> tuple[float, int]:
    """Wait until so many jobs of the database that stays up are finished."""
    deadline = time.monotonic() + STALL_SECONDS * 5
    while time.monotonic() < deadline:
        contest.check_workers()
        now = _now(contest)
        if now[1] >= count:
            return now
        time.sleep(0.05)
    raise ContestantFailed(f"expected {count:.0f} jobs to be finished in time, got {now[1]}")


def _check(run: Run, contest: Contest, alias: str, count: int) -> None:
    audit = contest.call("audit", alias)
    if audit["finished"] != count or audit["astray"]:
        run.failures.append(
            f"outage: {alias}: expected {count} finished and none astray, got {audit}"
        )


class _Process:
    """A server of bin/servers.py that can be stopped and started again on the same files."""

    def __init__(self, started: Any) -> None:
        self.started = started
        self.process: subprocess.Popen = started.process

    def stop(self) -> None:
        """Stop at once: clients are cut off, in the middle of a transaction too."""
        # Not KILL: these servers do not flush at commit, so that commits would be lost.
        self.process.send_signal(signal.SIGINT if self._is_postgresql else signal.SIGTERM)
        self.process.wait(STOP_SECONDS)

    def start(self) -> None:
        """Start with the same command as the same user."""
        owner = os.stat(self.started.directory)
        identity = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
        self.process = subprocess.Popen(
            self.process.args,
            cwd=self.started.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **identity,
        )

    @property
    def _is_postgresql(self) -> bool:
        return self.started.vendor == "postgresql"


@contextmanager
def _throwaway(vendor: str) -> Iterator[tuple[Server, _Process]]:
    sys.path.insert(0, str(CHECKOUT.resolve() / "bin"))
    import environment
    import servers

    try:
        started = servers.START[vendor](Path(sys.executable))
    except environment.Missing as missing:
        raise Refused(
            f"expected to start a {vendor} server for outage, got: {missing}"
        ) from missing
    process = _Process(started)
    try:
        yield server("a throwaway server at", started.url), process
    finally:
        # The one that runs now, which may not be the one that was started first.
        replace(started, process=process.process).stop()
