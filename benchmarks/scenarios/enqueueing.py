"""enqueue and enqueue-all: one process enqueues no-ops, one by one and in bulk."""

from __future__ import annotations

from benchmarks.contest import Contest
from benchmarks.figures import Table
from benchmarks.rounds import Run, compare

SINGLE, BULK = 2_000, 50_000


def enqueue(run: Run) -> list[Table]:
    """Enqueue one by one, each call waiting for its commit; a warm-up is not timed."""
    return [_table(run, "enqueue", run.jobs or SINGLE)]


def enqueue_all(run: Run) -> list[Table]:
    """Enqueue in slices, one call and one commit each; a warm-up is not timed."""
    return [_table(run, "enqueue_all", run.jobs or BULK)]


def _table(run: Run, method: str, count: int) -> Table:
    name = method.replace("_", "-")

    def measure(contest: Contest) -> list[float]:
        done, seconds = contest.call(method, count, run.seconds)
        return [done / seconds]

    (rows,) = compare(run, name, measure)
    return Table(f"{name}, {run.server.name}, {count:,} jobs", "jobs/s", rows)
