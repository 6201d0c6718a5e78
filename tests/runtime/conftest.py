"""What the tests of workers share."""

from typing import Any

import pytest

from dj_queue.models import ClaimedExecution
from dj_queue.operations.claim import claim
from dj_queue.runtime import outage


@pytest.fixture(autouse=True)
def no_outage_before() -> None:
    """Forget the outages of other tests: one soon after another is treated in another way."""
    memory = outage._outages._memory
    memory[:] = bytes(len(memory))


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the limits of the claims that workers ask for."""
    limits: list[int] = []

    def counted(*args: Any, limit: int, **kwargs: Any) -> list[ClaimedExecution]:
        limits.append(limit)
        return claim(*args, limit=limit, **kwargs)

    monkeypatch.setattr("dj_queue.runtime.worker.claim", counted)
    return limits
