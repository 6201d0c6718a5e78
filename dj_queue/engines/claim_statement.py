"""PostgreSQL's claim as one statement: what each selector picks, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from dj_queue.engines.sql import columns, table
from dj_queue.models import ClaimedExecution, Job, Pause, ReadyExecution

# Exact names, in their order: the outer LIMIT ends the loop at the queue that fills it, and no row
# is locked that is not taken. A paused name is one look into the table of pauses.
PICK_EXACT = f"""p{{turn}} AS MATERIALIZED (
    SELECT {{turn}} AS turn, q.place, r.job_id
    FROM unnest(%(names{{turn}})s::varchar[]) WITH ORDINALITY AS q(name, place) CROSS JOIN LATERAL (
        SELECT r.job_id FROM {table(ReadyExecution)} r
        WHERE r.backend = %(backend)s AND r.queue_name = q.name
        AND NOT EXISTS (SELECT FROM {table(Pause)} p WHERE p.queue_name = q.name)
        ORDER BY r.priority DESC, r.job_id LIMIT {{limit}} FOR UPDATE {{skip}}
    ) r LIMIT {{limit}}
)"""
# The queues that have ready jobs, by one step through the index for each: DISTINCT would read
# every row.
QUEUES = f"""queue(queue_name) AS (
    (SELECT min(r.queue_name) FROM {table(ReadyExecution)} r WHERE r.backend = %(backend)s)
    UNION ALL
    SELECT (
        SELECT min(r.queue_name) FROM {table(ReadyExecution)} r
        WHERE r.backend = %(backend)s AND r.queue_name > queue.queue_name
    ) FROM queue WHERE queue.queue_name IS NOT NULL
)"""
# The best of each queue, then the best of these. They are locked one after the other as the outer
# LIMIT asks for them; twice as many are looked at, in case another claim holds the first.
PICK_MATCHING = f"""p{{turn}} AS MATERIALIZED (
    SELECT {{turn}} AS turn, 0::bigint AS place, locked.job_id FROM (
        SELECT best.job_id FROM queue r CROSS JOIN LATERAL (
            SELECT e.job_id, e.priority FROM {table(ReadyExecution)} e
            WHERE e.backend = %(backend)s AND e.queue_name = r.queue_name
            ORDER BY e.priority DESC, e.job_id LIMIT 2 * {{limit}}
        ) best
        WHERE {{matching}} AND {{condition}}
        AND NOT EXISTS (SELECT FROM {table(Pause)} p WHERE p.queue_name = r.queue_name)
        ORDER BY best.priority DESC, best.job_id
    ) best CROSS JOIN LATERAL (
        SELECT e.job_id FROM {table(ReadyExecution)} e WHERE e.job_id = best.job_id
        FOR UPDATE {{skip}}
    ) locked LIMIT {{limit}}
)"""
# Nothing is paused: straight along the index. With a pause this would step over every paused row.
PICK_ANY = f"""p{{turn}} AS MATERIALIZED (
    SELECT {{turn}} AS turn, 0::bigint AS place, r.job_id FROM {table(ReadyExecution)} r
    WHERE r.backend = %(backend)s AND {{matching}} AND NOT EXISTS (SELECT FROM {table(Pause)})
    ORDER BY r.priority DESC, r.job_id LIMIT {{limit}} FOR UPDATE {{skip}}
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

    def pick(template: str, matching: Sequence[str] = (), condition: str = "TRUE") -> None:
        # Each takes what the ones before it left of the limit.
        left = "".join(f" - (SELECT count(*) FROM p{turn})" for turn in range(len(picks)))
        picks.append(
            template.format(
                turn=len(picks),
                limit=f"(SELECT %(limit)s::bigint{left})",
                skip="SKIP LOCKED" if skip_locked else "",
                matching=" AND ".join([*matching, *(f"NOT {each}" for each in earlier), "TRUE"]),
                condition=condition,
            )
        )

    for run in _runs(selectors):
        key, is_exact = len(picks), not run[0].endswith("*")
        if is_exact:
            params[f"names{key}"] = list(run)
            pick(PICK_EXACT)
            earlier.append(f"r.queue_name = ANY(%(names{key})s::varchar[])")
        elif run == ["*"]:
            pick(PICK_ANY)
            pick(PICK_MATCHING, condition=f"EXISTS (SELECT FROM {table(Pause)})")
        else:
            params[f"prefix{key}"] = run[0][:-1]
            own = f"starts_with(r.queue_name, %(prefix{key})s)"
            pick(PICK_MATCHING, matching=[own])
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
