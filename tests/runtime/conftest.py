"""What the tests of workers share."""

from typing import Any

import pytest

from dj_queue.models import ClaimedExecution
from dj_queue.operations.claim import claim
from dj_queue.runtime import ledger_files, outage


@pytest.fixture(autouse=True)
def no_outage_before() -> None:
    """Forget the outages of other tests: one soon after another is treated in another way."""
    memory = outage._outages._memory
    memory[:] = bytes(len(memory))


@pytest.fixture(autouse=True)
def ledgers(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep this process's ledgers out of the machine's shared memory, where they would stay."""
    monkeypatch.setattr(ledger_files, "SHARED_MEMORY", tmp_path_factory.getbasetemp())


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the limits of the claims that workers ask for."""
    limits: list[int] = []

    def counted(*args: Any, limit: int, **kwargs: Any) -> list[ClaimedExecution]:
        limits.append(limit)
        return claim(*args, limit=limit, **kwargs)

    monkeypatch.setattr("dj_queue.runtime.worker.claim", counted)
    return limits
