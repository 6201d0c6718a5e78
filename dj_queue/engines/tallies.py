"""How many jobs each queue holds, at a cost that their number does not decide.

Queue names are skipped through by index instead of grouped by, and counting ends at a cap: a
million finished jobs cost what ten thousand do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dj_queue.engines import engine_for
from dj_queue.engines.sql import table
from dj_queue.models import (
    STATES,
    ClaimedExecution,
    Execution,
    FinishedExecution,
    Job,
    ReadyExecution,
)
from dj_queue.routers import Database, QueueDatabase

SKIPPING = tuple(state for state in STATES if state is not ClaimedExecution)
"""The states with an index by queue and backend; few jobs are ever claimed."""


@dataclass(frozen=True, order=True)
class Count:
    """How many there are; when `is_capped`, there are more than that."""

    value: int = 0
    is_capped: bool = False

    def __str__(self) -> str:
        return f"{self.value:,}+" if self.is_capped else f"{self.value:,}"

    def __bool__(self) -> bool:
        return self.value > 0

    def __add__(self, other: Count) -> Count:
        return Count(self.value + other.value, self.is_capped or other.is_capped)

    @classmethod
    def up_to(cls, cap: int, found: int) -> Count:
        """Take what was counted among the first `cap` + 1."""
        return cls(min(found, cap), found > cap)


def queues_by_state(
    db: QueueDatabase, states: Sequence[type[Execution]] = STATES
) -> dict[str, list[str]]:
    """Return the names of the backend's queues that have jobs, for each state. One statement."""
    parts = [
        f"SELECT '{state.state}' AS state, name FROM ({_names(db, state)}) n WHERE EXISTS "
        f"(SELECT 1 FROM {table(state)} t WHERE t.queue_name = n.name AND t.backend = %(backend)s)"
        for state in SKIPPING
        if state in states
    ]
    if ClaimedExecution in states:
        parts.append(
            f"SELECT DISTINCT '{ClaimedExecution.state}', queue_name "
            f"FROM {table(ClaimedExecution)} WHERE backend = %(backend)s"
        )
    found: dict[str, list[str]] = {state.state: [] for state in STATES}
    for state, name in _rows(db, " UNION ALL ".join(parts)):
        found[state].append(name)
    return found


def tallies(
    db: QueueDatabase, cap_of: Callable[[type[Execution], int], int]
) -> dict[str, dict[str, Count]]:
    """Count a backend's jobs by state and queue; `cap_of` takes a state and its number of queues.

    At most a statement for each state and one more; a queue without jobs in a state is left out.
    """
    skips = engine_for(db).skips_by_recursion
    # What is grouped anyway need not be asked for its names first.
    named = STATES if skips else (FinishedExecution,)
    names = queues_by_state(db, named)
    counts: dict[str, dict[str, Count]] = {state.state: {} for state in STATES}
    for state in STATES:
        if state not in named:
            counts[state.state] = tally(db, state, cap=cap_of(state, 1))
        elif names[state.state]:
            cap = cap_of(state, len(names[state.state]))
            counts[state.state] = tally(db, state, cap=cap)
    return counts


def tally(db: QueueDatabase, state: type[Execution], *, cap: int) -> dict[str, Count]:
    """Count a backend's jobs in one state by queue, each queue up to `cap`. One statement."""
    skips = engine_for(db).skips_by_recursion
    own = f"FROM {table(state)} t WHERE t.backend = %(backend)s"
    if state not in SKIPPING or not (skips or state is FinishedExecution):
        sql = f"SELECT t.queue_name, COUNT(*) {own} GROUP BY t.queue_name"
        return {name: Count.up_to(cap, found) for name, found in _rows(db, sql)}
    own += " AND t.queue_name = n.name"
    if not skips:
        # Below the cap twice the work, so only where there may be ever so many.
        count = f"COALESCE((SELECT {cap + 1} {own} LIMIT 1 OFFSET {cap}), (SELECT COUNT(*) {own}))"
    elif state is FinishedExecution:
        count = f"(SELECT COUNT(*) FROM ({_first_finished(cap + 1)}) AS first)"
    else:
        count = f"(SELECT COUNT(*) FROM (SELECT 1 {own} LIMIT {cap + 1}) AS first)"
    found = _rows(db, f"SELECT n.name, {count} FROM ({_names(db, state)}) n")
    return {name: Count.up_to(cap, count) for name, count in found if count}


