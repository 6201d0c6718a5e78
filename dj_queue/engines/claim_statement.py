"""PostgreSQL's claim as one statement: what each selector picks, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from dj_queue.engines.sql import columns, table
from dj_queue.models import ClaimedExecution, Job, Pause, ReadyExecution

# A statement whose estimate passes jit_above_cost (100,000) is compiled first: 300 ms for a claim
# of one. So each pick has two limits, what earlier picks left and within that the whole one: of a
# limit that is not constant the planner expects a tenth of the table. And queues come as an array,
# of which it expects ten, not a hundred.

# The queue by a range and first in the order, though it is one name: with `=` the planner may walk
# the index over all queues and filter, where its statistics know of no other queue.
QUEUE = "e.backend = %(backend)s AND e.queue_name >= q.name AND e.queue_name <= q.name"

# Exact names, in their order: the outer LIMIT ends the loop at the queue that fills it, and no row
# is locked that is not taken. Of a paused name nothing is read.
PICK_EXACT = f"""p{{turn}} AS MATERIALIZED (
    SELECT {{turn}} AS turn, best.place, best.job_id FROM (
        SELECT q.place, best.job_id
        FROM unnest(%(names{{turn}})s::varchar[]) WITH ORDINALITY AS q(name, place)
        CROSS JOIN LATERAL (
            SELECT e.job_id FROM {table(ReadyExecution)} e
            WHERE {{queue}} AND NOT EXISTS (
                SELECT FROM {table(Pause)} p WHERE p.queue_name = q.name
            )
            ORDER BY e.queue_name, e.priority DESC, e.job_id LIMIT %(limit)s FOR UPDATE {{skip}}
        ) best LIMIT %(limit)s
    ) best LIMIT {{left}}
)"""
# The queues that have ready jobs, by one step through the index for each: DISTINCT would read
# every row.
QUEUES = f"""queue(name) AS (
    (SELECT min(e.queue_name) FROM {table(ReadyExecution)} e WHERE e.backend = %(backend)s)
    UNION ALL
    SELECT (
        SELECT min(e.queue_name) FROM {table(ReadyExecution)} e
        WHERE e.backend = %(backend)s AND e.queue_name > queue.name
    ) FROM queue WHERE queue.name IS NOT NULL
)"""
# The best of each queue, then the best of these. They are locked one after the other as the outer
# LIMIT asks for them; twice as many are looked at, in case another claim holds the first.
PICK_MATCHING = f"""p{{turn}} AS MATERIALIZED (
    SELECT {{turn}} AS turn, 0::bigint AS place, best.job_id FROM (
        SELECT locked.job_id FROM (
            SELECT best.job_id FROM unnest(ARRAY(SELECT queue.name FROM queue)) AS q(name)
            CROSS JOIN LATERAL (
                SELECT e.job_id, e.priority FROM {table(ReadyExecution)} e WHERE {{queue}}
                ORDER BY e.queue_name, e.priority DESC, e.job_id LIMIT 2 * %(limit)s
            ) best
            WHERE {{matching}}
            AND NOT EXISTS (SELECT FROM {table(Pause)} p WHERE p.queue_name = q.name)
            ORDER BY best.priority DESC, best.job_id
        ) best CROSS JOIN LATERAL (
            SELECT e.job_id FROM {table(ReadyExecution)} e WHERE e.job_id = best.job_id
            FOR UPDATE {{skip}}
        ) locked LIMIT %(limit)s
    ) best LIMIT {{left}}
)"""
# Nothing is paused: straight along the index. With a pause this would step over every paused row.
PICK_ANY = f"""p{{turn}} AS MATERIALIZED (
    SELECT {{turn}} AS turn, 0::bigint AS place, best.job_id FROM (
        SELECT q.job_id FROM {table(ReadyExecution)} q
        WHERE q.backend = %(backend)s AND {{matching}} AND NOT EXISTS (SELECT FROM {table(Pause)})
        ORDER BY q.priority DESC, q.job_id LIMIT %(limit)s FOR UPDATE {{skip}}
    ) best LIMIT {{left}}
)"""

# ANY(ARRAY(…)) is evaluated first and found by primary key; IN (SELECT …) may become a hash join
# over the whole table.
CLAIM = f"""
WITH RECURSIVE {{parts}}, picked AS ({{union}}), taken AS (
    DELETE FROM {table(ReadyExecution)} WHERE job_id = ANY(ARRAY(SELECT job_id FROM picked))
    RETURNING job_id, backend, queue_name, priority, attempt
), claimed AS (
    INSERT INTO {table(ClaimedExecution)}
        (job_id, backend, queue_name, priority, attempt, process_id, claim_token, claimed_at)
    SELECT job_id, backend, queue_name, priority, attempt,
        %(process_id)s, %(token)s, %(now)s FROM taken
)
SELECT {columns(Job, "j.")}, taken.attempt FROM taken JOIN picked USING (job_id) JOIN {table(Job)} j
ON j.id = taken.job_id ORDER BY picked.turn, picked.place, taken.priority DESC, taken.job_id
"""


@lru_cache(maxsize=64)
def claim_statement(selectors: tuple[str, ...], skip_locked: bool) -> tuple[str, dict[str, Any]]:
    """Return the statement for these selectors, and the parameters that are theirs."""
    picks: list[str] = []
    params: dict[str, Any] = {}
    earlier: list[str] = []

    def pick(template: str, *matching: str, name: str = "q.name") -> None:
        # Each takes what the ones before it left of the limit.
        taken = "".join(f" - (SELECT count(*) FROM p{turn})" for turn in range(len(picks)))
        others = [f"NOT {each}" for each in earlier]
        picks.append(
            template.format(
                turn=len(picks),
                queue=QUEUE,
                left=f"(SELECT %(limit)s{taken})" if taken else "%(limit)s",
                skip="SKIP LOCKED" if skip_locked else "",
                matching=" AND ".join(["TRUE", *matching, *others]).format(name=name),
            )
        )

    for run in _runs(selectors):
        key, is_exact = len(picks), not run[0].endswith("*")
        if is_exact:
            params[f"names{key}"] = list(run)
            pick(PICK_EXACT)
            earlier.append(f"{{name}} = ANY(%(names{key})s::varchar[])")
        elif run == ["*"]:
            pick(PICK_ANY, name="q.queue_name")
            pick(PICK_MATCHING, f"EXISTS (SELECT FROM {table(Pause)})")
        else:
            params[f"prefix{key}"] = run[0][:-1]
            own = f"starts_with({{name}}, %(prefix{key})s)"
            pick(PICK_MATCHING, own)
            earlier.append(own)
    union = " UNION ALL ".join(f"SELECT turn, place, job_id FROM p{i}" for i in range(len(picks)))
    queues = [QUEUES] if any(each.endswith("*") for each in selectors) else []
    return CLAIM.format(parts=", ".join([*queues, *picks]), union=union), params


def _runs(selectors: Sequence[str]) -> list[list[str]]:
    """Put exact names that follow each other together; any other selector stands alone."""
    runs: list[list[str]] = []
    for selector in selectors:
        if runs and not selector.endswith("*") and not runs[-1][0].endswith("*"):
            runs[-1].append(selector)
        else:
            runs.append([selector])
    return runs
