"""Returns: claims that have not started, on their way back to ready by way of the finisher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from dj_queue.models import ClaimedExecution
from dj_queue.runtime.ledger import Ledger


@dataclass
class Return:
    """Claims to return, and the ledger that has them; and all claims under these tokens.

    `is_recorded` once their jobs are ready again.
    """

    rows: Sequence[ClaimedExecution]
    ledger: Ledger
    tokens: Sequence[UUID] = ()
    is_recorded: bool = False

    @property
    def count(self) -> int:
        """How much there is to do, as `pending_count` counts."""
        return len(self.rows) + len(self.tokens)
