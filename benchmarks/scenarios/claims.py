"""claim-depth, dispatch-depth and selectors: one step by itself, without workers. Ours only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Any

from benchmarks.contest import Contest
from benchmarks.figures import Row, Table
from benchmarks.rounds import Run, alternate

DEPTHS = (1_000, 10_000, 100_000, 1_000_000)
LIMIT = 50
REPEATS = 20
FEW_REPEATS = 5  # so that a thousand jobs are enough for three rounds
MOST_TIMES = 1.5
HELD, OPEN = "held", "open"
DEPTH_CASES: dict[str, tuple[list[str], bool]] = {
    'selector "*"': (["*"], False),
    'selector "*", half of the rows in a paused queue of higher priority': (["*"], True),
    "exact selectors, half of the rows in the first, which is paused": ([HELD, OPEN], True),
}
QUEUES = [f"queue{number:02}" for number in range(20)]
EMPTY = [f"empty{number:02}" for number in range(80)]
SELECTORS = {
    '"*"': ["*"],
    "20 exact names": QUEUES,
    "80 empty queues, then 20 exact names": [*EMPTY, *QUEUES],
    "2 prefixes": ["queue0*", "queue1*"],
}
SELECTOR_JOBS = 20_000


def claim_depth(run: Run) -> list[Table]:
    """Time claims of 50 with ever more ready jobs; what was claimed is given back each time.

    A database for each depth is filled first, so that the depths can take turns. A sample is the
    median of 20 claims. `--jobs` is the greatest depth.
    """
    with ExitStack() as stack:
        filling = ("fill", [HELD, OPEN], [10, 0], "noop")
        contests = _filled(run, stack, "claim-depth", *filling)
        return [_depth_table(run, contests, name) for name in DEPTH_CASES]


def dispatch_depth(run: Run) -> list[Table]:
    """Time how long 50 scheduled jobs take to become ready, of ever more that are due at once.

    As claim-depth, but what became ready stays so.
    """
    with ExitStack() as stack:
        contests = _filled(run, stack, "dispatch-depth", "fill_scheduled")
        cases = {f"{depth:,} due": _dispatching(each) for depth, each in contests.items()}
        rows = alternate(run, "dispatch-depth", cases)
    title = f"dispatch-depth, {run.server.name}"
    return [Table(title, "ms per dispatch of 50", rows, (_compared(rows),))]


def selectors(run: Run) -> list[Table]:
    """Claim 50 at a time until nothing is left of jobs in 20 queues; by kind of selector."""
    count = run.jobs or SELECTOR_JOBS
    cases = {label: partial(_claim_all, run, count, each) for label, each in SELECTORS.items()}
    rows = alternate(run, "selectors", cases)
    return [Table(f"selectors, {run.server.name}, {count:,} jobs in 20 queues", "jobs/s", rows)]


def _filled(
    run: Run, stack: ExitStack, scenario: str, fill: str, *arguments: Any
) -> dict[int, Contest]:
    """Open a database for each depth, and fill it with so many jobs by a call of `fill`."""
    depths = [each for each in DEPTHS if each <= (run.jobs or DEPTHS[-1])] or [run.jobs or 0]
    contests = {depth: stack.enter_context(run.contest(run.ours())) for depth in depths}
    with run.progress.steps(scenario, len(depths)) as step:
        for depth, contest in contests.items():
            step(f"enqueue {depth:,} jobs")
            contest.call(fill, depth, *arguments)
            contest.analyze()
    return contests


def _depth_table(run: Run, contests: dict[int, Contest], name: str) -> Table:
    selectors, paused = DEPTH_CASES[name]
    for contest in contests.values():
        contest.call("pause", HELD, paused)
    cases = {f"{depth:,} ready": _timing(each, selectors) for depth, each in contests.items()}
    rows = alternate(run, f"claim-depth, {name}", cases)
    title = f"claim-depth, {run.server.name}, {name}"
    return Table(title, "ms per claim of 50", rows, (_compared(rows),))


def _compared(rows: Sequence[Row]) -> str:
    times = rows[-1].median / rows[0].median
    return (
        f"{rows[-1].label} takes {times:.2f} × the time of {rows[0].label} "
        f"(to reach: at most {MOST_TIMES})."
    )


def _timing(contest: Contest, selectors: Sequence[str]) -> Callable[[], float]:
    return lambda: median(contest.call("claim_seconds", selectors, LIMIT, REPEATS)) * 1_000


def _dispatching(contest: Contest) -> Callable[[], float]:
    return lambda: median(contest.call("dispatch_seconds", LIMIT, FEW_REPEATS)) * 1_000


def _claim_all(run: Run, count: int, selectors: Sequence[str]) -> float:
    with run.contest(run.ours()) as contest:
        contest.call("fill", count, QUEUES, [0] * len(QUEUES), "noop")
        contest.analyze()
        return contest.call("claim_rate", selectors, LIMIT)
