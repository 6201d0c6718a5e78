"""dashboard: pages of the dashboard over a queue with a long past. Ours only."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from statistics import median

from benchmarks.contest import Contest
from benchmarks.figures import Table
from benchmarks.rounds import Run, alternate

FINISHED = 1_000_000
REPEATS = 5
MOST_MILLISECONDS = 300
PAGES = {
    "overview": "",
    "queue page, ready": "queues/queue07/ready/",
    "queue page, failed": "queues/queue07/failed/",
    "queue page, finished": "queues/queue07/finished/",
    "queue page, finished, sorted by its end": "queues/queue07/finished/?jobs_sort=-3",
    "search in failed jobs by argument": "jobs/?state=failed&text=order-77",
    "search in all jobs by argument, found": "jobs/?text=order-77",
    "search in all jobs by error, found nowhere": "jobs/?text=nowhere",
    "raw rows of failed jobs": "rows/failed/",
    "raw rows of jobs": "rows/jobs/",
}


def dashboard(run: Run) -> list[Table]:
    """Time pages over so many finished jobs (`--jobs`), a tenth as many ready and failed ones.

    A sample is the median of five requests.
    """
    count = run.jobs or FINISHED
    parts = {"finished": count, "ready": count // 10, "failed": count // 10}
    with run.contest(replace(run.ours(), module="pages")) as contest:
        with run.progress.steps("dashboard", len(parts)) as step:
            for state, number in parts.items():
                step(f"store {number:,} {state} jobs")
                contest.call("past", state, number)
        contest.analyze()
        cases = {label: partial(_milliseconds, contest, path) for label, path in PAGES.items()}
        rows = alternate(run, "dashboard", cases)
    slow = [row.label for row in rows if row.median > MOST_MILLISECONDS]
    remark = f"To reach: {MOST_MILLISECONDS} ms. Slower: {', '.join(slow) or 'none'}."
    title = f"dashboard, {run.server.name}, " + ", ".join(
        f"{number:,} {state}" for state, number in parts.items()
    )
    return [Table(title, "ms", rows, (remark,))]


def _milliseconds(contest: Contest, path: str) -> float:
    return median(contest.call("page_seconds", path, REPEATS)) * 1_000
