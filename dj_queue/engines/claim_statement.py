"""PostgreSQL's claim as one statement: what each selector picks, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from dj_queue.engines.sql import readable_columns, table
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
PICK_EXACT = f"""p{{part}} AS MATERIALIZED (
    SELECT best.spot FROM (
        SELECT best.spot FROM unnest(%(names{{part}})s::varchar[]) WITH ORDINALITY AS q(name, place)
        CROSS JOIN LATERAL (
            SELECT e.ctid AS spot FROM {table(ReadyExecution)} e
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
# LIMIT asks for them; twice as many are looked at, in case another claim holds the first. Should
# others hold all of these, PICK_LEFT follows.
PICK_MATCHING = f"""p{{part}} AS MATERIALIZED (
    SELECT best.spot FROM (
        SELECT locked.spot FROM (
            SELECT best.spot FROM unnest(ARRAY(SELECT queue.name FROM queue)) AS q(name)
            CROSS JOIN LATERAL (
                SELECT e.ctid AS spot, e.job_id, e.priority
                FROM {table(ReadyExecution)} e WHERE {{queue}}
                ORDER BY e.queue_name, e.priority DESC, e.job_id LIMIT 2 * %(limit)s
            ) best
            WHERE {{matching}}
            AND NOT EXISTS (SELECT FROM {table(Pause)} p WHERE p.queue_name = q.name)
            ORDER BY best.priority DESC, best.job_id
        ) best CROSS JOIN LATERAL (
            SELECT e.ctid AS spot FROM {table(ReadyExecution)} e WHERE e.ctid = best.spot
            FOR UPDATE {{skip}}
        ) locked LIMIT %(limit)s
    ) best LIMIT {{left}}
)"""
# What is left of the limit, from one queue after the other: the one with the best row behind those
# that PICK_MATCHING looked at. A transaction does not skip its own locks, so what it has is left
# out.
PICK_LEFT = f"""p{{part}} AS MATERIALIZED (
    SELECT best.spot FROM (
        SELECT best.spot FROM (
            SELECT q.name FROM unnest(ARRAY(SELECT queue.name FROM queue)) AS q(name)
            WHERE {{matching}}
            AND NOT EXISTS (SELECT FROM {table(Pause)} p WHERE p.queue_name = q.name)
            ORDER BY (
                SELECT e.priority FROM {table(ReadyExecution)} e WHERE {{queue}}
                ORDER BY e.queue_name, e.priority DESC, e.job_id LIMIT 1 OFFSET 2 * %(limit)s
            ) DESC NULLS LAST
        ) q CROSS JOIN LATERAL (
            SELECT e.ctid AS spot FROM {table(ReadyExecution)} e
            WHERE {{queue}} AND e.ctid <> ALL(ARRAY(SELECT spot FROM p{{before}}))
            ORDER BY e.queue_name, e.priority DESC, e.job_id LIMIT %(limit)s FOR UPDATE {{skip}}
        ) best LIMIT %(limit)s
    ) best LIMIT {{left}}
)"""
# Nothing is paused: straight along the index. With a pause this would step over every paused row.
# The backend is asked for twice: without statistics the planner expects a few hundred rows of it,
# and from a limit of 100 on sorts them all; so it expects next to none, which need no sort.
PICK_ANY = f"""p{{part}} AS MATERIALIZED (
    SELECT best.spot FROM (
        SELECT q.ctid AS spot FROM {table(ReadyExecution)} q
        WHERE q.backend = %(backend)s AND q.backend >= %(backend)s AND q.backend <= %(backend)s
        AND {{matching}} AND NOT EXISTS (SELECT FROM {table(Pause)})
        ORDER BY q.priority DESC, q.job_id LIMIT %(limit)s FOR UPDATE {{skip}}
    ) best LIMIT {{left}}
)"""

# A queue that is just drained may be known to the statistics as empty, and the planner believes so
# for a while: any index then seems as good as another, and a join as good in any order. So rows are
# found again where they lie (ctid: they are locked, and a ready row is never updated), and OFFSET
# keeps the look at jobs behind what was taken. The order is told by the selectors, not by a join.
CLAIM = f"""
WITH RECURSIVE {{parts}}, picked AS ({{union}}), taken AS (
    DELETE FROM {table(ReadyExecution)} WHERE ctid = ANY(ARRAY(SELECT spot FROM picked))
    RETURNING job_id, backend, queue_name, priority, attempt
), claimed AS (
    INSERT INTO {table(ClaimedExecution)}
        (job_id, backend, queue_name, priority, attempt, process_id, claim_token, claimed_at)
    SELECT job_id, backend, queue_name, priority, attempt,
        %(process_id)s, %(token)s, %(now)s FROM taken
)
SELECT {readable_columns(Job, "j.")}, taken.attempt FROM taken CROSS JOIN LATERAL (
    SELECT * FROM {table(Job)} WHERE id = taken.job_id OFFSET 0
) j
"""


@lru_cache(maxsize=64)
def claim_statement(selectors: tuple[str, ...], skip_locked: bool) -> tuple[str, dict[str, Any]]:
    """Return the statement for these selectors, and the parameters that are theirs."""
    picks: list[str] = []
    params: dict[str, Any] = {}
    earlier: list[str] = []

    def pick(template: str, *matching: str, name: str = "q.name") -> None:
        # Each takes what the ones before it left of the limit.
        taken = "".join(f" - (SELECT count(*) FROM p{part})" for part in range(len(picks)))
        others = [f"NOT {each}" for each in earlier]
        picks.append(
            template.format(
                part=len(picks),
                before=len(picks) - 1,
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
            for template in (PICK_MATCHING, PICK_LEFT):
                pick(template, f"EXISTS (SELECT FROM {table(Pause)})")
        else:
            params[f"prefix{key}"] = run[0][:-1]
            own = f"starts_with({{name}}, %(prefix{key})s)"
            pick(PICK_MATCHING, own)
            pick(PICK_LEFT, own)
            earlier.append(own)
    union = " UNION ALL ".join(f"SELECT spot FROM p{i}" for i in range(len(picks)))
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
