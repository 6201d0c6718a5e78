"""MariaDB 10.6+: as MySQL, with DELETE … RETURNING."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from dj_queue.engines.base import Server, State
from dj_queue.engines.mysql import BY_PRIMARY_KEY, OWN, MySQLEngine
from dj_queue.engines.sql import columns, prepared, table
from dj_queue.models import ClaimedExecution
from dj_queue.routers import QueueDatabase


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
        held = [prepared(db, state, "job", each) for each in ids]
        listed = ", ".join(["%s"] * len(held))
        where, params = f"job_id IN ({listed}) AND {OWN}", [*held, db.backend]
        if tokens is not None:
            pairs = ", ".join(["(%s, %s)"] * len(held))
            # The first condition finds the rows by primary key: MariaDB does not use an index
            # for a comparison of pairs.
            where += f" AND (job_id, claim_token) IN ({pairs})"
            for job, token in zip(held, tokens, strict=True):
                params += [job, prepared(db, ClaimedExecution, "claim_token", token)]
        sql = (
            f"DELETE FROM {table(state)} WHERE {where} {BY_PRIMARY_KEY} RETURNING {columns(state)}"
        )
        return list(db.objects(state).raw(sql, [*params, len(ids)]))
