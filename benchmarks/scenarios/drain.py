"""drain and two-databases: two worker processes work off a queue of no-ops."""

from __future__ import annotations

import time

from benchmarks.contest import Contest, ContestantFailed
from benchmarks.figures import Table
from benchmarks.rounds import Run, alternate, compare

JOBS = 50_000
PROCESSES = 2
SAMPLE_SECONDS = 0.1
SHORTEST_SECONDS = 0.005
SETTLE_SECONDS = 0.5
START_SECONDS = 60


def drain(run: Run) -> list[Table]:
    """Enqueue in bulk, start the workers, watch how many are finished; see rate."""
    count = run.jobs or JOBS

    def measure(contest: Contest) -> list[float]:
        contest.call("load", count)
        contest.analyze()
        contest.start_workers(PROCESSES)
        return [rate(run, contest, count)]

    (rows,) = compare(run, "drain", measure)
    title = f"drain, {run.server.name}, {count:,} jobs, {PROCESSES} worker processes"
    return [Table(title, "jobs/s", rows)]


def two_databases(run: Run) -> list[Table]:
    """Drain the same jobs from one queue database and from two; two worker processes either way.

    One database: both processes serve its backend. Two: half of the jobs and one process each.
    """
    ours, count = run.ours(), run.jobs or JOBS

    def one() -> float:
        with run.contest(ours, run.server) as contest:
            contest.call("load", count)
            contest.analyze()
            contest.start_workers(PROCESSES, "default")
            return rate(run, contest, count, "default")

    def two() -> float:
        with run.contest(ours, run.server, run.second) as contest:
            for alias in ("default", "second"):
                contest.call("load", count // 2, alias)
            contest.analyze()
            for alias in ("default", "second"):
                contest.start_workers(PROCESSES // 2, alias)
            return rate(run, contest, count // 2 * 2, "default", "second")

    rows = alternate(run, "two-databases", {"one database": one, "two databases": two})
    where = " and ".join(dict.fromkeys((run.server.name, run.second.name)))
    title = f"two-databases, {where}, {count:,} jobs, {PROCESSES} worker processes"
    return [Table(title, "jobs/s", rows)]


def rate(run: Run, contest: Contest, count: int, *aliases: str) -> float:
    """Give the finished jobs per second between two moments.

    From SETTLE_SECONDS after the first finished job, so that nobody's start counts, until all are
    finished or `run.seconds` are over. When that is too short: from the start of the workers.
    """
    began = time.perf_counter()
    samples = [(began, 0)]
    with run.progress.count(f"drain {contest.contestant.name}", count) as tell:
        while samples[-1][1] < count and samples[-1][0] - samples[0][0] < run.seconds:
            time.sleep(_pause(samples, count))
            samples.append((time.perf_counter(), finished(contest, *aliases)))
            tell(samples[-1][1])
            if not samples[-1][1]:
                samples = samples[-1:]
                _check_start(contest, samples[-1][0] - began)
    to_time, to_count = samples[-1]
    settled = [each for each in samples[:-1] if each[0] - samples[0][0] >= SETTLE_SECONDS]
    from_time, from_count = settled[0] if settled else (began, 0)
    return (to_count - from_count) / (to_time - from_time)


def finished(contest: Contest, *aliases: str) -> int:
    """Count finished jobs, of these backends or the only one."""
    if not aliases:
        return contest.call("finished")
    return sum(contest.call("finished", alias) for alias in aliases)


def _pause(samples: list[tuple[float, int]], count: int) -> float:
    """Ask more often near the end, so that the last sample is not late."""
    (from_time, from_count), (to_time, to_count) = samples[0], samples[-1]
    if to_count == from_count:
        return SAMPLE_SECONDS
    left = (count - to_count) * (to_time - from_time) / (to_count - from_count)
    return min(SAMPLE_SECONDS, max(SHORTEST_SECONDS, left / 2))


def _check_start(contest: Contest, waited: float) -> None:
    contest.check_workers()
    if waited > START_SECONDS:
        name = contest.contestant.name
        raise ContestantFailed(f"expected {name} to finish a job in {START_SECONDS} s, got none")
