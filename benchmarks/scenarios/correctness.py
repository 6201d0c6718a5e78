"""correctness: nothing is lost, doubled or out of order at full speed. Ours only."""

from __future__ import annotations

import time
from collections import Counter
from itertools import chain

from benchmarks.contest import Contest
from benchmarks.figures import Row, Table
from benchmarks.rounds import Run
from benchmarks.scenarios.drain import finished

JOBS = 50_000
ORDERED_JOBS = 3_000
PROCESSES = 4
PRIORITIES = (0, 10, -5, 10)
STALL_SECONDS = 60


def correctness(run: Run) -> list[Table]:
    """Run jobs that record themselves, in four processes; then in one of one thread, for the order.

    What does not hold is a violation, and the exit status is 1.
    """
    count = run.jobs or JOBS
    ordered = min(count, ORDERED_JOBS)
    rows = (*_at_speed(run, count), _in_order(run, ordered))
    title = f"correctness, {run.server.name}, {count:,} jobs, {PROCESSES} worker processes"
    run.failures += [
        f"correctness: {row.label}: expected {expected:g}, got {row.median:g}"
        for row, expected in zip(rows, (count, count, 0, 0, ordered), strict=True)
        if row.median != expected
    ]
    return [Table(title, "count", rows)]


def wait(run: Run, contest: Contest, what: str, count: int, *aliases: str) -> int:
    """Wait until so many jobs are finished, or none was for STALL_SECONDS; give how many were."""
    done, changed = -1, time.monotonic()
    with run.progress.count(what, count) as tell:
        while done < count and time.monotonic() - changed < STALL_SECONDS:
            contest.check_workers()
            now_done = finished(contest, *aliases)
            if now_done != done:
                done, changed = now_done, time.monotonic()
            tell(done)
            time.sleep(0.2)
    return done


def _at_speed(run: Run, count: int) -> tuple[Row, ...]:
    queues = [f"queue{number}" for number in range(len(PRIORITIES))]
    with run.contest(run.ours()) as contest:
        # The workers are there first: enqueueing and claiming at once is part of it.
        contest.start_workers(PROCESSES)
        contest.call("fill", count, queues, list(PRIORITIES), "append")
        wait(run, contest, "correctness", count)
        contest.stop_workers()
        audit = contest.call("audit")
        executed = Counter(chain.from_iterable(contest.recorded()))
    expected = {str(number) for number in range(count)}
    wrong = sum(times != 1 for times in executed.values()) + len(expected ^ set(executed))
    return (
        Row("enqueued", (audit["jobs"],)),
        Row("finished", (audit["finished"],)),
        Row("not executed exactly once", (wrong,)),
        Row("not in exactly one state", (audit["astray"],)),
    )


def _in_order(run: Run, count: int) -> Row:
    """Count the jobs that one thread executed at the place that priority, then id, gives them."""
    worker = {"queues": "*", "threads": 1}
    with run.contest(run.ours(), workers=[worker]) as contest:
        contest.call("fill", count, ["ordered"] * len(PRIORITIES), list(PRIORITIES), "append")
        contest.start_workers(1)
        wait(run, contest, "correctness, order", count)
        found = [int(line) for line in chain.from_iterable(contest.recorded())]
    # Ids ascend as the numbers do.
    order = sorted(range(count), key=lambda number: (-PRIORITIES[number % len(PRIORITIES)], number))
    at_place = sum(one == other for one, other in zip(order, found, strict=False))
    return Row(f"executed in order, of {count:,} in one thread", (at_place,))
