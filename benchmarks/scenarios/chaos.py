"""chaos: worker processes are killed at random, and nothing is lost. Ours only."""

from __future__ import annotations

import random
import time
from collections import Counter
from itertools import chain

from benchmarks.contest import Contest
from benchmarks.figures import Row, Table
from benchmarks.rounds import Run
from benchmarks.scenarios.correctness import STALL_SECONDS

JOBS = 50_000
PROCESSES = 4
THREADS = 3
LONGEST_PAUSE_SECONDS = 0.5
SHORTEST_PAUSE_SECONDS = 0.05
"""Kills are apart by a random time, up to the first; with fewer jobs less, down to the second."""
LEAST_KILLS = 3


def chaos(run: Run) -> list[Table]:
    """Run jobs that record themselves in four processes of one supervisor, and kill these.

    Halfway everything is killed, the supervisor too, and another one started. The jobs have one
    attempt: those that ran in a killed process fail. What does not hold is a violation, and the
    exit status is 1.
    """
    count = run.jobs or JOBS
    workers = [{"queues": "*", "processes": PROCESSES, "threads": THREADS}]
    with run.contest(run.ours(), workers=workers) as contest:
        contest.start_workers(1)
        contest.call("fill", count, ["chaos"], [0], "append_with_thread")
        killed = _kill_until_done(run, contest, count)
        contest.stop_workers()
        audit = contest.call("audit")
        left = contest.call("processes", None)
        records = [[line.split() for line in lines] for lines in contest.recorded()]
        losses = contest.call("failed")
    executed = Counter(number for number, _ in chain.from_iterable(records))
    failed, ended = audit["failed"], audit["finished"] + audit["failed"]
    more_than_once = sum(times > 1 for times in executed.values())
    # Each kill costs what ran then, one job of each thread.
    rows = (
        (Row("enqueued", (audit["jobs"],)), count),
        (Row("finished or failed", (ended,)), count),
        (Row("executed more than once", (more_than_once,)), 0),
        (Row("finished and not executed", (max(0, audit["finished"] - len(executed)),)), 0),
        (Row("not in exactly one state", (audit["astray"],)), 0),
        (Row("failed though never started", (_never_started(losses, executed),)), 0),
        (Row("failed though their task had ended", (_had_ended(losses, records),)), 0),
        (Row("processes that are still registered", (len(left),)), 0),
    )
    run.failures += [
        f"chaos: {row.label}: expected {expected}, got {row.median:g}"
        for row, expected in rows
        if row.median != expected
    ]
    if killed < LEAST_KILLS:
        run.failures.append(f"chaos: expected {LEAST_KILLS} kills at least, got {killed}")
    found = (*(row for row, _ in rows), Row("failed", (failed,)), Row("kills", (killed,)))
    title = f"chaos, {run.server.name}, {count:,} jobs, {PROCESSES} worker processes"
    return [Table(title, "count", found)]


def _never_started(losses: list[tuple[int, str]], executed: Counter[str]) -> int:
    """Count the failed jobs that no thread can have begun: more of a process than it had threads.

    One of each thread may have been about to record itself.
    """
    unrecorded = Counter(process for number, process in losses if not executed[str(number)])
    return sum(max(0, count - THREADS) for count in unrecorded.values())


def _had_ended(losses: list[tuple[int, str]], records: list[list[list[str]]]) -> int:
    """Count the failed jobs whose thread recorded another one after them.

    The last one of each thread may have been recorded, and not have ended yet.
    """
    numbers, count = {str(number) for number, _ in losses}, 0
    for lines in records:
        last = {thread: number for number, thread in lines}
        count += sum(number in numbers and last[thread] != number for number, thread in lines)
    return count


def _kill_until_done(run: Run, contest: Contest, count: int) -> int:
    """Kill a worker now and then until all jobs have ended; give how many were killed.

    Not before some job ended since the last kill: else a busy machine kills its workers before any
    of them is ready, for ever.
    """
    killed, done, changed, kill_at, done_at_kill = 0, -1, time.monotonic(), 0.0, -1
    is_second = False
    pause = max(SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS * min(1, count / JOBS))
    with run.progress.count("chaos", count) as tell:
        while done < count and time.monotonic() - changed < STALL_SECONDS:
            contest.check_workers()
            if done >= count // 2 and not is_second:
                contest.kill_workers()
                contest.start_workers(1)
                is_second = True
            if time.monotonic() >= kill_at and done > done_at_kill:
                killed += contest.call("kill_a_worker")
                done_at_kill = contest.call("ended")
                kill_at = time.monotonic() + random.uniform(0, pause)
            now_done = contest.call("ended")
            if now_done != done:
                done, changed = now_done, time.monotonic()
            tell(done)
            time.sleep(0.02)
    return killed
