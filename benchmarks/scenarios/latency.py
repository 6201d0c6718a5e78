"""latency: how long a job waits for a worker that has nothing else to do."""

from __future__ import annotations

import time
from itertools import chain

from benchmarks.contest import Contest, ContestantFailed
from benchmarks.figures import Table, percentile
from benchmarks.rounds import Run, compare

JOBS = 500
PER_SECOND = 50
WARM_UP = 20
PERCENTILES = (50, 95, 99)
WAIT_SECONDS = 60


def latency(run: Run) -> list[Table]:
    """Enqueue 50 jobs a second; from just before the enqueue until the task's first line.

    One worker process, and another process that enqueues; both read the same machine's clock.
    """
    count = run.jobs or JOBS

    def measure(contest: Contest) -> list[float]:
        contest.start_workers(1)
        contest.call("enqueue_stamps", WARM_UP, PER_SECOND)
        _wait(contest, WARM_UP)
        for path in contest.records.glob("*.txt"):
            path.unlink()
        contest.call("enqueue_stamps", count, PER_SECOND)
        seconds = _wait(contest, count)
        return [percentile(seconds, percent) * 1_000 for percent in PERCENTILES]

    tables = compare(run, "latency", measure, len(PERCENTILES))
    what = f"{run.server.name}, {count:,} jobs at {PER_SECOND}/s"
    return [
        Table(f"latency p{percent}, {what}", "ms", rows)
        for percent, rows in zip(PERCENTILES, tables, strict=True)
    ]


def _wait(contest: Contest, count: int) -> list[float]:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        contest.check_workers()
        found = list(chain.from_iterable(contest.recorded()))
        if len(found) >= count:
            return [float(line) for line in found]
        time.sleep(0.1)
    raise ContestantFailed(
        f"expected {contest.contestant.name} to run {count} jobs in {WAIT_SECONDS} s, "
        f"got {len(found)}"
    )
