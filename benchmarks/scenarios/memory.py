"""memory: what a worker process holds over a million jobs, and many that fail. Ours only."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.contest import Contest
from benchmarks.figures import Row, Table
from benchmarks.rounds import Run

JOBS = 1_000_000
FAILING_JOBS = 10_000
SLICE = 50_000
SAMPLES = 10
STALL_SECONDS = 60
MOST_GROWTH = 1.05
"""The end may hold so many times what the half did: by then the heap has found its size."""


def memory(run: Run) -> list[Table]:
    """Run no-op jobs, then failing ones, in one worker process; read its resident memory."""
    count = run.jobs or JOBS
    failing = max(SAMPLES, count * FAILING_JOBS // JOBS)
    with run.contest(run.ours(), clear_finished_jobs_after=None) as contest:
        contest.start_workers(1)
        noop = _sample(run, contest, "noop", count, "finished")
        fail = _sample(run, contest, "fail", failing, "failed")
    for label, found in (("no-op", noop), ("failing", fail)):
        half = found[SAMPLES // 2 - 1]
        if found[-1] > MOST_GROWTH * half:
            run.failures.append(
                f"memory: {label}: expected at most {MOST_GROWTH} x {half:.1f} MB at the end, "
                f"got {found[-1]:.1f} MB"
            )
    rows = [
        Row(f"{total * number // SAMPLES:,} {label}", (each,))
        for label, total, found in (("no-op jobs", count, noop), ("failing jobs", failing, fail))
        for number, each in enumerate(found, 1)
    ]
    title = f"memory of one worker process, {run.server.name}"
    return [Table(title, "MB resident", tuple(rows))]


def _sample(run: Run, contest: Contest, task: str, count: int, state: str) -> list[float]:
    """Give the worker's memory after each tenth of the jobs."""
    found: list[float] = []
    with run.progress.count(f"memory, {task}", count) as tell:
        for number in range(1, SAMPLES + 1):
            target = count * number // SAMPLES
            _fill(contest, task, target - count * (number - 1) // SAMPLES)
            _wait(contest, state, target, tell)
            found.append(_megabytes(contest))
    return found


def _fill(contest: Contest, task: str, count: int) -> None:
    while count > 0:
        part = min(SLICE, count)
        contest.call("fill", part, ["default"], [0], task)
        count -= part


def _wait(contest: Contest, state: str, target: int, tell) -> None:
    done, changed = -1, time.monotonic()
    while done < target:
        contest.check_workers()
        now_done = contest.call("count", state)
        if now_done != done:
            done, changed = now_done, time.monotonic()
            tell(done)
        if time.monotonic() - changed > STALL_SECONDS:
            raise RuntimeError(f"expected {target:,} jobs to be {state}, got stuck at {done:,}")
        time.sleep(0.2)


def _megabytes(contest: Contest) -> float:
    """Read the resident memory of the worker, the supervisor's child whose title says so."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            command = (status.parent / "cmdline").read_bytes().replace(b"\0", b" ")
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except (FileNotFoundError, ProcessLookupError):
            continue
        parent = int(lines["PPid"])
        if command.startswith(b"dj_queue: worker") and parent in contest.worker_ids:
            return int(lines["VmRSS"].split()[0]) / 1024
    raise RuntimeError("expected a worker process under the supervisor, got none in /proc")