def _first_finished(limit: int) -> str:
    """Return the query for a row for each of the first finished jobs of the queue `n.name`."""
    key, value = "(t.queue_name, t.backend)", "(n.name, %(backend)s)"
    # A range in the index's order: for an equality PostgreSQL reads the table (15, before it is
    # vacuumed), expecting to meet so many of the queue soon.
    return f"""SELECT 1 FROM {table(FinishedExecution)} t
        WHERE {key} >= {value} AND {key} <= {value}
        ORDER BY t.queue_name, t.backend LIMIT {limit}"""


def longest_waiting(db: QueueDatabase) -> list[Job]:
    """Return the first ready job of each queue and priority, with its times. Two statements.

    Only `queue_name`, `enqueued_at` and `run_after` are loaded.
    """
    # Not joined: how many heads there are PostgreSQL can only guess, and it read all jobs to
    # hash them (15, without statistics).
    ids = [job_id for (job_id,) in _rows(db, _heads(db))]
    times = db.objects(Job).only("queue_name", "enqueued_at", "run_after")
    return list(times.filter(pk__in=ids)) if ids else []


def _names(db: Database, state: type[Execution]) -> str:
    """Return the query for the names of the queues that have jobs in a state.

    Where the index begins with the queue, siblings' names may be among them.
    """
    rows = table(state)
    if not engine_for(db).skips_by_recursion:
        # MySQL and MariaDB skip for all columns that the index begins with, and with no condition
        # on the second of them. Of ready jobs MariaDB reads the index all the same.
        columns = "backend, queue_name" if state is ReadyExecution else "queue_name, backend"
        return f"""SELECT q.queue_name AS name FROM (SELECT DISTINCT {columns} FROM {rows}) q
            WHERE CONCAT(q.backend, '') = %(backend)s"""
    own = "t.backend = %(backend)s AND" if state is ReadyExecution else ""
    first = f"SELECT t.queue_name FROM {rows} t WHERE {own} t.queue_name > {{}}"
    first += " ORDER BY t.queue_name LIMIT 1"
    return f"""WITH RECURSIVE step(name) AS (
            SELECT ({first.format("''")})
            UNION ALL
            SELECT ({first.format("step.name")}) FROM step WHERE step.name IS NOT NULL)
        SELECT name FROM step WHERE name IS NOT NULL"""


def _heads(db: Database) -> str:
    """Return the query for the first ready job of each queue and priority."""
    own = f"FROM {table(ReadyExecution)} t WHERE t.backend = %(backend)s"
    if not engine_for(db).skips_by_recursion:
        # In the index's own order, for which MariaDB groups without a temporary table.
        return f"""SELECT MIN(t.job_id) {own} GROUP BY t.queue_name, t.priority
            ORDER BY t.queue_name, t.priority DESC"""
    best = f"SELECT t.priority {own} AND t.queue_name = {{0}}.name {{1}}"
    best += " ORDER BY t.priority DESC LIMIT 1"
    below = best.format("level", "AND t.priority < level.priority")
    return f"""WITH RECURSIVE level(name, priority) AS (
            SELECT n.name, ({best.format("n", "")}) FROM ({_names(db, ReadyExecution)}) n
            UNION ALL
            SELECT level.name, ({below}) FROM level WHERE level.priority IS NOT NULL)
        SELECT (SELECT t.job_id {own} AND t.queue_name = level.name
            AND t.priority = level.priority ORDER BY t.job_id LIMIT 1) AS job_id
        FROM level WHERE level.priority IS NOT NULL"""


def _rows(db: QueueDatabase, sql: str) -> list[Any]:
    with db.cursor() as cursor:
        cursor.execute(sql, {"backend": db.backend})
        return list(cursor.fetchall())
