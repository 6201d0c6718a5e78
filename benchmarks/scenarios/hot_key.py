"""hot-key: jobs of one concurrency key, strictly one after the other. Ours only."""

from __future__ import annotations

from itertools import chain

from benchmarks.contest import Contest
from benchmarks.figures import Row, Table
from benchmarks.rounds import Run
from benchmarks.scenarios.correctness import wait

JOBS = 10_000
PROCESSES = 2
LIMIT = 5
LEAST = 300


def hot_key(run: Run) -> list[Table]:
    """Enqueue jobs of one key, drain them with two worker processes; with limit 1, then limit 5.

    Each job records when it began and ended, by the machine's clock. With limit 1 they must have
    run in the order they were enqueued, no two at once; with limit 5 never more than five.
    """
    count = run.jobs or JOBS
    rates: dict[str, list[float]] = {"limit 1": [], f"limit {LIMIT}": []}
    with run.progress.steps("hot-key", run.rounds * len(rates)) as step:
        for number in range(run.rounds):
            for label, limit in zip(rates, (1, LIMIT), strict=True):
                step(f"round {number + 1} of {run.rounds}, {label}")
                rates[label].append(_rate(run, count, limit))
    rows = tuple(Row(label, tuple(found)) for label, found in rates.items())
    title = f"hot-key, {run.server.name}, {count:,} jobs of one key, {PROCESSES} worker processes"
    remark = f"To reach with limit 1: {LEAST}."
    return [Table(title, "jobs/s", rows, (remark,))]


def _rate(run: Run, count: int, limit: int) -> float:
    with run.contest(run.ours()) as contest:
        contest.call("fill_key", count, limit)
        contest.analyze()
        contest.start_workers(PROCESSES)
        wait(run, contest, f"hot-key, limit {limit}", count)
        contest.stop_workers()
        left = contest.call("slots_held")
        return _judge(run, contest, count, limit, left)


def _judge(run: Run, contest: Contest, count: int, limit: int, left: int) -> float:
    """Note what does not hold; give the jobs per second from the first begin to the last end."""
    spans = sorted(
        (float(began), float(ended), int(number))
        for began, ended, number in map(str.split, chain.from_iterable(contest.recorded()))
    )
    most = at_once([(began, ended) for began, ended, _ in spans])
    found = {
        "executed": (len(spans), count),
        "slots held at the end": (left, 0),
        "more at once than the limit": (max(0, most - limit), 0),
    }
    if limit == 1:
        in_order = [number for _, _, number in spans] == list(range(count))
        found["in order"] = (in_order, True)
    run.failures += [
        f"hot-key, limit {limit}: {what}: expected {expected}, got {got}"
        for what, (got, expected) in found.items()
        if got != expected
    ]
    return len(spans) / (max(ended for _, ended, _ in spans) - spans[0][0])


def at_once(spans: list[tuple[float, float]]) -> int:
    """Give how many of these spans overlap at most; one that begins where another ends does not."""
    steps = sorted([(ended, -1) for _, ended in spans] + [(began, 1) for began, _ in spans])
    running = most = 0
    for _, step in steps:
        running += step
        most = max(most, running)
    return most
