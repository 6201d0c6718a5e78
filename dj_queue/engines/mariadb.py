"""MariaDB 10.6+: as MySQL, with DELETE … RETURNING."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from dj_queue.engines.base import Server
from dj_queue.engines.mysql import BY_PRIMARY_KEY, OWN, MySQLEngine
from dj_queue.engines.sql import columns, marks, prepared, table
from dj_queue.models import ClaimedExecution, ReadyExecution, State
from dj_queue.routers import QueueDatabase

NEXT_QUEUE = f"""
    SELECT MIN(queue_name) FROM {table(ReadyExecution)} WHERE backend = %s AND queue_name > %s
"""


class MariaDBEngine(MySQLEngine):
    """MySQL's engine, taking rows in one statement instead of two."""

    name = "MariaDB"
    isolation_variable = "tx_isolation"  # transaction_isolation only since 11.1
    oldest = (10, 6)

    def unfit(self, server: Server) -> str | None:
        # Between these its uuid type sorted bytes in another order: id order was not age.
        if (10, 7) <= server.version < (10, 11, 5):
            return f"expected MariaDB 10.11.5 or later, or 10.6, got {server}: ids sort wrongly"
        return super().unfit(server)

    def take(
        self,
        db: QueueDatabase,
        state: type[State],
        ids: Sequence[UUID],
        tokens: Sequence[UUID] | None = None,
    ) -> list[State]:
        if not ids:
            return []
        held = prepared(db, state, "job", ids)
        where, params = f"job_id IN ({marks(len(held))}) AND {OWN}", [*held, db.backend]
        if tokens is not None:
            pairs = ", ".join(["(%s, %s)"] * len(held))
            # The first condition finds the rows by primary key: MariaDB does not use an index
            # for a comparison of pairs.
            where += f" AND (job_id, claim_token) IN ({pairs})"
            held_tokens = prepared(db, ClaimedExecution, "claim_token", tokens)
            for pair in zip(held, held_tokens, strict=True):
                params += pair
        sql = (
            f"DELETE FROM {table(state)} WHERE {where} {BY_PRIMARY_KEY} RETURNING {columns(state)}"
        )
        return list(db.objects(state).raw(sql, [*params, len(ids)]))

    def _ready_queues(self, db: QueueDatabase) -> list[str]:
        # Up to 11.8 it reads every row for a DISTINCT, and for a recursive query as well. This is
        # asked only where a queue is paused or a selector is a prefix.
        names: list[str] = []
        with db.cursor() as cursor:
            while True:
                cursor.execute(NEXT_QUEUE, [db.backend, names[-1] if names else ""])
                [name] = cursor.fetchone()
                if name is None:
                    return names
                names.append(name)
